"""Folding a forest level by level in one buffer that each level reads and extends, for any cell.

`hepml.nn.recursive.fold` is the definition, which joins the embeddings of each level to all before. Autograd
cannot follow a buffer that is written in place; this keeps a small graph a level and runs them backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# (pair [K, 2H], inputs [K, C], weights...) -> [K, H]
Cell = Callable[..., Tensor]


def fold_by_levels(
    cell: Cell,
    leaves: Tensor,
    inputs: Tensor,
    children: Tensor,
    levels: tuple[int, ...],
    weights: Sequence[Tensor],
) -> Tensor:
    """`hepml.nn.recursive.fold`; differentiable once."""
    out: Tensor = _Fold.apply(cell, children, levels, leaves, inputs, *weights)
    return out


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        children: Tensor,
        levels: tuple[int, ...],
        leaves: Tensor,
        inputs: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        n, width = leaves.shape
        embedding = leaves.new_empty((n + len(children), width))
        embedding[:n] = leaves
        learn = any(ctx.needs_input_grad)
        own = [w.detach().requires_grad_(learn) for w in weights]
        steps, start = [], 0
        with torch.set_grad_enabled(learn):
            for size in levels:
                both = children[start : start + size].flatten()
                pair = embedding.detach().index_select(0, both).view(size, 2 * width).requires_grad_(learn)
                given = inputs.detach()[start : start + size].requires_grad_(learn)
                out = cell(pair, given, *own)
                embedding[n + start : n + start + size] = out.detach()
                if learn:
                    steps.append((start, both, pair, given, out))
                start += size
        ctx.steps, ctx.own, ctx.leaves = steps, own, n
        ctx.shapes = inputs.shape, inputs.dtype
        return embedding

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        gradient, n = gradients[0].clone(), ctx.leaves
        width = gradient.shape[1]
        to_inputs = gradient.new_zeros(ctx.shapes[0], dtype=ctx.shapes[1])
        to_weights: list[Tensor | None] = [torch.zeros_like(w) for w in ctx.own]
        for start, both, pair, given, out in reversed(ctx.steps):
            size = len(given)
            step = gradient[n + start : n + start + size].to(out.dtype)
            pairs, here, *own = torch.autograd.grad(out, (pair, given, *ctx.own), step, retain_graph=True)
            gradient.index_add_(0, both, pairs.reshape(-1, width).to(gradient.dtype))
            to_inputs[start : start + size] = here
            for total, part in zip(to_weights, own, strict=True):
                assert total is not None
                total += part
        return (None, None, None, gradient[:n], to_inputs, *to_weights)
