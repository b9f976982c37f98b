"""Every two constituents of the same jet, each pair once and packed, and the sums over them that pairwise
forces need.

A force that obeys Newton's third law needs only the pairs i < j: what j does to i, i does to j with the other
sign. Pairs are rows sorted by i; a second order, by j, lets both sums run over consecutive rows, so that
forward and backward passes are gathers and segment sums (`index_add` and the backward of indexing walk rows
one by one).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Pairs(NamedTuple):
    """Unordered pairs of constituents of the same jet, sum of n_b (n_b - 1)/2 rows.

    Args:
        first, second: [P] rows of the packed constituents, first < second, sorted by `first`, then by
            `second`.
        after: [ΣN + 1]; the pairs with constituent i first are rows after[i]:after[i + 1].
        by_second: [P] the rows sorted by `second`.
        before: [ΣN + 1]; the pairs with constituent j second are rows by_second[before[j]:before[j + 1]].
        share: [ΣN] 1/n of the constituent's jet.
    """

    first: Tensor
    second: Tensor
    after: Tensor
    by_second: Tensor
    before: Tensor
    share: Tensor


def ends_of_pairs(offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`first`, `second` and `after` of `Pairs`, from packed offsets [B + 1]."""
    rows = torch.arange(int(offsets[-1]), device=offsets.device)
    end = offsets[1:].repeat_interleave(offsets.diff(), output_size=len(rows))
    after = F.pad((end - 1 - rows).cumsum(0), (1, 0))
    total = int(after[-1])
    first = rows.repeat_interleave(after.diff(), output_size=total)
    return first, torch.arange(total, device=offsets.device) - after[first] + first + 1, after


def packed_pairs(offsets: Tensor, dtype: torch.dtype = torch.float32) -> Pairs:
    """All pairs within jets, from packed offsets [B + 1]."""
    first, second, after = ends_of_pairs(offsets)
    counts = offsets.diff()
    n = counts.repeat_interleave(counts)
    begin = offsets[:-1].repeat_interleave(counts)
    rows = torch.arange(len(n), device=offsets.device)
    before = F.pad((rows - begin).cumsum(0), (1, 0))
    j = rows.repeat_interleave(before.diff(), output_size=len(first))
    i = torch.arange(len(first), device=offsets.device) - before[j] + begin[j]
    return Pairs(first, second, after, after[i] + j - i - 1, before, 1.0 / n.to(dtype))


def differences(x: Tensor, pairs: Pairs) -> Tensor:
    """x_first - x_second of each pair. Shapes: [ΣN, C] -> [P, C]."""
    return _Differences.apply(x, pairs)  # type: ignore[no-any-return]


def spread(values: Tensor, pairs: Pairs) -> Tensor:
    """To each constituent, the values of the pairs that it is first of, minus those that it is second of.
    Shapes: [P, C] -> [ΣN, C]."""
    return _Spread.apply(values, pairs)  # type: ignore[no-any-return]


def products(x: Tensor, pairs: Pairs) -> Tensor:
    """x_first x_second of each pair. Shapes: [ΣN, C] -> [P, C]."""
    return _Products.apply(x, pairs)  # type: ignore[no-any-return]


class _Differences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        return x.index_select(0, pairs.first).sub_(x.index_select(0, pairs.second))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradients[0], ctx.pairs), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        return _sum(values, None, pairs.after).sub_(_sum(values, pairs.by_second, pairs.before))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Differences.apply(gradients[0], ctx.pairs), None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        ctx.save_for_backward(x)
        return x.index_select(0, pairs.first).mul_(x.index_select(0, pairs.second))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), pairs, (gradient,) = ctx.saved_tensors, ctx.pairs, gradients
        to_first = _sum(x.index_select(0, pairs.second).mul_(gradient), None, pairs.after)
        to_second = _sum(x.index_select(0, pairs.first).mul_(gradient), pairs.by_second, pairs.before)
        return to_first.add_(to_second), None


def _sum(values: Tensor, order: Tensor | None, offsets: Tensor) -> Tensor:
    """Sums of consecutive rows, in an order. Shapes: [P, C], [P], [ΣN + 1] -> [ΣN, C]."""
    if values.shape[0] == 0:
        return values.new_zeros((len(offsets) - 1, values.shape[1]))
    if order is None:
        order = torch.arange(values.shape[0], device=values.device)
    return F.embedding_bag(order, values.contiguous(), offsets, mode="sum", include_last_offset=True)
