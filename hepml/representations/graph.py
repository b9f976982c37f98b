"""Jets as graphs: which constituents are joined, what is known of a pair, and the way to `torch_geometric`
and back.

Edges are made for real constituents only, all jets at once, sorted by the constituent that receives them. A
PyG `Batch` made here shares the memory of the `JetBatch` (four-momenta, features, offsets) and can be taken
apart like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.errors import DataError, ModelError, did_you_mean
from hepml.packed.neighbours import nearest_neighbours
from hepml.packed.pair_features import PAIR_FEATURES, pair_features
from hepml.packed.pairs import OrderedPairs, members
from hepml.packed.rectangular import known_mask, mask_behind

if TYPE_CHECKING:
    from torch_geometric.data import Batch

EdgeKind = Literal["knn", "radius", "full"]
EDGE_KINDS: tuple[EdgeKind, ...] = ("knn", "radius", "full")
EDGE_FEATURES = ("delta_r", "ln_kt", "ln_z", "ln_m2")
POINTS = ("delta_eta", "delta_phi")

# Pairs looked at in one go where edges are chosen by distance.
_PAIRS = 1 << 21


def full_edges(offsets: Tensor, *, self_loops: bool = False) -> Tensor:
    """Every ordered pair of constituents of the same jet, [2, E] as (source, target).

    Args:
        offsets: [B + 1] int64, beginning at 0.
        self_loops: also join each constituent to itself.
    """
    if mask_behind(offsets) is not None:
        return _edges_of_pairs(offsets, None, 0.0, self_loops)
    if not self_loops:
        pairs = OrderedPairs.of(offsets)
        return torch.stack((pairs.sender, pairs.receiver))
    counts = offsets.diff()
    rows = int(offsets[-1])
    sizes, first = (torch.repeat_interleave(t, counts, output_size=rows) for t in (counts, offsets[:-1]))
    target, source = members(sizes, first)
    return torch.stack((source, target))


def radius_edges(points: Tensor, offsets: Tensor, radius: float, *, self_loops: bool = False) -> Tensor:
    """Ordered pairs of constituents of the same jet that are at most `radius` apart, [2, E] as (source,
    target).

    Args:
        points: [ΣN, D].
        offsets: [B + 1] int64, beginning at 0.
        radius: largest distance.
        self_loops: also join each constituent to itself.
    """
    points = points.detach()
    if mask_behind(offsets) is not None:
        return _edges_of_pairs(offsets, points, radius, self_loops)
    squares = offsets.diff().square().cumsum(0)
    total = int(squares[-1]) if len(squares) else 0
    limits = torch.arange(_PAIRS, max(total, _PAIRS), _PAIRS, device=offsets.device)
    cuts = sorted({0, *(torch.searchsorted(squares, limits) + 1).tolist(), len(offsets) - 1})
    parts = []
    for low, high in pairwise(cuts):
        edges = full_edges(offsets[low : high + 1] - offsets[low], self_loops=self_loops) + offsets[low]
        distance = (points[edges[0]] - points[edges[1]]).square_().sum(-1)
        parts.append(edges[:, distance <= radius * radius])
    return torch.cat(parts, dim=1) if parts else offsets.new_zeros((2, 0))


def knn_edges(
    points: Tensor,
    offsets: Tensor,
    neighbours: int,
    *,
    self_loops: bool = False,
    max_count: int | None = None,
    priority: Tensor | None = None,
) -> Tensor:
    """Edges to each constituent from its nearest others in the same jet, [2, E] as (source, target).

    Args:
        points: [ΣN, D].
        offsets: [B + 1] int64, beginning at 0.
        neighbours: k; a constituent of a jet with fewer others has them all.
        self_loops: also join each constituent to itself.
        max_count, priority: see `hepml.packed.neighbours.nearest_neighbours`.
    """
    rows = points.shape[0]
    near = nearest_neighbours(points, offsets, neighbours, max_count, priority)
    own = torch.arange(rows, device=points.device)[:, None]
    if self_loops:
        near = torch.cat((own, near), dim=1)
    mask = mask_behind(offsets)
    if mask is not None:
        return torch.stack((near.flatten(), torch.where(near < rows, own, rows).flatten()))
    there = (near < rows).flatten().nonzero()[:, 0]
    return torch.stack((near.flatten()[there], own.expand_as(near).flatten()[there]))


def _edges_of_pairs(offsets: Tensor, points: Tensor | None, radius: float, self_loops: bool) -> Tensor:
    """All N² pairs of jets in a rectangle as edges; of pairs that are not joined both ends are the row past
    the last."""
    mask = known_mask(offsets)
    pairs = OrderedPairs.of(offsets)
    there = (mask[:, :, None] & mask[:, None]).flatten()
    if not self_loops:
        there = there & (pairs.receiver != pairs.sender)
    if points is not None:
        there = there & ((points[pairs.receiver] - points[pairs.sender]).square().sum(-1) <= radius * radius)
    absent = mask.shape[0] * mask.shape[1]
    return torch.stack([torch.where(there, end, absent) for end in (pairs.sender, pairs.receiver)])


def make_edges(
    batch: JetBatch,
    kind: EdgeKind = "knn",
    *,
    points: Tensor | None = None,
    neighbours: int = 16,
    radius: float = 0.2,
    self_loops: bool = False,
) -> Tensor:
    """Edges of every jet of a batch, [2, E] int64 as (source, target) rows of the packed constituents, sorted
    by target.

    Args:
        batch: the jets.
        kind: `knn`, `radius` or `full`.
        points: [ΣN, D] where constituents are; (delta_eta, delta_phi) where left out.
        neighbours: k of `knn`.
        radius: of `radius`, in the units of the points.
        self_loops: also join each constituent to itself.

    Raises:
        ModelError: an unknown kind.
    """
    if kind == "full":
        return full_edges(batch.offsets, self_loops=self_loops)
    if kind not in EDGE_KINDS:
        raise ModelError(f"unknown edges '{kind}'", mend=did_you_mean(kind, EDGE_KINDS))
    at = batch.select(POINTS) if points is None else points
    if kind == "radius":
        return radius_edges(at, batch.offsets, radius, self_loops=self_loops)
    energy = batch.four_momenta[:, 0]
    return knn_edges(
        at, batch.offsets, neighbours, self_loops=self_loops, max_count=batch.max_count, priority=energy
    )


def edge_features(batch: JetBatch, edges: Tensor, names: Sequence[str] = EDGE_FEATURES) -> Tensor:
    """What is known of the two constituents of each edge, [E, len(names)], symmetric in them.

    `delta_r`, `ln_delta_r`, `ln_kt`, `ln_z`, `ln_m2` as in arXiv:2202.03772, from the four-momenta in GeV; no
    gradient flows to them.

    Args:
        batch: the jets.
        edges: [2, E].
        names: any of those.

    Raises:
        ModelError: an unknown name.
    """
    known = ("delta_r", *PAIR_FEATURES)
    for name in names:
        if name not in known:
            raise ModelError(f"unknown edge feature '{name}'", mend=did_you_mean(name, known))
    momenta = batch.four_momenta
    if mask_behind(batch.offsets) is not None:  # absent edges end at the row past the last
        momenta = torch.nn.functional.pad(momenta, (0, 0, 0, 1))
    pair_values = pair_features(momenta, edges[0], edges[1])
    at = {name: i for i, name in enumerate(PAIR_FEATURES)}
    columns = [
        pair_values[:, at["ln_delta_r"]].exp() if name == "delta_r" else pair_values[:, at[name]]
        for name in names
    ]
    return torch.stack(columns, dim=1) if columns else pair_values.new_zeros((edges.shape[1], 0))


def to_pyg(
    batch: JetBatch,
    features: str | Sequence[str] = "kinematic",
    edges: EdgeKind = "knn",
    *,
    neighbours: int = 16,
    radius: float = 0.2,
    self_loops: bool = False,
    edge_columns: Sequence[str] = EDGE_FEATURES,
) -> Batch:
    """The jets as one `torch_geometric.data.Batch`, a graph a jet, without a loop over jets.

    It has `x` [ΣN, F], `edge_index` [2, E], `edge_attr` [E, D], `pos` [ΣN, 2] (delta_eta, delta_phi),
    `four_momenta` [ΣN, 4], `batch`, `ptr`, and `y`, `weight`, `entry` and `jet_momenta` where the jets have
    them. `four_momenta`, `ptr` and stored features are the batch's own memory.

    Args:
        batch: the jets.
        features: names of constituent features, or a feature set.
        edges, neighbours, radius, self_loops: see `make_edges`.
        edge_columns: see `edge_features`; empty for none.

    Raises:
        LayoutError: a feature that the jets do not have.
        ModelError: an unknown kind of edges or edge feature.
    """
    from torch_geometric.data import Batch, Data

    points = batch.select(POINTS)
    index = make_edges(
        batch, edges, points=points, neighbours=neighbours, radius=radius, self_loops=self_loops
    )
    jets, host = len(batch), batch.offsets.cpu()
    edges_of = torch.bincount(batch.jet_of[index[1]], minlength=jets).cumsum(0).cpu()
    by_edge = torch.cat((edges_of.new_zeros(1), edges_of))
    by_jet = torch.arange(jets + 1)
    content: dict[str, tuple[Tensor | None, Tensor]] = {
        "x": (batch.select(feature_table.resolve(features)), host),
        "edge_index": (index, by_edge),
        "edge_attr": (edge_features(batch, index, edge_columns) if edge_columns else None, by_edge),
        "pos": (points, host),
        "four_momenta": (batch.four_momenta, host),
        "y": (batch.labels, by_jet),
        "weight": (batch.weights, by_jet),
        "entry": (batch.index, by_jet),
        "jet_momenta": (batch.jet_momenta, by_jet),
    }
    graphs = Batch(_base_cls=Data)  # what `Batch.from_data_list` would make of a list of graphs
    slices, shifts = {}, {}
    for name, (values, slices_of) in content.items():
        if values is not None:
            graphs[name] = values
            slices[name] = slices_of
            shifts[name] = host[:-1] if name == "edge_index" else torch.zeros(jets, dtype=torch.int64)
    graphs.batch, graphs.ptr = batch.jet_of, batch.offsets
    graphs._num_graphs, graphs._slice_dict, graphs._inc_dict = jets, slices, shifts
    return graphs


def from_pyg(graphs: Batch, feature_names: str | Sequence[str] = ()) -> JetBatch:
    """The jets of a PyG `Batch` that has `four_momenta`, as `to_pyg` makes it or as `Batch.from_data_list`
    joins its graphs again.

    Args:
        graphs: with `four_momenta` [ΣN, 4] and `ptr`; `x`, `y`, `weight`, `entry` and `jet_momenta` are taken
            where there are any.
        feature_names: what the columns of `x` are; without them `x` is left behind, since features follow
            from momenta.

    Raises:
        DataError: no four-momenta, or as many names as there are not columns.
    """
    if graphs.get("four_momenta") is None:
        raise DataError(
            "these graphs have no four-momenta", mend="make them with hepml.representations.graph.to_pyg"
        )
    names = feature_table.resolve(feature_names) if feature_names else ()
    x = graphs.get("x") if names else None
    if x is not None and x.shape[1] != len(names):
        raise DataError(
            f"{len(names)} feature names for {x.shape[1]} columns of x", mend="name each column once"
        )
    return JetBatch(
        graphs.four_momenta,
        graphs.ptr,
        x,
        names if x is not None else (),
        labels=graphs.get("y"),
        weights=graphs.get("weight"),
        index=graphs.get("entry"),
        jet_momenta=graphs.get("jet_momenta"),
    )
