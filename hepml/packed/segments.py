"""Sums and means over the constituents of each jet, on packed tensors.

Packed values [ΣN, C] are reduced to [B, C] without padding. A jet without constituents gives zeros. The
forward pass of the sum is an embedding bag (one vectorised pass over the rows on every device), its backward
a row gather; torch's `index_add` walks rows one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows taken at a time on a CPU.
_ROWS = 4096


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum over each jet's rows, sum_{i in jet b} values_i.

    Args:
        values: [ΣN, C].
        offsets: [B + 1] int64.

    Returns:
        [B, C]; zeros for jets without rows.
    """
    return _SegmentSum.apply(values, offsets)  # type: ignore[no-any-return]


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean over each jet's rows, [B, C]; zeros for jets without rows."""
    counts = (offsets[1:] - offsets[:-1]).clamp_min(1).to(values.dtype)
    return segment_sum(values, offsets) / counts[:, None]


def sum_of(function: Callable[[Tensor], Tensor], values: Tensor, offsets: Tensor) -> Tensor:
    """sum_{i in jet b} function(values_i): `segment_sum(function(values), offsets)`, on a CPU taken for a few
    jets at a time.

    What the function makes of a few thousand rows stays in the cache while it is multiplied, summed and
    differentiated.

    Args:
        function: from rows [M, C] to rows [M, C'], each row for itself.
        values: [ΣN, C].
        offsets: [B + 1].

    Returns:
        [B, C'].
    """
    rows, jets = values.shape[0], len(offsets) - 1
    if values.device.type != "cpu" or rows <= _ROWS or torch.compiler.is_compiling():
        return segment_sum(function(values), offsets)
    pieces = -(-rows // _ROWS)
    ends = torch.searchsorted(offsets, torch.arange(1, pieces) * (rows // pieces)).unique().tolist()
    parts = []
    for low, high in pairwise([0, *(e for e in ends if 0 < e < jets), jets]):
        own = offsets[low : high + 1]
        first, last = int(own[0]), int(own[-1])
        parts.append(segment_sum(function(values[first:last]), own - first))
    return torch.cat(parts)


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(offsets)
        ctx.rows = values.shape[0]
        if values.shape[0] == 0 or len(offsets) < 2:
            return values.new_zeros((len(offsets) - 1, values.shape[1]))
        rows = torch.arange(values.shape[0], device=values.device)
        return F.embedding_bag(rows, values, offsets, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (offsets,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient.repeat_interleave(offsets.diff(), dim=0, output_size=ctx.rows), None
