"""Plain fully connected stacks, from which the heads and the deep sets are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hepml.nn import kernels

# Fewer columns than this make the weight gradient g^T x of a linear map slow on a CPU, (x^T g)^T is not.
_NARROW = 16


def feedforward(
    inputs: int,
    widths: Sequence[int],
    outputs: int | None = None,
    *,
    activation: Callable[[], nn.Module] = nn.ReLU,
    dropout: float = 0.0,
    initialise: Callable[[nn.Linear], None] | None = None,
) -> nn.Sequential:
    """Linear, activation (and dropout) for each width, then, where `outputs` is given, a bare linear map to
    it.

    Args:
        inputs: columns of the input.
        widths: units of each hidden layer; may be empty.
        outputs: columns of the result, without activation; None ends with the last hidden layer.
        activation: makes the module after each hidden layer.
        dropout: share of hidden units left out in training.
        initialise: called on each linear layer; torch's own initialisation where left out.
    """
    layers: list[nn.Module] = []
    last = inputs
    for width in widths:
        layers += [NarrowLinear(last, width) if last < _NARROW else nn.Linear(last, width), activation()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        last = width
    if outputs is not None:
        layers.append(nn.Linear(last, outputs))
    if initialise is not None:
        for layer in layers:
            if isinstance(layer, nn.Linear):
                initialise(layer)
    return nn.Sequential(*layers)


def grouped_head(inputs: int, widths: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each width and a bare linear map, each hidden layer a module of its own:
    the names of parameters that weaver's networks publish (`fc.0.0.weight`)."""
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)))
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def fused_width(columns: int) -> int:
    """Units of ParticleNet's fusion layer for so many columns: a multiple of 128, 128 to 1,024."""
    return min(max(columns // 128 * 128, 128), 1024)


class NarrowLinear(nn.Linear):
    """A linear map of few columns: the same function and parameters as `nn.Linear`, with a weight gradient
    several times faster on a CPU.

    Multiplying by a contiguous transpose lets autograd take the gradient as x^T g.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 2 or not kernels.allows("pieces", input, autocast=True):
            return super().forward(input)
        return torch.addmm(self.bias, input, self.weight.t().contiguous())


def he_uniform(layer: nn.Linear) -> None:
    """Kaiming-uniform weights for ReLU and zero biases, as in the published deep-sets networks
    (arXiv:1810.05165)."""
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
