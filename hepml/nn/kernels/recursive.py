"""Folding a forest with the simple and the gated cell, forward and backward by hand.

What is computed is `hepml.nn.recursive.fold` with the cell of the same name; this file computes the same with
fewer operations, for a level of a small batch has so few merges that starting an operation takes longer than
carrying it out. Results go straight into buffers over all merges. A node has one parent, so that gradients
are gathered from the parents' and never scattered; those of weights need no level at all and are one product
over all merges at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fold_simple(
    leaves: Tensor, inputs: Tensor, children: Tensor, levels: tuple[int, ...], weight: Tensor
) -> Tensor:
    """`fold` with the simple cell: leaves [N, H], inputs [M, H], children [M, 2], weight [H, 2H] to [N + M,
    H]."""
    return _Simple.apply(leaves, inputs, children, levels, weight)  # type: ignore[no-any-return]


def fold_gated(
    leaves: Tensor, inputs: Tensor, children: Tensor, levels: tuple[int, ...], *weights: Tensor
) -> Tensor:
    """`fold` with the gated cell: leaves [N, H], inputs [M, H], children [M, 2], the six weights in its order
    to [N + M, H]."""
    return _Gated.apply(leaves, inputs, children, levels, *weights)  # type: ignore[no-any-return]


class _Simple(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, leaves: Tensor, inputs: Tensor, children: Tensor, levels: tuple[int, ...], weight: Tensor
    ) -> Tensor:
        n, width = leaves.shape
        out = leaves.new_empty((n + len(children), width))
        out[:n] = leaves
        turned = weight.t()
        both = children.flatten().split([2 * size for size in levels])
        for rows, given, made in zip(both, inputs.split(levels), out[n:].split(levels), strict=True):
            pair = out.index_select(0, rows).view(-1, 2 * width)
            torch.addmm(given, pair, turned, out=made).relu_()
        ctx.save_for_backward(out, children, weight)
        ctx.levels = levels
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        out, children, weight = ctx.saved_tensors
        (given,) = gradients
        width, merges, n = out.shape[1], len(children), len(out) - len(children)
        passed = _Passed(children, out, given)
        before = out.new_empty((merges, width))
        for part in _backwards(ctx.levels):
            own = torch.ops.aten.threshold_backward.grad_input(
                passed.to(slice(n + part.start, n + part.stop)), out[n:][part], 0, grad_input=before[part]
            )
            torch.mm(own, weight, out=passed.pairs[part])
        pairs = out.index_select(0, children.flatten()).view(merges, 2 * width)
        return passed.to(slice(0, n)), before, None, None, before.t() @ pairs


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, leaves: Tensor, inputs: Tensor, children: Tensor, levels: tuple[int, ...], *weights: Tensor
    ) -> Tensor:
        (n, width), merges = leaves.shape, len(children)
        w_r, b_r, w_h, b_h, w_z, b_z = weights
        out = leaves.new_empty((n + merges, width))
        out[:n] = leaves
        every = out.new_empty((merges, 4 * width))  # [h~, h_L, h_R, u]
        every[:, 3 * width :] = inputs
        # What u gives to the gates is known for all merges at once; each level adds what its children give.
        reset = torch.addmm(b_r, inputs, w_r[:, 2 * width :].t())
        share = torch.addmm(b_z, inputs, w_z[:, 3 * width :].t())
        of_pair, new, of_three = w_r[:, : 2 * width].t(), w_h.t(), w_z[:, : 3 * width].t()
        both = children.flatten().split([2 * size for size in levels])
        buffers = (every, reset, share, out[n:])
        for rows, e, r, z, made in zip(both, *(t.split(levels) for t in buffers), strict=True):
            pair = out.index_select(0, rows).view(-1, 2 * width)
            e[:, width : 3 * width] = pair
            r.addmm_(pair, of_pair).sigmoid_()
            e[:, :width] = torch.addmm(b_h, r * e[:, width:], new).relu_()
            z.addmm_(e[:, : 3 * width], of_three)
            s, e = z.view(-1, 4, width), e.view(-1, 4, width)
            torch.softmax(s, 1, out=s)
            torch.sum(s * e, dim=1, out=made)
        ctx.save_for_backward(out, children, every, reset, share, *weights)
        ctx.levels = levels
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        out, children, every, reset, share, w_r, _, w_h, _, w_z, _ = ctx.saved_tensors
        (given,) = gradients
        width, merges, n = out.shape[1], len(children), len(out) - len(children)
        passed = _Passed(children, out, given)
        to_inputs = out.new_empty((merges, width))
        d_reset, d_new, d_share = out.new_empty((merges, 8 * width)).split(
            [3 * width, width, 4 * width], dim=1
        )
        for part in _backwards(ctx.levels):
            dh = passed.to(slice(n + part.start, n + part.stop))[:, None]
            e, r, h = every[part], reset[part], out[n:][part][:, None]
            # The softmax's sum over the four is h dh, so that its gradient is z dh (e - h).
            de = share[part].view(-1, 4, width) * dh
            dz = (de * (e.view(-1, 4, width) - h)).view(-1, 4 * width)
            d_share[part] = dz
            de = de.view(-1, 4 * width).addmm_(dz, w_z)
            dn = torch.ops.aten.threshold_backward(de[:, :width], e[:, :width], 0)
            d_new[part] = dn
            dt = torch.mm(dn, w_h)
            dr = torch.ops.aten.sigmoid_backward(dt * e[:, width:], r)
            d_reset[part] = dr
            dg = torch.addcmul(de[:, width:], dt, r).addmm_(dr, w_r)
            passed.pairs[part] = dg[:, : 2 * width]
            to_inputs[part] = dg[:, 2 * width :]
        g = every[:, width:]
        of_weights = (
            *(d_reset.t() @ g, d_reset.sum(0)),
            *(d_new.t() @ (reset * g), d_new.sum(0)),
            *(d_share.t() @ every, d_share.sum(0)),
        )
        return passed.to(slice(0, n)), to_inputs, None, None, *of_weights


class _Passed:
    """What parents hand to their children, and from it the gradient of any node whose parent is done.

    Args:
        children: [M, 2].
        out: [N + M, H] embeddings.
        given: [N + M, H] gradient that the nodes are given from elsewhere.
    """

    def __init__(self, children: Tensor, out: Tensor, given: Tensor) -> None:
        merges, width = len(children), out.shape[1]
        self.given = given
        buffer = out.new_empty((2 * merges + 1, width))
        buffer[-1] = 0  # what a root is handed
        self.slots = buffer
        self.pairs = buffer[:-1].view(merges, 2 * width)
        self.slot_of = torch.full((len(out),), 2 * merges, device=out.device)
        self.slot_of[children.flatten()] = torch.arange(2 * merges, device=out.device)

    def to(self, nodes: slice) -> Tensor:
        """[K, H] gradients of these nodes."""
        return self.slots.index_select(0, self.slot_of[nodes]).add_(self.given[nodes])


def _backwards(levels: tuple[int, ...]) -> Iterator[slice]:
    """The merges of each level, from the highest."""
    stop = sum(levels)
    for size in reversed(levels):
        yield slice(stop - size, stop)
        stop -= size
