"""Normalisation over packed rows."""

import pytest
import torch

from hepml.nn.norm import PackedBatchNorm, Standardise


def test_standardise_gives_mean_zero_and_spread_one_after_any_split_into_batches() -> None:
    x = torch.randn(300, 3, dtype=torch.float64) * torch.tensor([1e3, 1.0, 1e-3]) + torch.tensor(
        [500.0, 0.0, 2.0]
    )
    whole, parts = Standardise(3).double(), Standardise(3).double()
    whole(x)
    for part in x.split([1, 99, 0, 200]):
        parts(part)
    assert torch.allclose(whole.mean, parts.mean, rtol=1e-10)
    assert torch.allclose(whole.variance, parts.variance, rtol=1e-10)
    z = parts.eval()(x)
    assert torch.allclose(z.mean(0), torch.zeros(3, dtype=z.dtype), atol=1e-9)
    assert torch.allclose(z.std(0, correction=0), torch.ones(3, dtype=z.dtype), atol=1e-9)


def test_standardise_is_frozen_after_its_first_jets_and_in_evaluation() -> None:
    layer = Standardise(1, jets=10)
    layer(torch.randn(12, 1))
    kept = layer.mean.clone()
    layer(torch.randn(12, 1) + 100)
    assert torch.equal(layer.mean, kept)
    fresh = Standardise(1).eval()
    assert torch.equal(fresh(torch.full((2, 1), 7.0)), torch.full((2, 1), 7.0))


def test_a_constant_column_is_standardised_to_zero_not_nan() -> None:
    assert torch.equal(Standardise(1)(torch.full((5, 1), 4.0)), torch.zeros(5, 1))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_remembering_statistics_equals_a_forward_pass_in_training(momentum: float | None) -> None:
    plain = PackedBatchNorm(4, momentum=momentum).double()
    told = PackedBatchNorm(4, momentum=momentum).double()
    for _ in range(3):
        x = 2 * torch.randn(50, 4, dtype=torch.float64) + 1
        plain(x)
        told.remember(x.mean(0), x.var(0, correction=0), len(x))
    for a, b in zip(plain.buffers(), told.buffers(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)


def test_gain_and_bias_are_the_map_of_evaluation() -> None:
    norm = PackedBatchNorm(4).double()
    norm(3 * torch.randn(50, 4, dtype=torch.float64) - 2)
    x = torch.randn(7, 4, dtype=torch.float64)
    gain, bias = norm.eval().gain_and_bias()
    assert torch.allclose(norm(x), gain * x + bias, atol=1e-12)


def test_one_row_in_training_uses_and_keeps_the_running_statistics() -> None:
    norm = PackedBatchNorm(2)
    assert torch.allclose(norm(torch.tensor([[3.0, -1.0]])), torch.tensor([[3.0, -1.0]]), atol=1e-4)
    assert int(norm.num_batches_tracked) == 0
