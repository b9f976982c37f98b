"""Sums and means over the constituents of each jet, on packed tensors.

Packed values [ΣN, C] are reduced to [B, C] without padding. A jet without constituents gives zeros. The forward pass of the sum is an
embedding bag (one vectorised pass over the rows on every device), its backward a row gather; torch's `index_add` walks rows one by one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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
