"""Dropout by gaps drops every entry by itself, with its probability, and keeps means, gradients and seeds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hepml.nn import kernels
from hepml.nn.kernels.dropout import Dropout, dropout

ENTRIES, TIMES = 10_000, 400


@pytest.fixture(scope="module", params=[0.02, 0.1, 0.25])
def drawn(request: pytest.FixtureRequest) -> tuple[float, torch.Tensor]:
    """A share, and [TIMES, ENTRIES] whether each was dropped."""
    torch.manual_seed(3)
    x = torch.ones(ENTRIES)
    return request.param, torch.stack([dropout(x, request.param, True) == 0 for _ in range(TIMES)])


def test_the_share_dropped_and_its_spread_are_binomial(drawn: tuple[float, torch.Tensor]) -> None:
    p, out = drawn
    numbers = out.sum(1).double()
    variance = ENTRIES * p * (1 - p)
    assert abs(float(numbers.mean()) - ENTRIES * p) < 4 * (variance / TIMES) ** 0.5
    assert float(numbers.var()) == pytest.approx(variance, rel=4 * (2 / TIMES) ** 0.5)


def test_every_entry_is_dropped_equally_often(drawn: tuple[float, torch.Tensor]) -> None:
    p, out = drawn
    chi2 = float(((out.double().sum(0) - TIMES * p) ** 2 / (TIMES * p * (1 - p))).sum())
    assert abs(chi2 - ENTRIES) < 5 * (2 * ENTRIES) ** 0.5
    for end in (slice(0, 50), slice(-50, None)):  # the first and the last are no exception
        assert abs(float(out[:, end].double().mean()) - p) < 4 * (p * (1 - p) / (50 * TIMES)) ** 0.5


@pytest.mark.parametrize("apart", [1, 2, 7])
def test_entries_are_dropped_independently(drawn: tuple[float, torch.Tensor], apart: int) -> None:
    p, out = drawn
    both = (out[:, apart:] & out[:, :-apart]).double().mean()
    assert abs(float(both) - p * p) < 5 * (p * p * (1 - p * p) / (TIMES * ENTRIES)) ** 0.5


def test_what_is_kept_is_scaled_and_its_gradient_too() -> None:
    x = torch.randn(90, 128, requires_grad=True)
    out = Dropout(0.1).train()(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(out.detach(), x.detach() * gradient)
    assert gradient.unique().tolist() == pytest.approx([0, 1 / 0.9])


def test_the_seed_decides_and_evaluation_drops_nothing() -> None:
    x, layer = torch.ones(100, 100), Dropout(0.1)
    torch.manual_seed(5)
    first = layer(x)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert layer.eval()(x) is x
    assert layer.train()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("entries", "p"), [(1_000, 0.1), (10_000, 0.5), (10_000, 1.0)])
def test_few_entries_and_large_shares_are_torch_s_own(entries: int, p: float) -> None:
    x = torch.randn(entries)
    torch.manual_seed(7)
    ours = dropout(x, p, True)
    torch.manual_seed(7)
    assert torch.equal(ours, F.dropout(x, p, True))


def test_behind_a_closed_gate_it_is_torch_s_own() -> None:
    x = torch.randn(100, 100)
    with kernels.disabled("dropout"):
        torch.manual_seed(7)
        ours = dropout(x, 0.1, True)
    torch.manual_seed(7)
    assert torch.equal(ours, F.dropout(x, 0.1, True))
    torch.manual_seed(7)
    assert not torch.equal(ours, dropout(x, 0.1, True)), "the gate was open"
