"""Sums and means over packed jets."""

from itertools import pairwise

import pytest
import torch

from hepml.nn.kernels import pieces
from hepml.nn.kernels.pieces import sum_of
from hepml.packed.segments import segment_mean, segment_sum

OFFSETS = torch.tensor([0, 0, 3, 4, 4, 9, 9])


def test_sums_and_means_are_those_of_each_jet_and_zero_for_empty_jets() -> None:
    x = torch.randn(9, 5, dtype=torch.float64)
    expected = torch.stack([x[a:b].sum(0) for a, b in pairwise(OFFSETS.tolist())])
    assert torch.allclose(segment_sum(x, OFFSETS), expected, atol=1e-14)
    assert torch.allclose(
        segment_mean(x, OFFSETS), expected / torch.tensor([1, 3, 1, 1, 5, 1])[:, None], atol=1e-14
    )


def test_the_gradient_of_a_sum_is_exact() -> None:
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: segment_sum(v, OFFSETS), (x,))
    assert torch.autograd.gradcheck(lambda v: segment_mean(v, OFFSETS), (x,))


def test_no_rows_and_no_jets_are_answered() -> None:
    assert torch.equal(segment_sum(torch.zeros(0, 4), torch.zeros(4, dtype=torch.int64)), torch.zeros(3, 4))
    assert segment_mean(torch.zeros(0, 4), torch.zeros(1, dtype=torch.int64)).shape == (0, 4)


@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_summing_a_function_for_a_few_jets_at_a_time_changes_nothing(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_ROWS", rows)
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    whole, parts = segment_sum(torch.tanh(x @ w), OFFSETS), sum_of(lambda v: torch.tanh(v @ w), x, OFFSETS)
    assert torch.allclose(parts, whole, atol=1e-14)
    for a, b in zip(*(torch.autograd.grad(s.square().sum(), (x, w)) for s in (parts, whole)), strict=True):
        assert torch.allclose(a, b, atol=1e-12)
