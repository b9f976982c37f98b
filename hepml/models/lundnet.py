"""LundNet: graph convolutions on the Lund plane of a jet (arXiv:2012.08526).

Written from the paper: nodes are the declusterings of the Cambridge/Aachen tree, each tied to its parent and
its children, and edge convolutions (arXiv:1801.07829) with shortcuts pass messages along these ties alone,
with no search for neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.trees import ORDERINGS
from hepml.errors import ConfigError, did_you_mean
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.feedforward import fused_width, grouped_head
from hepml.nn.norm import PackedBatchNorm
from hepml.representations.lund import COORDINATES, LundGraph, lund_graph


@register(
    "lundnet",
    paper="arXiv:2012.08526",
    symmetries=("permutation", "azimuthal-rotation"),
    parameters=391_724,
)
class LundNet(Tagger):
    """LundNet-5: edge convolutions on the declusterings of a jet and their Lund coordinates (ln z, ln Δ, ψ,
    ln m, ln kt); LundNet-3 has `coordinates: [ln_z, ln_delta, ln_kt]`.

    A convolution is x_i <- relu(mean_j g(θ (x_i - x_j) + φ x_j) + s(x_i)) over the neighbours j of i, g of
    batch norms and ReLUs with a linear map between each two, s linear where the width changes. The outputs of
    all convolutions are fused, averaged over the nodes and classified.

    Symmetry: permutations of the constituents and rotations about the beam; all coordinates but none of the
    jet's own direction enter, so that boosts along the beam change nothing either. A jet of fewer than two
    constituents has one node of zeros.

    Args:
        outputs: columns of the result.
        coordinates: of each declustering.
        widths: of the layers of each convolution.
        head: units of the hidden layers after the mean.
        dropout: in the head, in training.
        tree: cambridge_aachen, kt, antikt, descending_pt or random (see `hepml.data.trees`).
        wrapped: ψ by the short way round in azimuth; False for the published weights, whose ψ jumps at φ = 0.
        max_constituents: keep only so many leading constituents; None keeps all.

    Raises:
        ConfigError: an unknown coordinate or tree; names the nearest.
    """

    def __init__(
        self,
        outputs: int = 2,
        coordinates: Sequence[str] = COORDINATES,
        widths: Sequence[Sequence[int]] = ((32, 32), (32, 32), (64, 64), (64, 64), (128, 128), (128, 128)),
        head: Sequence[int] = (256,),
        dropout: float = 0.1,
        tree: str = "cambridge_aachen",
        wrapped: bool = True,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        for name in coordinates:
            if name not in COORDINATES:
                raise ConfigError(
                    f"unknown Lund coordinate '{name}'",
                    mend=did_you_mean(name, COORDINATES, noun="coordinates"),
                )
        if tree not in ORDERINGS:
            raise ConfigError(f"unknown tree '{tree}'", mend=did_you_mean(tree, ORDERINGS, noun="trees"))
        self.coordinates, self.tree, self.wrapped = tuple(coordinates), tree, wrapped
        self.inputs = Inputs(extras=(f"tree_{tree}",), max_constituents=max_constituents)
        self.bn_fts = PackedBatchNorm(len(self.coordinates))
        sizes = [len(self.coordinates), *(block[-1] for block in widths)]
        self.edge_convs = nn.ModuleList(
            TreeConvolution(before, block) for before, block in zip(sizes, widths, strict=False)
        )
        total = sum(sizes[1:])
        fused = fused_width(total)
        self.fusion_block = nn.Sequential(nn.Linear(total, fused), nn.ReLU(), PackedBatchNorm(fused))
        self.fc = grouped_head(fused, head, outputs, dropout)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        graph = lund_graph(batch, self.coordinates, wrapped=self.wrapped, tree=self.tree)
        x = self.bn_fts(graph.values)
        outputs = []
        degree = _sums(torch.ones_like(x[:, :1]).index_select(0, graph.edges[0]), graph.edges[1], len(x))
        for block in self.edge_convs:
            x = block(x, graph, degree.clamp_min(1))
            outputs.append(x)
        x = self.fusion_block(torch.cat(outputs, dim=1))
        nodes = _sums(torch.ones_like(x[:, :1]), graph.jet_of, len(batch))
        logits: Tensor = self.fc(_sums(x, graph.jet_of, len(batch)) / nodes.clamp_min(1))
        return logits


class TreeConvolution(nn.Module):
    """relu(mean_j g(θ (x_i - x_j) + φ x_j) + s(x_i)).

    Args:
        inputs: columns of x.
        widths: of the layers of g.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.theta, self.phi = (nn.Linear(inputs, first, bias=False) for _ in range(2))
        self.fcs = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.bns = nn.ModuleList(PackedBatchNorm(width) for width in widths)
        self.sc = nn.Linear(inputs, last, bias=False) if inputs != last else None
        self.sc_bn = PackedBatchNorm(last) if inputs != last else None

    def forward(self, x: Tensor, graph: LundGraph, degree: Tensor) -> Tensor:
        """Shapes: [M, C] -> [M, C']."""
        sender, receiver = graph.edges
        own = self.theta(x)
        message = own.index_select(0, receiver) + (self.phi(x) - own).index_select(0, sender)
        for i, norm in enumerate(self.bns):
            if i:
                message = self.fcs[i - 1](message)
            message = torch.relu(norm(message))
        mean = _sums(message, receiver, len(x)) / degree
        kept = x if self.sc is None or self.sc_bn is None else self.sc_bn(self.sc(x))
        return torch.relu(mean + kept)


def _sums(values: Tensor, into: Tensor, rows: int) -> Tensor:
    """Sums of the rows that go into each of so many. Shapes: [K, C], [K] -> [rows, C]."""
    return values.new_zeros((rows, values.shape[1])).index_add(0, into, values)
