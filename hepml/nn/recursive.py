"""Folding a forest of binary trees from the leaves to the roots, level by level, for all jets at once.

A node's embedding depends on its two children's, so a batch takes as many steps as its highest tree has
levels. Embeddings of all nodes stand in one buffer that each step reads and extends; autograd cannot follow a
buffer that is written in place, so `fold` is one autograd function that keeps a small graph a level and runs
them backwards. Cells are pure functions of arrays and weights; the simple and the gated one have faster
passes of their own in `hepml.nn.kernels.recursive`, out of mixed precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hepml.nn.kernels.recursive import fold_gated, fold_simple

# (pair [K, 2H], inputs [K, C], weights...) -> [K, H]
Cell = Callable[..., Tensor]


def fold(
    cell: Cell,
    leaves: Tensor,
    inputs: Tensor,
    children: Tensor,
    levels: Sequence[int],
    weights: Sequence[Tensor],
) -> Tensor:
    """Embeddings of all nodes.

    Args:
        cell: (pair [K, 2H], inputs [K, C], *weights) -> [K, H], each row for itself; `pair` is [h_L, h_R].
        leaves: [N, H] embeddings of the leaves.
        inputs: [M, C] inputs of the merges.
        children: [M, 2] nodes that each merge joins (see `hepml.representations.trees.Forest`).
        levels: merges on each level, from the lowest.
        weights: what the cell needs beside.

    Returns:
        [N + M, H].
    """
    plain = not torch.is_autocast_enabled(leaves.device.type) and not torch.compiler.is_compiling()
    if plain and len({t.dtype for t in (leaves, inputs, *weights)}) == 1:
        if cell is simple_cell:
            return fold_simple(leaves, inputs, children, tuple(levels), *weights)
        if cell is gated_cell:
            return fold_gated(leaves, inputs, children, tuple(levels), *weights)
    return _Fold.apply(cell, children, tuple(levels), leaves, inputs, *weights)  # type: ignore[no-any-return]


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


def simple_cell(pair: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """h = relu(W_h [h_L, h_R, u] + b), with `inputs` the part W_u u + b, taken for all merges at once, and
    `weight` [H, 2H] the rest."""
    return torch.relu_(torch.addmm(inputs, pair, weight.t()))


def gated_cell(
    pair: Tensor,
    u: Tensor,
    reset_weight: Tensor,
    reset_bias: Tensor,
    new_weight: Tensor,
    new_bias: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
) -> Tensor:
    """The gated recursive unit of arXiv:1702.00748.

    [r_L, r_R, r_N] = sigmoid(W_r [h_L, h_R, u] + b_r)
    h~ = relu(W_h [r_L h_L, r_R h_R, r_N u] + b_h)
    [z_H, z_L, z_R, z_N] = softmax over the four, unit by unit, of W_z [h~, h_L, h_R, u] + b_z
    h = z_H h~ + z_L h_L + z_R h_R + z_N u
    """
    given = torch.cat((pair, u), dim=1)
    reset = torch.sigmoid(F.linear(given, reset_weight, reset_bias))
    new = torch.relu(F.linear(reset * given, new_weight, new_bias))
    every = torch.cat((new.to(given.dtype), given), dim=1)
    share = F.linear(every, mix_weight, mix_bias).view(len(u), 4, -1).softmax(dim=1)
    return (share * every.view(len(u), 4, -1)).sum(dim=1)


def networked_cell(
    pair: Tensor,
    inputs: Tensor,
    weight: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
) -> Tensor:
    """The simple cell with a network of two layers on top of it (network in network)."""
    h = simple_cell(pair, inputs, weight)
    return torch.relu(F.linear(torch.relu(F.linear(h, first, first_bias)), second, second_bias))
