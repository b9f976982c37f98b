"""The neighbour search on packed jets."""

import pytest
import torch
from torch import Tensor

from hepml.packed import neighbours as module
from hepml.packed.neighbours import nearest_neighbours

COUNTS = (0, 1, 2, 9, 30, 0, 5, 17)


def packed(columns: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *COUNTS]).cumsum(0)
    return torch.randn(
        int(offsets[-1]), columns, dtype=dtype, generator=torch.Generator().manual_seed(0)
    ), offsets


@pytest.mark.parametrize("columns", [2, 64])
@pytest.mark.parametrize("k", [1, 4, 16])
def test_neighbours_are_the_nearest_others_of_the_same_jet(columns: int, k: int) -> None:
    x, offsets = packed(columns)
    found = nearest_neighbours(x, offsets, k)
    assert found.shape == (len(x), k)
    for low, high in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        for i in range(low, high):
            others = [j for j in range(low, high) if j != i]
            others.sort(key=lambda j, i=i: float((x[i] - x[j]).square().sum()))
            expected = sorted(others[:k]) + [len(x)] * max(0, k - len(others))
            assert found[i].sort().values.tolist() == expected


def test_a_twin_at_the_same_place_is_a_neighbour_and_the_constituent_itself_is_not() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert nearest_neighbours(x, torch.tensor([0, 3]), 1)[:2].flatten().tolist() == [1, 0]


def test_of_twins_the_one_of_priority_comes_first_whatever_the_order_and_the_padding() -> None:
    x = torch.randint(
        0, 3, (40, 2), generator=torch.Generator().manual_seed(1)
    ).float()  # nine places for 40 constituents
    priority = torch.randperm(40, generator=torch.Generator().manual_seed(2)).float()
    alone = nearest_neighbours(x, torch.tensor([0, 40]), 6, priority=priority).sort(-1).values
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    shuffled = nearest_neighbours(x[order], torch.tensor([0, 40]), 6, priority=priority[order])
    assert torch.equal(order[shuffled].sort(-1).values, alone[order])
    beside = nearest_neighbours(
        torch.cat((x, torch.randn(90, 2))),
        torch.tensor([0, 40, 130]),
        6,
        priority=torch.cat((priority, torch.zeros(90))),
    )
    assert torch.equal(beside[:40].sort(-1).values, alone)
    distance = (x[:, None] - x[None]).square().sum(-1)
    for i in range(40):
        others = sorted(
            (j for j in range(40) if j != i), key=lambda j, i=i: (float(distance[i, j]), -float(priority[j]))
        )
        assert alone[i].tolist() == sorted(others[:6])


def test_equal_distances_are_ordered_by_column_and_others_by_themselves() -> None:
    """Neighbouring float32 numbers keep their order in the last of 2,000 columns; zeros and equals take that
    of their columns."""
    value = torch.tensor(0.3)
    above = torch.nextafter(value, torch.tensor(1.0))
    row = torch.full((2000,), 5.0)
    row[0], row[1999], row[[7, 3, 900]] = above, value, 0.0
    ranked = module._ranked(row[None])[0]
    assert ranked.argsort()[:6].tolist() == [3, 7, 900, 1999, 0, 1]
    assert len(ranked.unique()) == 2000


def test_searching_in_groups_of_jets_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, offsets = packed(3)
    whole = nearest_neighbours(x, offsets, 4).sort(-1).values
    for entries in (1, 2000, 4000):
        monkeypatch.setattr(module, "_ENTRIES", entries)
        assert torch.equal(nearest_neighbours(x, offsets, 4).sort(-1).values, whole)


def test_mixed_precision_does_not_change_who_is_near() -> None:
    x, offsets = packed(64, torch.float32)
    exact = nearest_neighbours(x, offsets, 4).sort(-1).values
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_neighbours(x, offsets, 4).sort(-1).values, exact)


def test_no_constituents_have_no_neighbours() -> None:
    assert nearest_neighbours(torch.zeros(0, 2), torch.tensor([0, 0, 0]), 4).shape == (0, 4)
    assert nearest_neighbours(torch.zeros(0, 2), torch.tensor([0]), 4).shape == (0, 4)
