"""L-GATr (arXiv:2405.14806, 2411.00446): a transformer whose features are multivectors of the space-time
algebra.

Every constituent is a four-momentum, embedded as the vector part of a multivector; a class token collects
what the head reads. Linear maps and norms act grade by grade, attention weighs by the invariant inner
product, and the geometric product makes new grades. The layers (`hepml.nn.lorentz.algebra`) have the
parametrisation of the published network, and with the same weights the same outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.lorentz import reference_vectors
from hepml.nn.lorentz.algebra import (
    GeometricMLP,
    MultivectorAttention,
    MultivectorLinear,
    MultivectorNorm,
    Multivectors,
)
from hepml.nn.lorentz.tokens import TokenGroup, jet_tokens
from hepml.packed.rectangle import Rectangle


@register(
    "lgatr",
    head_scale=0.1,
    paper="arXiv:2411.00446",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam", "time")},
)
class LGATr(Tagger):
    """Lorentz-equivariant geometric algebra transformer.

    Symmetry: permutations and SO+(1,3), reflections too without `mix_parity`; reference vectors break it
    to what leaves them in place. The published tagger (1.1 million parameters) gives the beams as one
    bivector and the time direction as a vector.

    Args:
        outputs: columns of the result.
        channels: of multivectors.
        scalars: further scalar channels.
        blocks: attention and MLP in turns.
        heads: attention heads.
        attention_ratio: channels in the attention, in units of `channels`.
        expansion: hidden channels of the MLP, in units of `channels`.
        references: names of reference vectors given as further tokens (see `hepml.nn.lorentz.REFERENCES`),
            such as `[lightlike_beam, time]`; none keeps the full Lorentz symmetry.
        features: constituent features given as scalars, such as `[charge, is_photon]`. Those that change
            under a boost break the symmetry.
        mix_parity: mix each grade with its dual, which only reflections forbid.
        scale: momenta in GeV are multiplied by it (published: 1/20). The larger, the more digits a boost
            costs.
        max_constituents: keep only so many leading constituents; None keeps all.
    """

    references: Tensor
    sharded_blocks = ("blocks",)

    def __init__(
        self,
        outputs: int = 2,
        channels: int = 16,
        scalars: int = 32,
        blocks: int = 12,
        heads: int = 8,
        attention_ratio: int = 2,
        expansion: int = 2,
        references: tuple[str, ...] = (),
        features: Sequence[str] = (),
        mix_parity: bool = True,
        scale: float = 0.03,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        self.features = feature_table.resolve(features)
        self.inputs = Inputs(self.features, max_constituents=max_constituents)
        self.scale = scale
        self.register_buffer("references", reference_vectors(references), persistent=False)
        given = 1 + len(self.references) + len(self.features)
        self.embed = MultivectorLinear(1, channels, given, scalars, mix_parity=mix_parity)
        self.blocks = nn.ModuleList(
            Block(
                channels,
                scalars,
                heads,
                attention_ratio,
                expansion,
                mix_parity=mix_parity,
                last=i == blocks - 1,
            )
            for i in range(blocks)
        )
        self.head = nn.Linear(2 * channels + scalars if mix_parity else channels + scalars, outputs)
        self.mix_parity = mix_parity

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        with torch.autocast(
            batch.device.type, enabled=False
        ):  # inner products are differences of large numbers
            tokens = jet_tokens(batch, self.references, self.scale, self.head.weight.dtype, self.features)
            pooled = tokens.jets.restore([self._pooled(group) for group in tokens], self.head.in_features)
            logits: Tensor = self.head(pooled.to(self.head.weight.dtype))
            return logits

    def _pooled(self, group: TokenGroup) -> Tensor:
        """The invariants of the class tokens of a few jets."""
        x, s = self.embed(Multivectors.of_vectors(group.vectors[..., None]), group.scalars)
        for block in self.blocks:
            x, s = block(x, s, group.where)
        scalars = (
            x.scalars if self.mix_parity else x.scalars[:, ::2]
        )  # a pseudoscalar changes its sign in a mirror
        return torch.cat((scalars, s), dim=-1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    The last one is asked for the invariants of the class tokens alone, the first of each jet.
    """

    def __init__(
        self,
        channels: int,
        scalars: int,
        heads: int,
        attention_ratio: int,
        expansion: int,
        *,
        mix_parity: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.last = last
        self.attention_norm, self.mlp_norm = (MultivectorNorm(channels, scalars) for _ in range(2))
        self.attention = MultivectorAttention(
            channels, scalars, heads, attention_ratio, mix_parity=mix_parity
        )
        self.mlp = GeometricMLP(channels, scalars, expansion, mix_parity=mix_parity, invariants_only=last)

    def forward(self, x: Multivectors, s: Tensor, where: Rectangle) -> tuple[Multivectors, Tensor]:
        """Shapes: C channels and [M, S], kept; of the last block's result only the invariants of the first of
        each jet."""
        change, further = self.attention(*self.attention_norm(x, s), where, self.last)
        if self.last:
            first = where.offsets[:-1]
            x, s = x.rows(first), s.index_select(0, first)
        x, s = x.plus(change), s + further
        change, further = self.mlp(*self.mlp_norm(x, s))
        if self.last:
            return Multivectors(x.scalars + change.scalars, x.vectors, x.bivectors), s + further
        return x.plus(change), s + further
