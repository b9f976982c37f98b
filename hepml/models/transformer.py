"""The plain transformer encoder on constituents, without pair features: what attention alone makes of a
jet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.attention import AttentionMaps, Block
from hepml.nn.clouds import Clouds, named
from hepml.nn.encoder import Group, Grouped, gather_maps, grouped, prepend
from hepml.nn.modes import evaluation_mode
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.rectangle import Rectangle
from hepml.packed.rectangular import mask_behind, rectangular, widened
from hepml.packed.segments import segment_mean


@register("transformer", paper="arXiv:1706.03762", symmetries=("permutation", "azimuthal-rotation"))
class Transformer(Tagger):
    """Plain transformer: pre-norm encoder blocks on constituents, no positions, pooled by a class token or a
    mean.

        y = x + drop(attention(LN(x))),   z = y + drop(W_2 drop(GELU(W_1 LN(y))))

    Symmetry: permutations of the constituents, rotations about the beam (with the kinematic features).
    Inputs: constituent features. A jet without constituents has the head's answer to the class token
    alone, or to zero.

    The default has 2.0 million parameters, as the plain transformers that the literature compares with. A
    small one is `width: 64, blocks: 4, heads: 4` (0.2 million). `attention_maps` returns what each block
    attends to.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set: kinematic (7), kinematic_pid (13), full
            (17).
        width: C of the blocks, a multiple of heads.
        heads: attention heads.
        blocks: encoder blocks.
        expansion: hidden units of a block, in units of C.
        dropout: after both branches of a block and of its hidden units.
        attention_dropout: of attention weights.
        pooling: `class`, a learnt token that attends and is attended to in every block, or `mean` over
            constituents.
        head: units of fully connected layers after the pooling.
        max_constituents: keep only so many leading constituents; None keeps all.
        collections: further collections that are inputs of their own (secondary vertices), each with the
            names of its features; each is embedded by itself, and all are one cloud from there on.
    """

    sharded_blocks = ("blocks",)

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        width: int = 128,
        heads: int = 8,
        blocks: int = 10,
        expansion: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        pooling: Literal["class", "mean"] = "class",
        head: Sequence[int] = (),
        max_constituents: int | None = None,
        collections: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.features = feature_table.resolve(features)
        further = named(collections)
        self.inputs = Inputs(
            self.features, four_momenta=False, max_constituents=max_constituents, collections=further
        )
        self.clouds: Clouds | None = None
        if further:
            self.clouds = Clouds(
                self.features, further, lambda n: nn.Sequential(PackedBatchNorm(n), nn.Linear(n, width))
            )
        else:
            self.norm_in = PackedBatchNorm(len(self.features))
            self.embed = nn.Linear(len(self.features), width)
        self.blocks = nn.ModuleList(
            Block(width, heads, expansion, dropout, attention_dropout, plain=True) for _ in range(blocks)
        )
        self.token = nn.Parameter(0.02 * torch.randn(width)) if pooling == "class" else None
        self.norm = nn.LayerNorm(width)
        layers: list[nn.Module] = [
            nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in pairwise((width, *head))
        ]
        self.fc = nn.Sequential(*layers, nn.Linear((width, *head)[-1], outputs))

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        jets, parts = self._embedded(batch)
        pooled = []
        for group, rows in zip(jets, parts, strict=True):
            h, where = self._sequence(rows, group)
            pieces = tuple(self._with_token(piece) for piece in group.pieces)
            biases = tuple(piece.key_bias(h.dtype) for piece in pieces)
            for block in self.blocks:
                h = block(h, pieces, biases)
            if self.token is not None:
                pooled.append(self.norm(h[where.offsets[:-1]]))
            else:
                pooled.append(segment_mean(self.norm(h), where.offsets))
        logits: Tensor = self.fc(jets.restore(pooled, self.norm.normalized_shape[0]))
        return logits

    @torch.no_grad()
    def attention_maps(self, batch: JetBatch) -> AttentionMaps:
        """What each block attends to, without dropout, in the order of the batch.

        Returns:
            maps with `blocks` [blocks, B, heads, P, P] between constituents, `pooling` [blocks, B, heads, 1 +
            P] of the class token (column 0 is the token itself; None where pooling is the mean) and `mask`
            [B, P]; P is the count of the largest jet. See `hepml.nn.attention.AttentionMaps`.
        """
        with evaluation_mode(self):
            jets, parts = self._embedded(batch)
            maps: list[tuple[Tensor, Tensor | None]] = []
            for group, rows in zip(jets, parts, strict=True):
                h, where = self._sequence(rows, group)
                bias, layers = where.key_bias(h.dtype), []
                for block in self.blocks:
                    layers.append(block.weights(h, where, bias))  # type: ignore[operator]
                    h = block(h, (where,), (bias,))
                weights = torch.stack(layers)
                maps.append(
                    (weights, None) if self.token is None else (weights[..., 1:, 1:], weights[..., 0, :])
                )
        return gather_maps(jets, maps)

    def _embedded(self, batch: JetBatch) -> tuple[Grouped, Sequence[Tensor]]:
        """The sorted jets, and the embedded constituents [n, C] of each group."""
        if self.clouds is not None:
            jets = grouped(self.clouds(batch))
            assert jets.batch.features is not None
            return jets, jets.batch.features.split([group.rows for group in jets])
        jets = grouped(batch)
        x = self.embed(self.norm_in(jets.batch.select(self.features)))
        return jets, x.split([group.rows for group in jets])

    def _sequence(self, rows: Tensor, group: Group) -> tuple[Tensor, Rectangle]:
        """The rows of a group, each jet's class token before its constituents, and their rectangle."""
        if self.token is not None:
            rows = prepend(self.token, rows, group.where.offsets)
        return rows, self._with_token(group.where)

    def _with_token(self, where: Rectangle) -> Rectangle:
        """The rectangle where each jet's class token stands before its constituents."""
        if self.token is None:
            return where
        mask = mask_behind(where.offsets)
        if mask is not None:
            return Rectangle.of(rectangular(widened(mask, 1)), where.width + 1)
        longer = where.offsets + torch.arange(len(where.offsets), device=where.offsets.device)
        return Rectangle.of(longer, where.width + 1, len(where.rows) + where.jets)
