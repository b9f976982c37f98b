"""Differences and products of the constituents of each pair i < j, and sums over pairs, with gradients that
are gathers and sums over consecutive rows on a CPU.

`hepml.packed.pairs.UnorderedPairs` has the definitions. There the gradient of a gather adds rows one by one
(`index_add`); here pairs are summed in the order of their first and in the order of their second constituent.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hepml.nn.kernels.gate import allows
from hepml.packed.pairs import UnorderedPairs


def differences(x: Tensor, pairs: UnorderedPairs) -> Tensor:
    """x_i - x_j of each pair. Shapes: [M, C] -> [U, C]."""
    if not allows("pair_sums", x, autocast=True):
        return pairs.differences(x)
    out: Tensor = _Differences.apply(x, pairs)
    return out


def spread(values: Tensor, pairs: UnorderedPairs) -> Tensor:
    """To each constituent, the values of the pairs that it is first of, minus those that it is second of.
    Shapes: [U, C] -> [M, C]."""
    if not allows("pair_sums", values, autocast=True):
        return pairs.spread(values)
    out: Tensor = _Spread.apply(values, pairs)
    return out


def products(x: Tensor, pairs: UnorderedPairs) -> Tensor:
    """x_i x_j of each pair. Shapes: [M, C] -> [U, C]."""
    if not allows("pair_sums", x, autocast=True):
        return pairs.products(x)
    out: Tensor = _Products.apply(x, pairs)
    return out


class _Differences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: UnorderedPairs) -> Tensor:
        ctx.pairs = pairs
        return x.index_select(0, pairs.first).sub_(x.index_select(0, pairs.second))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradients[0], ctx.pairs), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pairs: UnorderedPairs) -> Tensor:
        ctx.pairs = pairs
        return _to_first(values, pairs).sub_(_to_second(values, pairs))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Differences.apply(gradients[0], ctx.pairs), None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: UnorderedPairs) -> Tensor:
        ctx.pairs = pairs
        ctx.save_for_backward(x)
        return x.index_select(0, pairs.first).mul_(x.index_select(0, pairs.second))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), pairs, (gradient,) = ctx.saved_tensors, ctx.pairs, gradients
        first = _to_first(x.index_select(0, pairs.second).mul_(gradient), pairs)
        return first.add_(_to_second(x.index_select(0, pairs.first).mul_(gradient), pairs)), None


def _to_first(values: Tensor, pairs: UnorderedPairs) -> Tensor:
    return _sums(torch.arange(len(values)), values, pairs.after)


def _to_second(values: Tensor, pairs: UnorderedPairs) -> Tensor:
    return _sums(pairs.by_second, values, pairs.before)


def _sums(order: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    """Sums of consecutive rows, in an order. Shapes: [U], [U, C], [M + 1] -> [M, C]."""
    if len(values) == 0:
        return values.new_zeros((len(starts) - 1, values.shape[1]))
    return F.embedding_bag(order, values.contiguous(), starts, mode="sum", include_last_offset=True)
