"""Graph networks on any convolution of `torch_geometric`: the body of `gcn`, `gat` and `dgcnn`, and a tagger
of its own.

Constituents are joined by edges, features are embedded, each layer is one convolution with batch norm, ReLU
and a shortcut; mean and maximum over constituents go to a fully connected head. Nothing is padded: PyG's
convolutions take packed constituents as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn import kernels
from hepml.nn.convolutions import Convolution
from hepml.nn.feedforward import feedforward
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.pooling import segment_max
from hepml.packed.rectangular import mask_behind
from hepml.packed.segments import segment_mean
from hepml.representations.graph import EDGE_FEATURES, POINTS, EdgeKind, edge_features, make_edges

# Edges taken at a time on a CPU: through the whole network in evaluation, through one convolution in
# training.
_EDGES = 1 << 15
_TRAINING_EDGES = 1 << 13


@register("graph_network", paper="arXiv:1903.02428", symmetries=("permutation", "azimuthal-rotation"))
class GraphNetwork(Tagger):
    """A graph network on a named convolution of torch_geometric.nn (arXiv:1903.02428).

    Symmetry: permutations of the constituents, rotations about the beam. Inputs: standardised constituent
    features, delta_eta and delta_phi as positions, four-momenta where there are edge features. A
    constituent without neighbours keeps what the convolution makes of itself alone; a jet without
    constituents has the head's answer to zeros.

    Args:
        outputs: columns of the result.
        convolution: name of a convolution of `torch_geometric.nn`, as `SAGEConv`, `GINEConv`,
            `TransformerConv`.
        convolution_arguments: its further arguments, as `{heads: 4}`; see `hepml.nn.convolutions`.
        features: names of constituent features, or a feature set.
        widths: columns after each layer.
        edges: `knn`, `radius` or `full`, in (delta_eta, delta_phi).
        neighbours: k of `knn`.
        radius: of `radius`.
        self_loops: also join each constituent to itself.
        dynamic: search neighbours again for each layer after the first, in the space of learnt features (with
            `knn`).
        edge_columns: edge features (delta_r, ln_delta_r, ln_kt, ln_z, ln_m2), for convolutions that take any;
            empty for none.
        normalise: batch norm, ReLU and, where widths agree, a shortcut around each convolution.
        embed: columns of the linear map before the first layer; 0 for none.
        fusion: columns of a map of all layers' results together before the pooling; 0 pools the last layer's.
        head: units of each fully connected layer after the pooling.
        dropout: in the head.
        max_constituents: keep only so many leading constituents; None keeps all.
    """

    def __init__(
        self,
        outputs: int = 2,
        convolution: str = "SAGEConv",
        convolution_arguments: dict[str, Any] | None = None,
        features: str | Sequence[str] = "kinematic",
        widths: Sequence[int] = (64, 64, 64),
        edges: EdgeKind = "knn",
        neighbours: int = 16,
        radius: float = 0.2,
        self_loops: bool = False,
        dynamic: bool = False,
        edge_columns: Sequence[str] = EDGE_FEATURES,
        normalise: bool = True,
        embed: int = 64,
        fusion: int = 0,
        head: Sequence[int] = (64,),
        dropout: float = 0.1,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        if dynamic and edges != "knn":
            raise ConfigError(f"dynamic edges are nearest neighbours, not '{edges}'", mend="edges: knn")
        if not widths:
            raise ConfigError("a graph network has at least one layer", mend="widths: [64]")
        self.features = feature_table.resolve(features)
        self.edges, self.neighbours, self.radius = edges, neighbours, radius
        self.self_loops, self.dynamic, self.normalise = self_loops, dynamic, normalise
        points = tuple(name for name in POINTS if name not in self.features)
        self.bn_fts = PackedBatchNorm(len(self.features))
        last = len(self.features)
        self.embedding: nn.Linear | None = None
        if embed:
            self.embedding = nn.Linear(last, embed)
            last = embed
        columns = tuple(edge_columns)
        layers, sizes = [], []
        for width in widths:
            layers.append(Convolution(convolution, last, width, len(columns), convolution_arguments))
            last = layers[-1].outputs
            sizes.append(last)
        self.layers = nn.ModuleList(layers)
        self.edge_columns = columns if layers[0].uses_edge_features else ()
        self.bn_edges = PackedBatchNorm(len(columns)) if self.edge_columns else None
        self.norms = nn.ModuleList(PackedBatchNorm(size) for size in sizes) if normalise else None
        self.fusion_block: nn.Sequential | None = None
        if fusion:
            self.fusion_block = nn.Sequential(
                nn.Linear(sum(sizes), fusion, bias=False), PackedBatchNorm(fusion), nn.LeakyReLU(0.2)
            )
            last = fusion
        self.fc = feedforward(2 * last, head, outputs, dropout=dropout)
        self.inputs = Inputs(
            self.features + points, four_momenta=bool(self.edge_columns), max_constituents=max_constituents
        )

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        if self.training or not kernels.allows("pieces", batch.four_momenta, autocast=True):
            return self._logits(batch)
        parts = [self._logits(part) for part in self._pieces(batch)]
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def _logits(self, batch: JetBatch) -> Tensor:
        names = self.inputs.features
        stored = batch.select(names)
        points = stored[:, [names.index(name) for name in POINTS]]
        edges = make_edges(
            batch,
            self.edges,
            points=points,
            neighbours=self.neighbours,
            radius=self.radius,
            self_loops=self.self_loops,
        )
        attributes = self._attributes(batch, edges)
        x = self.bn_fts(stored[:, : len(self.features)])
        if self.embedding is not None:
            x = self.embedding(x)
        initial, outputs = x, []
        for i, layer in enumerate(self.layers):
            if i and self.dynamic:
                edges = make_edges(batch, points=x, neighbours=self.neighbours, self_loops=self.self_loops)
                attributes = self._attributes(batch, edges)
            before = x
            x = self._step(layer, batch, x, edges, attributes, points.to(x.dtype), initial)
            if self.norms is not None:
                x = torch.relu(self.norms[i](x))
                x = x + before if x.shape == before.shape else x
            outputs.append(x)
        if self.fusion_block is not None:
            x = self.fusion_block(torch.cat(outputs, dim=1))
        pooled = torch.cat((segment_mean(x, batch.offsets), segment_max(x, batch.offsets)), dim=1)
        out: Tensor = self.fc(pooled)
        return out

    def _step(
        self,
        layer: nn.Module,
        batch: JetBatch,
        x: Tensor,
        edges: Tensor,
        attributes: Tensor | None,
        points: Tensor,
        initial: Tensor,
    ) -> Tensor:
        """One convolution; on a CPU a few jets at a time, since edges join constituents of one jet and
        messages are large."""
        if mask_behind(batch.offsets) is not None:
            return self._step_in_rectangle(layer, batch, x, edges, attributes, points, initial)
        many = edges.shape[1] > _TRAINING_EDGES and kernels.allows("pieces", x, autocast=True)
        if not many or _couples_jets(layer):
            out: Tensor = layer(x, edges, attributes, points, batch.jet_of, initial)
            return out
        ends = torch.searchsorted(edges[1], batch.offsets)  # edges are sorted by target
        jets = torch.searchsorted(ends, torch.arange(_TRAINING_EDGES, edges.shape[1], _TRAINING_EDGES))
        cuts = torch.tensor([0, *jets.tolist(), len(batch)]).unique()
        bounds = zip(cuts.tolist(), batch.offsets[cuts].tolist(), ends[cuts].tolist(), strict=True)
        parts = []
        for (jet, row, edge), (_, next_row, next_edge) in pairwise(bounds):
            own, joined = slice(row, next_row), slice(edge, next_edge)
            given = None if attributes is None else attributes[joined]
            parts.append(
                layer(
                    x[own], edges[:, joined] - row, given, points[own], batch.jet_of[own] - jet, initial[own]
                )
            )
        return torch.cat(parts)

    def _step_in_rectangle(
        self,
        layer: nn.Module,
        batch: JetBatch,
        x: Tensor,
        edges: Tensor,
        attributes: Tensor | None,
        points: Tensor,
        initial: Tensor,
    ) -> Tensor:
        """The same with one row more, to which edges lead that there are not."""
        x, points, initial = (F.pad(t, (0, 0, 0, 1)) for t in (x, points, initial))
        jet_of = torch.cat((batch.jet_of, batch.offsets[-1:] // batch.max_count))
        out: Tensor = layer(x, edges, attributes, points, jet_of, initial)[:-1]
        return out

    def _attributes(self, batch: JetBatch, edges: Tensor) -> Tensor | None:
        if self.bn_edges is None:
            return None
        out: Tensor | None = self.bn_edges(edge_features(batch, edges, self.edge_columns).to(batch.dtype))
        return out

    def _pieces(self, batch: JetBatch) -> Iterator[JetBatch]:
        """The batch, a few jets at a time."""
        counts = batch.counts
        edges = counts * (counts if self.edges != "knn" else counts.clamp_max(self.neighbours + 1))
        ends = edges.cumsum(0)
        total = int(ends[-1]) if len(batch) else 0
        if total <= _EDGES:
            yield batch
            return
        jets = torch.searchsorted(ends, torch.arange(_EDGES, total, _EDGES)) + 1
        cuts = sorted({0, *jets.tolist(), len(batch)})
        names = self.inputs.features
        computed = replace(batch, features=batch.select(names), feature_names=names, raw={}, extras={})
        for low, high in pairwise(cuts):
            yield computed.slice(low, high)


def _couples_jets(layer: nn.Module) -> bool:
    """Whether a layer takes statistics over the whole batch."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in layer.modules())
