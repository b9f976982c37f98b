"""ParticleNet: a dynamic graph network on the cloud of constituents (arXiv:1902.08570).

Three EdgeConv blocks, the first on nearest neighbours in (delta_eta, delta_phi), the next on nearest
neighbours in the space of learnt features; mean over constituents; a fully connected head. Outputs equal
those of weaver-core's `ParticleNet` with the same weights, for which `weaver_state_dict_to_hepml` renames a
state dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register, variant
from hepml.models.identity import Tagger
from hepml.nn.clouds import Clouds, named
from hepml.nn.edgeconv import EdgeConv
from hepml.nn.feedforward import fused_width, grouped_head
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.neighbours import nearest_neighbours
from hepml.packed.rectangular import Present
from hepml.packed.segments import segment_mean

POINTS = ("delta_eta", "delta_phi")


@register(
    "particlenet",
    paper="arXiv:1902.08570",
    symmetries=("permutation", "azimuthal-rotation"),
    parameters=366160,
)
class ParticleNet(Tagger):
    """ParticleNet: EdgeConv on dynamic k-nearest-neighbour graphs of the constituents.

    Symmetry: permutations of the constituents, rotations about the beam. Inputs: standardised constituent
    features, and delta_eta, delta_phi as the coordinates of the first neighbour search. A jet with fewer
    than k + 1 constituents has absent neighbours, whose features are zero; a jet with none has the head's
    answer to zeros.

    In evaluation the outputs are those of weaver-core's network with the same weights, but for constituents
    at the same position: there weaver takes the constituent itself for its twin, or not, as the padding
    falls; here twins are neighbours, and of those equally far the more energetic comes first. In training,
    batch norms take statistics over real constituents and their edges; weaver's also count padding, so that
    they differ wherever a batch is padded.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set: kinematic (7), kinematic_pid (13), full
            (17).
        neighbours: k of each EdgeConv block.
        widths: units of the three layers of each block, one tuple a block.
        head: units of each fully connected layer after the mean over constituents.
        dropout: in the head.
        fusion: join the results of all blocks by a linear map before the mean over constituents, as weaver
            does on request. Its width is the sum of the blocks' widths rounded down to a multiple of 128 (at
            least 128, at most 1024).
        max_constituents: keep only so many leading constituents; None keeps all.
        collections: further collections that are inputs of their own (secondary vertices), each with the
            names of its features. Constituents and collections are then embedded by themselves (batch norm,
            linear map, batch norm, ReLU) to `embedding` columns and concatenated, as in CMS's
            ParticleNet-AK4.
        embedding: columns of that embedding.
    """

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        neighbours: int = 16,
        widths: Sequence[Sequence[int]] = ((64, 64, 64), (128, 128, 128), (256, 256, 256)),
        head: Sequence[int] = (256,),
        dropout: float = 0.1,
        fusion: bool = False,
        max_constituents: int | None = None,
        collections: Mapping[str, Sequence[str]] | None = None,
        embedding: int = 32,
    ) -> None:
        super().__init__()
        self.features = feature_table.resolve(features)
        self.neighbours = neighbours
        points = tuple(name for name in POINTS if name not in self.features)
        further = named(collections)
        self.inputs = Inputs(
            self.features + points,
            four_momenta=False,
            max_constituents=max_constituents,
            collections=tuple(
                (name, (*wanted, *(p for p in POINTS if p not in wanted))) for name, wanted in further
            ),
        )
        self.clouds: Clouds | None = None
        columns = len(self.features)
        if further:
            self.clouds = Clouds(self.features, further, lambda width: _embedding(width, embedding))
            columns = embedding
        self.bn_fts = PackedBatchNorm(columns)
        sizes = [columns, *(block[-1] for block in widths)]
        self.edge_convs = nn.ModuleList(
            EdgeConv(a, block) for a, block in zip(sizes[:-1], widths, strict=True)
        )
        self.fusion_block: nn.Sequential | None = None
        last = sizes[-1]
        if fusion:
            last = fused_width(sum(sizes[1:]))
            self.fusion_block = nn.Sequential(
                nn.Linear(sum(sizes[1:]), last, bias=False), PackedBatchNorm(last), nn.ReLU()
            )
        self.fc = grouped_head(last, head, outputs, dropout)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        if self.clouds is not None:
            points = self.clouds.columns(batch, POINTS)
            batch = self.clouds(batch)
            assert batch.features is not None
            x = self.bn_fts(batch.features)
        else:
            stored = batch.select(self.inputs.features)
            names = self.inputs.features
            points = stored[:, [names.index(name) for name in POINTS]]
            x = self.bn_fts(stored[:, : len(self.features)])
        blocks, present = [], Present.of(batch.offsets)
        for i, block in enumerate(self.edge_convs):
            at, priority = (points, batch.four_momenta[:, 0]) if i == 0 else (x, None)
            near = nearest_neighbours(at, batch.offsets, self.neighbours, batch.max_count, priority)
            x = block(x, near, present)
            blocks.append(x)
        if self.fusion_block is not None:
            x = self.fusion_block(torch.cat(blocks, dim=1))
        logits: Tensor = self.fc(segment_mean(x, batch.offsets))
        return logits


def _embedding(columns: int, width: int) -> nn.Sequential:
    """The features of one collection to a common width."""
    linear = nn.Linear(columns, width, bias=False)
    return nn.Sequential(PackedBatchNorm(columns), linear, PackedBatchNorm(width), nn.ReLU())


particlenet_lite = variant(
    "particlenet_lite",
    ParticleNet,
    "ParticleNet-Lite: ParticleNet with two narrow blocks and seven neighbours, for fast inference.",
    parameters=26416,
    neighbours=7,
    widths=((32, 32, 32), (64, 64, 64)),
    head=(128,),
)


def weaver_state_dict_to_hepml(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A weaver-core ParticleNet state dict under hepml's names and shapes.

    Names are the same but for weaver's prefix `mod.` (or `module.`); 1x1 convolution kernels [C', C, 1] and
    [C', C, 1, 1] are matrices [C', C] here.
    """
    renamed = {}
    for name, value in state.items():
        for prefix in ("module.", "mod."):
            name = name.removeprefix(prefix)
        renamed[name] = value.flatten(1) if value.ndim > 2 else value
    return renamed
