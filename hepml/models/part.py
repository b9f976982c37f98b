"""Particle Transformer: attention among constituents, biased by what is known of each pair
(arXiv:2202.03772)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.attention import AttentionMaps, Block
from hepml.nn.clouds import Clouds, named
from hepml.nn.encoder import Group, Grouped, gather_maps, grouped
from hepml.nn.modes import evaluation_mode
from hepml.nn.norm import PackedBatchNorm
from hepml.nn.pair_embedding import PairEmbedding, pair_bias
from hepml.packed.pair_features import PAIR_FEATURES, pair_features
from hepml.packed.pairs import SymmetricPairs


@register(
    "part",
    head_scale=0.1,
    paper="arXiv:2202.03772",
    symmetries=("permutation", "azimuthal-rotation"),
    parameters=2_141_134,
)
class ParticleTransformer(Tagger):
    """Particle Transformer: self-attention with pair features as additive bias, then class attention.

        U_ij = embedding(ln kT_ij, ln z_ij, ln dR_ij, ln m2_ij),   P-MHA = softmax(Q K^T / sqrt(d) + U) V

    Symmetry: permutations of the constituents, rotations about the beam. Inputs: constituent features and
    four-momenta. A jet without constituents has the head's answer to the class token alone.

    U is computed once, for real pairs, each once since it is symmetric, and serves all blocks. In evaluation
    the outputs are those of weaver-core's network with the same weights. In training, the statistics of the
    first batch norm are those of real constituents, where weaver's also count padding; its trimmer, which
    drops random constituents of the longest jets, is not part of this network. `attention_maps` returns what
    each block attends to.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set: kinematic (7), kinematic_pid (13), full
            (17).
        embedding: units of the layers that embed a constituent; the last is the width C of the blocks.
        pair_embedding: units of the layers that embed a pair, before the last, which has one for each head.
        heads: attention heads.
        blocks: blocks of self-attention.
        class_blocks: blocks of class attention.
        expansion: hidden units of a block, in units of C.
        dropout: in the self-attention blocks; class attention has none.
        attention_dropout: of attention weights, there.
        pair_activation: whether pairs pass a GELU last. The published networks do, weaver's default is not
            to.
        rounded_masses: take masses below what float32 resolves as rounding gave them, not as zero: weights
            that weaver trained have seen no others. In float32 the network then follows rotations about the
            beam only as well as rounding does.
        head: units of fully connected layers after the class token.
        max_constituents: keep only so many leading constituents; None keeps all.
        collections: further collections that are inputs of their own (secondary vertices), each with the
            names of its features; each is embedded by itself, and all are one cloud from there on.
    """

    sharded_blocks = ("blocks",)

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        embedding: Sequence[int] = (128, 512, 128),
        pair_embedding: Sequence[int] = (64, 64, 64),
        heads: int = 8,
        blocks: int = 8,
        class_blocks: int = 2,
        expansion: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        pair_activation: bool = True,
        rounded_masses: bool = False,
        head: Sequence[int] = (),
        max_constituents: int | None = None,
        collections: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.features = feature_table.resolve(features)
        self.rounded_masses = rounded_masses
        further = named(collections)
        self.inputs = Inputs(self.features, max_constituents=max_constituents, collections=further)
        width = embedding[-1]
        self.embed: Embedding | Clouds = (
            Clouds(self.features, further, lambda columns: Embedding(columns, embedding))
            if further
            else Embedding(len(self.features), embedding)
        )
        self.pair_embed = PairEmbedding(len(PAIR_FEATURES), (*pair_embedding, heads), pair_activation)
        self.blocks = nn.ModuleList(
            Block(width, heads, expansion, dropout, attention_dropout) for _ in range(blocks)
        )
        self.cls_blocks = nn.ModuleList(Block(width, heads, expansion, 0.0, 0.0) for _ in range(class_blocks))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.norm = nn.LayerNorm(width)
        layers: list[nn.Module] = [
            nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise((width, *head))
        ]
        self.fc = nn.Sequential(*layers, nn.Linear((width, *head)[-1], outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialises maps outside of the pair embedding as the published code does: Xavier, with the ends of
        both branches of block l over sqrt(2 l)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("pair_embed"):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
                if name.endswith("in_proj"):  # three square maps
                    bound = math.sqrt(3 / module.in_features)
                    nn.init.uniform_(module.weight, -bound, bound)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        with torch.no_grad():
            for number, block in enumerate(self.blocks, start=1):
                assert isinstance(block, Block)
                block.attn.out_proj.weight.div_(math.sqrt(2 * number))
                block.fc2.weight.div_(math.sqrt(2 * number))

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        jets, rows, biases = self._embedded(batch)
        tokens = []
        for group, h, own in zip(jets, rows, biases, strict=True):
            for block in self.blocks:
                h = block(h, group.pieces, own)
            token = self._token(group)
            for block in self.cls_blocks:
                token, _ = block.pool(token, h, group.where)  # type: ignore[operator]
            tokens.append(token)
        logits: Tensor = self.fc(self.norm(jets.restore(tokens, self.norm.normalized_shape[0])))
        return logits

    @torch.no_grad()
    def attention_maps(self, batch: JetBatch) -> AttentionMaps:
        """What each block attends to, without dropout, in the order of the batch.

        Returns:
            maps with `blocks` [blocks, B, heads, P, P], `pooling` [class_blocks, B, heads, 1 + P] (column 0
            is the class token itself) and `mask` [B, P]; P is the count of the largest jet. See
            `hepml.nn.attention.AttentionMaps`.
        """
        with evaluation_mode(self):
            jets, rows, biases = self._embedded(batch, whole=True)
            parts: list[tuple[Tensor, Tensor | None]] = []
            for group, h, own in zip(jets, rows, biases, strict=True):
                layers, pooled = [], []
                for block in self.blocks:
                    layers.append(block.weights(h, group.where, own[0]))  # type: ignore[operator]
                    h = block(h, (group.where,), own)
                token = self._token(group)
                for block in self.cls_blocks:
                    token, shares = block.pool(token, h, group.where)  # type: ignore[operator]
                    pooled.append(shares)
                parts.append((torch.stack(layers), torch.stack(pooled)))
        return gather_maps(jets, parts)

    def _embedded(
        self, batch: JetBatch, whole: bool = False
    ) -> tuple[Grouped, Iterator[Tensor], Iterator[tuple[Tensor, ...]]]:
        """The sorted jets; for each group its embedded constituents [n, C] and the bias [b, H, P, P] of each
        of its pieces (or of the `whole` group), made when it is reached."""
        embed = self.embed
        if isinstance(embed, Clouds):
            batch = embed(batch)
        jets = grouped(batch)
        total = sum(group.pairs for group in jets)
        pairs = SymmetricPairs.of(jets.batch.offsets, jets.batch.four_momenta.shape[0], total)
        known = pair_features(jets.batch.four_momenta, pairs.i, pairs.j, self.rounded_masses)
        table = self.pair_embed(known)
        per_group = [(group.pairs,) if whole else group.pairs_of_pieces for group in jets]
        rectangles = [(group.where,) if whole else group.pieces for group in jets]
        sizes_of_pieces = [n for own in per_group for n in own]
        tables = iter((table,) if len(sizes_of_pieces) == 1 else table.split(sizes_of_pieces))
        biases = (
            tuple(pair_bias(next(tables), where.offsets, where.width) for where in own) for own in rectangles
        )
        sizes = [group.rows for group in jets]
        if isinstance(embed, Clouds):
            assert jets.batch.features is not None
            rows: Iterator[Tensor] = iter(jets.batch.features.split(sizes))
        else:
            x = embed.input_bn(jets.batch.select(self.features))
            rows = (embed.embed(part) for part in ((x,) if len(sizes) == 1 else x.split(sizes)))
        return jets, rows, biases

    def _token(self, group: Group) -> Tensor:
        return self.cls_token[0].expand(group.jets.stop - group.jets.start, -1)


class Embedding(nn.Module):
    """Batch norm of the features, then (layer norm, linear map, GELU) for each width.

    Args:
        inputs: columns.
        widths: units of each layer.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.input_bn = PackedBatchNorm(inputs)
        layers: list[nn.Module] = []
        for a, b in pairwise((inputs, *widths)):
            layers += [nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()]
        self.embed = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[ΣN, inputs] to [ΣN, widths[-1]]."""
        out: Tensor = self.embed(self.input_bn(x))
        return out


def weaver_state_dict_to_hepml(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A weaver-core ParticleTransformer state dict under hepml's names and shapes.

    Names are the same but for weaver's prefix `mod.` (or `module.`) and the attention's maps as older
    versions call them; 1x1 convolution kernels [C', C, 1] of the pair embedding are matrices [C', C] here.
    """
    renamed = {}
    for name, value in state.items():
        for prefix in ("module.", "mod."):
            name = name.removeprefix(prefix)
        name = name.replace(".in_proj_weight", ".in_proj.weight").replace(".in_proj_bias", ".in_proj.bias")
        renamed[name] = value.flatten(1) if value.ndim == 3 and name != "cls_token" else value
    return renamed
