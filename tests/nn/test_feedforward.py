"""Fully connected stacks."""

import pytest
import torch
from torch import nn

from hepml.nn.feedforward import NarrowLinear, feedforward, he_uniform


def test_a_narrow_linear_map_is_a_linear_map() -> None:
    narrow, plain = NarrowLinear(3, 20).double(), nn.Linear(3, 20).double()
    plain.load_state_dict(narrow.state_dict())
    x = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for layer in (narrow, plain):
        out = layer(x)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, layer.weight, layer.bias))))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_stack_has_its_widths_and_ends_bare(dropout: float) -> None:
    layers = feedforward(3, (20, 30), 2, dropout=dropout)
    assert [tuple(m.weight.shape) for m in layers if isinstance(m, nn.Linear)] == [(20, 3), (30, 20), (2, 30)]
    assert isinstance(layers[-1], nn.Linear)
    assert sum(isinstance(m, nn.Dropout) for m in layers) == (2 if dropout else 0)
    assert isinstance(feedforward(3, (20,))[-1], nn.ReLU)


def test_he_uniform_keeps_the_size_of_signals_through_relu_layers() -> None:
    torch.manual_seed(0)
    layers = feedforward(256, (256,) * 8, initialise=he_uniform)
    out = layers(torch.randn(200, 256))
    assert 0.5 < float(out.detach().square().mean()) < 2
    assert all(float(m.bias.detach().abs().sum()) == 0 for m in layers if isinstance(m, nn.Linear))
