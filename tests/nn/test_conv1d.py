"""Convolutions that skip shared padding give what those that do not give, in value, gradient and
statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hepml.nn.conv1d import Padded, PaddedBatchNorm, PaddedConv1d

LENGTH = 20


def padded(counts: tuple[int, ...], channels: int = 3) -> tuple[Padded, torch.Tensor]:
    """Random sequences as `Padded` and as a rectangle [B, C, L]."""
    torch.manual_seed(0)
    x = torch.randn(len(counts), LENGTH, channels, dtype=torch.float64)
    x = x * (torch.arange(LENGTH) < torch.tensor(counts)[:, None])[..., None]
    return Padded(x[:, : max(counts)], x.new_zeros(1, LENGTH, channels)), x.transpose(1, 2)


def whole(x: Padded) -> torch.Tensor:
    """[B, C, L]."""
    return x.window(0, x.silent.shape[1]).transpose(1, 2)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("counts", [(4, 0, 7), (0,), (1,), (19, 20), (18, 3)])
def test_a_stack_of_convolutions_equals_that_of_the_padded_rectangle(
    size: int, stride: int, counts: tuple[int, ...]
) -> None:
    x, rectangle = padded(counts)
    layers = [PaddedConv1d(3, 3, size, stride=stride, padding=size // 2).double() for _ in range(3)]
    for layer in layers:
        rectangle = nn.Conv1d.forward(layer, rectangle)
        x = layer(x)
        assert torch.allclose(whole(x), rectangle, rtol=0, atol=1e-12)
    assert torch.allclose(x.mean(), rectangle.mean(-1), rtol=0, atol=1e-12)


def test_shared_columns_are_not_computed_for_each_sequence() -> None:
    x, _ = padded((4, 0, 7))
    widths = [x.own.shape[1]]
    for stride in (1, 1, 2, 1):
        x = PaddedConv1d(3, 3, 3, stride=stride, padding=1).double()(x)
        widths.append(x.own.shape[1])
    assert widths == [7, 8, 9, 5, 6]
    assert x.silent.shape[1] == LENGTH // 2


@pytest.mark.parametrize("counts", [(4, 0, 7), (0,), (20, 20), (0, 0)])
def test_batch_norm_takes_the_statistics_of_the_padded_rectangle(counts: tuple[int, ...]) -> None:
    ours, theirs = PaddedBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    convolution = PaddedConv1d(3, 3, 3, padding=1).double()
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        x, rectangle = padded(counts)
        inputs = [x.own.requires_grad_(), rectangle.detach().requires_grad_()]
        got = ours(convolution(Padded(inputs[0], x.silent)))
        expected = theirs(nn.Conv1d.forward(convolution, inputs[1]))
        assert torch.allclose(whole(got), expected, rtol=0, atol=1e-10)
        grads = torch.autograd.grad(
            (whole(got) ** 3).sum(), [inputs[0], *ours.parameters(), *convolution.parameters()]
        )
        wanted = torch.autograd.grad(
            (expected**3).sum(), [inputs[1], *theirs.parameters(), *convolution.parameters()]
        )
        assert torch.allclose(grads[0], wanted[0].transpose(1, 2)[:, : max(counts)], rtol=1e-7, atol=1e-7)
        for a, b in zip(grads[1:], wanted[1:], strict=True):
            assert torch.allclose(a, b, rtol=1e-7, atol=1e-7)
        assert torch.allclose(ours.running_mean, theirs.running_mean, rtol=0, atol=1e-12)
        assert torch.allclose(ours.running_var, theirs.running_var, rtol=0, atol=1e-12)
