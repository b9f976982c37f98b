"""The sequence view puts constituents in order of transverse momentum, and packs them without a step of
padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.representations.sequence import backwards, hardest, leading, order_by_pt, packed_sequence


def jets(counts: tuple[int, ...], seed: int = 0) -> JetBatch:
    """Random jets, in no order."""
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(sum(counts), 4, generator=g, dtype=torch.float64)
    return JetBatch.from_arrays(p, torch.tensor([0, *counts]).cumsum(0))


def ragged(values: Tensor, offsets: Tensor) -> list[Tensor]:
    return list(values.split(offsets.diff().tolist()))


@pytest.mark.parametrize("counts", [(5, 0, 1, 9, 3), (0,), (), (1, 1), (0, 4)])
def test_constituents_stand_by_falling_transverse_momentum_within_their_jets(counts: tuple[int, ...]) -> None:
    batch = jets(counts)
    order = order_by_pt(batch)
    assert torch.equal(batch.jet_of[order], batch.jet_of)
    assert torch.equal(order.sort().values, torch.arange(len(order)))
    for pt in ragged(kinematics.pt(batch.four_momenta[order]), batch.offsets):
        assert (pt.diff() <= 0).all()


def test_jets_in_order_are_left_as_they_are() -> None:
    batch = jets((5, 0, 1, 9))
    ordered = batch.permute(order_by_pt(batch))
    assert torch.equal(order_by_pt(ordered), torch.arange(15))


@pytest.mark.parametrize("most", [1, 3, 9, None])
def test_the_leading_constituents_are_the_hardest(most: int | None) -> None:
    batch = jets((5, 0, 1, 9, 3))
    rows, offsets = leading(batch, most)
    assert offsets.diff().tolist() == [min(n, most or n) for n in (5, 0, 1, 9, 3)]
    pt = kinematics.pt(batch.four_momenta)
    for got, everything in zip(ragged(pt[rows], offsets), ragged(pt, batch.offsets), strict=True):
        assert torch.equal(got, everything.sort(descending=True).values[: len(got)])


def test_each_sequence_is_read_backwards_on_its_own() -> None:
    assert backwards(torch.tensor([0, 3, 3, 4, 6]), 6).tolist() == [2, 1, 0, 3, 5, 4]
    assert backwards(torch.tensor([0]), 0).tolist() == []


@pytest.mark.parametrize("counts", [(5, 0, 1, 9, 3), (2, 2, 2), (0, 7)])
def test_packed_sequences_are_those_of_torch(counts: tuple[int, ...]) -> None:
    batch = jets(counts)
    got, which = packed_sequence(batch.four_momenta, batch.offsets)
    parts = ragged(batch.four_momenta, batch.offsets)
    assert sorted(which.tolist()) == [i for i, part in enumerate(parts) if len(part)]
    expected = pack_sequence(
        [parts[i] for i in which.tolist()]
    )  # refuses sequences that are not sorted by length
    assert torch.equal(got.data, expected.data)
    assert torch.equal(got.batch_sizes, expected.batch_sizes)


def test_no_sequence_is_left_of_jets_without_constituents() -> None:
    packed, which = packed_sequence(torch.zeros(0, 3), torch.zeros(4, dtype=torch.int64))
    assert len(which) == 0
    assert packed.data.shape == (0, 3)


def test_gradients_return_to_the_rows_they_came_from() -> None:
    batch = jets((4, 0, 2))
    values = batch.four_momenta.clone().requires_grad_()
    packed, _ = packed_sequence(values, batch.offsets)
    weight = torch.arange(24, dtype=torch.float64).view(6, 4)
    (packed.data * packed_sequence(weight, batch.offsets)[0].data).sum().backward()
    assert torch.equal(values.grad, weight)


def test_the_last_state_of_each_jet_is_that_of_its_own_sequence() -> None:
    torch.manual_seed(0)
    batch, rnn = jets((4, 0, 2, 6)), nn.GRU(4, 5).double()
    packed, which = packed_sequence(batch.four_momenta, batch.offsets)
    with torch.no_grad():
        together = rnn(packed)[1][0]
        alone = torch.stack(
            [rnn(ragged(batch.four_momenta, batch.offsets)[i][:, None])[1][0, 0] for i in which]
        )
    assert torch.allclose(together, alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("ordered", [True, False])
def test_the_hardest_are_the_first_of_the_order_also_among_equals(ordered: bool) -> None:
    some = jets((4, 9, 5, 1, 2))
    p = some.four_momenta.clone()
    p[5:8] = p[5]  # three constituents that are the same
    some = JetBatch.from_arrays(p, some.offsets)
    if ordered:
        some = some.permute(order_by_pt(some))
    empty = torch.cat((some.offsets[:1], some.offsets))
    for batch in (some, JetBatch.from_arrays(some.four_momenta, empty)):
        found, order = hardest(batch, 2), order_by_pt(batch)
        for jet, count in enumerate(batch.counts.tolist()):
            first = int(batch.offsets[jet])
            assert found[jet, :count].tolist() == order[first : first + min(count, 2)].tolist()
    assert bool((hardest(some, 3) < len(some.four_momenta)).all())
