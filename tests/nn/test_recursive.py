"""Folds in one buffer equal folds that join levels, with all gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hepml.nn import kernels
from hepml.nn.recursive import fold, gated_cell, simple_cell

# Three jets of 3, 4 and 1 constituents, one of them a chain; leaves are nodes 0 to 7, merges 8 to 12 by
# level.
CHILDREN = torch.tensor([[0, 1], [4, 3], [2, 8], [9, 5], [11, 6]])
LEVELS = (2, 2, 1)


def case(cell: Callable[..., Tensor], hidden: int = 5) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    shapes = [(8, hidden), (5, hidden)]
    if cell is simple_cell:
        shapes += [(hidden, 2 * hidden)]
    else:
        for rows, columns in ((3, 3), (1, 3), (4, 4)):
            shapes += [(rows * hidden, columns * hidden), (rows * hidden,)]
    return tuple((0.5 * torch.randn(s, generator=g, dtype=torch.float64)).requires_grad_() for s in shapes)


@pytest.mark.parametrize("hidden", [5, 40])
@pytest.mark.parametrize("cell", [simple_cell, gated_cell])
def test_a_fold_in_one_buffer_has_the_values_and_gradients_of_its_cell(
    cell: Callable[..., Tensor], hidden: int
) -> None:
    leaves, inputs, *weights = given = case(cell, hidden)
    in_one = fold(cell, leaves, inputs, CHILDREN, LEVELS, weights)
    with kernels.disabled():
        plain = fold(cell, leaves, inputs, CHILDREN, LEVELS, weights)
    assert in_one.grad_fn.name() != plain.grad_fn.name()  # type: ignore[union-attr]
    direction = torch.randn_like(plain)  # every node's embedding is asked for, not the roots' alone
    found, expected = (torch.autograd.grad((out * direction).sum(), given) for out in (in_one, plain))
    assert torch.allclose(in_one, plain, atol=1e-13)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)
        assert a.abs().max() > 1e-3


@pytest.mark.parametrize("cell", [simple_cell, gated_cell])
def test_a_fold_in_one_buffer_has_the_gradient_of_what_it_computes(cell: Callable[..., Tensor]) -> None:
    leaves, inputs, *weights = case(cell)

    def folded(*given: Tensor) -> Any:
        return fold(cell, given[0], given[1], CHILDREN, LEVELS, given[2:])

    assert torch.autograd.gradcheck(folded, (leaves, inputs, *weights))


@pytest.mark.parametrize("cell", [simple_cell, gated_cell])
def test_a_forest_of_leaves_alone_is_its_leaves(cell: Callable[..., Tensor]) -> None:
    leaves, inputs, *weights = case(cell)
    out = fold(cell, leaves, inputs[:0], CHILDREN[:0], (), weights)
    assert torch.equal(out, leaves)
    assert torch.equal(torch.autograd.grad(out.sum(), leaves)[0], torch.ones_like(leaves))
