"""Sums and means over the constituents of each jet, on packed tensors.

Packed values [ΣN, C] are reduced to [B, C] without padding. A jet without constituents gives zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.packed.rectangular import counts_of, jets_of, mask_behind, spread


def jet_of_rows(offsets: Tensor, rows: int) -> Tensor:
    """The jet that each of the packed rows belongs to, [rows] int64, from offsets [B + 1]."""
    return spread(torch.arange(jets_of(offsets), device=offsets.device), offsets, rows)


def rows_in_order(offsets: Tensor, order: Tensor, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """The rows of some jets one after the other, and where these jets then begin and end.

    Args:
        offsets: [B + 1] int64.
        order: [B'] positions of jets.
        rows: how many rows they have together, where it is known: the device is not asked then.

    Returns:
        [rows] int64 positions of packed rows, and offsets [B' + 1].
    """
    counts = counts_of(offsets)[order]
    moved = F.pad(counts.cumsum(0), (1, 0))
    rows = int(moved[-1]) if rows is None else rows
    shift = torch.repeat_interleave(offsets[order] - moved[:-1], counts, output_size=rows)
    return shift + torch.arange(rows, device=offsets.device), moved


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum over each jet's rows, sum_{i in jet b} values_i; 16-bit values are summed in float32.

    Args:
        values: [ΣN, C].
        offsets: [B + 1] int64.

    Returns:
        [B, C]; zeros for jets without rows.
    """
    mask = mask_behind(offsets)
    if mask is not None:
        return values.view(*mask.shape, values.shape[1]).masked_fill(~mask[..., None], 0.0).sum(1)
    exact = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    out = exact.new_zeros((len(offsets) - 1, values.shape[1]))
    return out.index_add(0, jet_of_rows(offsets, len(values)), exact).to(values.dtype)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean over each jet's rows, [B, C]; zeros for jets without rows."""
    counts = counts_of(offsets).clamp_min(1).to(values.dtype)
    return segment_sum(values, offsets) / counts[:, None]
