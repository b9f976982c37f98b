"""Jets as graphs: edges as a plain loop finds them, PyG batches that PyG itself would have made, and the way
back."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import DataError, HepmlError
from hepml.representations import graph
from hepml.representations.graph import POINTS, edge_features, from_pyg, make_edges, to_pyg

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
from cloud import cloud


def by_a_loop(batch: JetBatch, kind: str, k: int, radius: float, loops: bool) -> set[tuple[int, int]]:
    points, found = batch.select(POINTS), set()
    for low, high in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        for i in range(low, high):
            others = [j for j in range(low, high) if j != i]
            distance = {j: float((points[i] - points[j]).norm()) for j in others}
            if kind == "knn":
                others = sorted(others, key=distance.__getitem__)[:k]
            elif kind == "radius":
                others = [j for j in others if distance[j] <= radius]
            found |= {(j, i) for j in [*others, *([i] if loops else [])]}
    return found


@pytest.mark.parametrize("loops", [False, True], ids=["plain", "self-loops"])
@pytest.mark.parametrize("kind", graph.EDGE_KINDS)
def test_edges_are_those_that_a_loop_finds_sorted_by_target(
    kind: graph.EdgeKind, loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_PAIRS", 700)  # several groups of jets
    batch = cloud((5, 0, 1, 12, 2, 0, 31, 7, 0))
    edges = make_edges(batch, kind, neighbours=4, radius=0.3, self_loops=loops)
    pairs = list(map(tuple, edges.T.tolist()))
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == by_a_loop(batch, kind, 4, 0.3, loops)
    assert bool((edges[1].diff() >= 0).all())


def test_edge_features_are_the_published_ones_and_symmetric() -> None:
    batch = cloud((6, 9))
    edges = make_edges(batch, "full")
    delta_r, ln_kt, ln_z, ln_m2 = edge_features(batch, edges).unbind(1)
    a, b = batch.four_momenta[edges[0]], batch.four_momenta[edges[1]]
    distance = torch.hypot(
        kinematics.rapidity(a) - kinematics.rapidity(b),
        kinematics.delta_phi(kinematics.phi(a), kinematics.phi(b)),
    )
    soft = torch.minimum(kinematics.pt(a), kinematics.pt(b))
    for found, wanted in (
        (delta_r, distance),
        (ln_kt, (soft * distance).log()),
        (ln_z, (soft / (kinematics.pt(a) + kinematics.pt(b))).log()),
        (ln_m2, kinematics.mass_squared(a + b).log()),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        edge_features(batch, edges.flip(0)), edge_features(batch, edges), rtol=0, atol=1e-9
    )


def test_a_pyg_batch_is_the_one_that_pyg_makes_of_its_graphs() -> None:
    batch = cloud((5, 0, 1, 12))
    graphs = to_pyg(batch, edges="radius", radius=0.5, self_loops=True)
    assert isinstance(graphs, Batch)
    apart = graphs.to_data_list()
    assert [g.num_nodes for g in apart] == [5, 0, 1, 12]
    again = Batch.from_data_list(apart)
    assert set(again.keys()) == set(graphs.keys())
    for name in sorted(graphs.keys()):
        assert torch.equal(again[name], graphs[name]), name
    assert torch.equal(
        graphs[3].edge_index, make_edges(batch.take([3]), "radius", radius=0.5, self_loops=True)
    )
    assert len(next(iter(DataLoader(apart, batch_size=4))).ptr) == 5


def test_to_pyg_copies_neither_momenta_nor_features_nor_offsets_and_comes_back() -> None:
    names = ("log_pt", "delta_r", *POINTS)
    bare = cloud((5, 0, 1, 12))
    batch = JetBatch.from_arrays(
        bare.four_momenta,
        bare.offsets,
        bare.select(names),
        bare.labels,
        feature_names=names,
        index=[3, 1, 4, 9],
    )
    graphs = to_pyg(batch, names)
    assert graphs.x.data_ptr() == batch.features.data_ptr()
    back = from_pyg(graphs, names)
    for name in ("four_momenta", "offsets", "features", "labels", "index"):
        assert getattr(back, name).data_ptr() == getattr(batch, name).data_ptr(), name
    assert back.feature_names == names
    assert from_pyg(Batch.from_data_list(graphs.to_data_list())).labels.tolist() == batch.labels.tolist()


def test_an_empty_batch_has_no_graph_and_no_edge() -> None:
    empty = JetBatch.from_arrays(torch.zeros((0, 4)), torch.zeros(1, dtype=torch.int64))
    for kind in graph.EDGE_KINDS:
        assert make_edges(empty, kind).shape == (2, 0)
    assert to_pyg(empty).num_graphs == 0


def test_what_cannot_be_understood_is_refused_with_the_nearest() -> None:
    batch = cloud((3,))
    with pytest.raises(HepmlError, match="did you mean 'radius'"):
        make_edges(batch, "radios")  # type: ignore[arg-type]
    with pytest.raises(HepmlError, match="did you mean 'ln_kt'"):
        edge_features(batch, make_edges(batch), ("lnkt",))
    with pytest.raises(DataError, match="3 feature names for 7 columns"):
        from_pyg(to_pyg(batch), ("log_pt", *POINTS))
    with pytest.raises(DataError, match="no four-momenta"):
        from_pyg(Batch(x=torch.zeros(2, 1)))
    assert math.isfinite(float(edge_features(batch, make_edges(batch, self_loops=True)).sum()))
