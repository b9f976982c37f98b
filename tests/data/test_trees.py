"""Clustering trees: FastJet's own, well-formed for every ordering, and carried by batches, data sets and
caches as any column is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_data import FOLDER
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.extras import lookup
from hepml.data.inputs import Inputs
from hepml.data.loader import JetLoader
from hepml.data.trees import ORDERINGS, trees
from hepml.errors import LayoutError
from hepml.testing import sample_jets

REAL = Path(FOLDER, "data", "real", "toptag_reference_1000.npz")
KT = Inputs(extras=("tree_kt",))


def clusters(tree: Tensor, n: int) -> set[frozenset[int]]:
    """The sets of constituents that the merges make."""
    members = [frozenset([i]) for i in range(n)]
    for left, right in tree[: n - 1, :2].tolist():
        members.append(members[left] | members[right])
    return set(members[n:])


def fastjet_clusters(p: np.ndarray, algorithm: str) -> set[frozenset[int]]:
    """The same by FastJet, from the history of one jet of infinite radius."""
    fastjet = pytest.importorskip("fastjet")
    swig = pytest.importorskip("fastjet._swig")
    jets = [fastjet.PseudoJet(*(float(x) for x in (v[1], v[2], v[3], v[0]))) for v in p]
    for i, jet in enumerate(jets):
        jet.set_user_index(i)
    kind = {"kt": "kt_algorithm", "cambridge_aachen": "cambridge_algorithm", "antikt": "antikt_algorithm"}[
        algorithm
    ]
    sequence = swig.ClusterSequence(jets, fastjet.JetDefinition(getattr(fastjet, kind), 100.0))
    found: set[frozenset[int]] = set()

    def walk(jet: object) -> frozenset[int]:
        a, b = fastjet.PseudoJet(), fastjet.PseudoJet()
        if not jet.has_parents(a, b):  # type: ignore[attr-defined]
            return frozenset([jet.user_index()])  # type: ignore[attr-defined]
        both = walk(a) | walk(b)
        found.add(both)
        return both

    (whole,) = sequence.inclusive_jets(0.0)
    walk(whole)
    return found


@pytest.mark.parametrize("algorithm", ["kt", "cambridge_aachen", "antikt"])
def test_trees_are_those_of_fastjet(algorithm: str) -> None:
    batch = sample_jets(24, largest=60)
    p, offsets = batch.four_momenta, batch.offsets
    if REAL.exists():
        with np.load(REAL) as file:
            offsets = torch.from_numpy(file["offsets"])[:61]
            p = torch.from_numpy(file["four_momenta"]).double()[: int(offsets[-1])]
    tree = trees(p, offsets, algorithm)
    for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        assert clusters(tree[a:b], b - a) == fastjet_clusters(p[a:b].numpy(), algorithm)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_a_tree_takes_every_node_once_the_harder_child_left_and_levels_rise(ordering: str) -> None:
    batch = sample_jets(12, smallest=0, largest=23)
    tree = trees(batch.four_momenta, batch.offsets, ordering)
    for a, b in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        n, rows = b - a, tree[a:b].tolist()
        if n == 0:
            continue
        assert rows[-1] == [-1, -1, -1]
        assert sorted(c for r in rows[:-1] for c in r[:2]) == list(range(2 * n - 2))
        p, level = list(batch.four_momenta[a:b]), [0] * n
        for left, right, up in rows[:-1]:
            assert float(torch.hypot(*p[left][1:3])) >= float(torch.hypot(*p[right][1:3]))
            assert up == max(level[left], level[right]) + 1
            p.append(p[left] + p[right])
            level.append(up)


def test_a_descending_chain_ends_with_the_hardest_constituent() -> None:
    p = torch.tensor([[5.0, 3, 4, 0], [13, 5, 12, 0], [1, 1, 0, 0]])
    assert trees(p, torch.tensor([0, 3]), "descending_pt").tolist() == [[0, 2, 1], [1, 3, 2], [-1, -1, -1]]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_a_tree_does_not_depend_on_the_other_jets(ordering: str) -> None:
    batch = sample_jets(9, smallest=0)
    together = trees(batch.four_momenta, batch.offsets, ordering)
    alone = [batch.take([i]) for i in range(len(batch))]
    assert torch.equal(together, torch.cat([trees(b.four_momenta, b.offsets, ordering) for b in alone]))


def test_random_trees_differ_between_jets() -> None:
    batch = sample_jets(8, smallest=10, largest=10)
    made = trees(batch.four_momenta, batch.offsets, "random").view(8, 10, 3)
    assert len({tuple(t[:, 2].tolist()) for t in made}) > 4


def with_trees(batch: JetBatch) -> JetBatch:
    return JetBatch(batch.four_momenta, batch.offsets, extras={"tree_kt": batch.extra("tree_kt")})


def test_a_bare_batch_makes_an_extra_once() -> None:
    batch = sample_jets()
    assert batch.extra("tree_kt") is batch.extra("tree_kt")
    assert not batch.extras
    with pytest.raises(LayoutError, match="did you mean 'tree_kt'"):
        batch.extra("tree_k")


def test_taking_jets_takes_their_trees() -> None:
    batch = with_trees(sample_jets())
    for which in ([3, 0, 3], torch.arange(8) % 2 == 0, []):
        part = batch.take(which)
        assert torch.equal(part.extras["tree_kt"], lookup("tree_kt").build(part.four_momenta, part.offsets))


def test_other_momenta_or_another_order_leave_trees_behind() -> None:
    batch = with_trees(sample_jets())
    assert not batch.with_four_momenta(batch.four_momenta * 2).extras
    assert not batch.permute(torch.arange(len(batch.jet_of) - 1, -1, -1).sort(stable=True)[1]).extras


def test_trees_keep_their_integers_on_the_way_to_a_device_or_another_precision() -> None:
    batch = with_trees(sample_jets())
    for moved in (batch.to(torch.float32), batch.to("cpu")):
        assert torch.equal(moved.extras["tree_kt"], batch.extras["tree_kt"])
        assert moved.extras["tree_kt"].dtype == torch.int32


def test_data_sets_build_trees_at_loading_and_hand_them_out(write, arrays, tmp_path) -> None:
    path = write(arrays, baskets=2)
    memory = JetDataset.open(path, KT)
    cached = [JetDataset.open(path, KT, cache=tmp_path) for _ in range(2)]  # built, then read back
    sample = JetDataset.open(path, KT, cache=tmp_path, max_jets=17)
    for dataset in (memory, *cached, sample, memory.subset(np.arange(3, 40)), memory.split(0.3)[1]):
        for batch in JetLoader(dataset, 16, shuffle=True):
            assert torch.equal(
                batch.extras["tree_kt"], lookup("tree_kt").build(batch.four_momenta, batch.offsets)
            )
    assert not JetDataset.open(path, Inputs(), cache=tmp_path).extras


def test_trees_are_those_of_the_leading_constituents_where_only_those_are_kept(write, arrays) -> None:
    batch = JetDataset.open(write(arrays), Inputs(extras=("tree_kt",), max_constituents=4)).batch(
        slice(0, 20)
    )
    assert batch.max_count == 4
    assert torch.equal(batch.extras["tree_kt"], lookup("tree_kt").build(batch.four_momenta, batch.offsets))


def test_an_unknown_extra_is_refused_before_anything_is_read(write, arrays) -> None:
    with pytest.raises(LayoutError, match="unknown extra 'tree_kd'"):
        JetDataset.open(write(arrays), Inputs(extras=("tree_kd",)))
