"""The dense view: packed constituents as [B, P, C], padded to the batch's own largest jet.

For models and steps that need a rectangle (images of sequences, attention, the distance matrix of a neighbour
search). The packed tensor stays the truth; `to_packed` is the way back.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rows_in_dense(offsets: Tensor, width: int) -> Tensor:
    """Row of the flattened [B · width] rectangle at which each constituent stands, [ΣN] int64."""
    counts = offsets.diff()
    jets = torch.arange(len(counts), device=offsets.device)
    total = int(offsets[-1] - offsets[0]) if len(offsets) else 0
    shift = torch.repeat_interleave(jets * width - (offsets[:-1] - offsets[0]), counts, output_size=total)
    return shift + torch.arange(total, device=offsets.device)


def mask_of(offsets: Tensor, width: int) -> Tensor:
    """True where a constituent stands, [B, width] bool."""
    return torch.arange(width, device=offsets.device) < offsets.diff()[:, None]


def to_dense(values: Tensor, offsets: Tensor, width: int | None = None, fill: float = 0.0) -> Tensor:
    """Packed values [ΣN, C] as [B, width, C], padded with `fill`.

    Args:
        values: [ΣN, C].
        offsets: [B + 1].
        width: constituents a jet in the rectangle; the largest jet's count where left out. Never smaller than
            that.
        fill: what stands where there is no constituent.
    """
    counts = offsets.diff()
    if width is None:
        width = int(counts.max()) if len(counts) else 0
    out = values.new_full((len(counts) * width, values.shape[1]), fill)
    out = out.index_copy(0, rows_in_dense(offsets, width), values)
    return out.view(len(counts), width, values.shape[1])


def to_packed(dense: Tensor, offsets: Tensor) -> Tensor:
    """The packed rows [ΣN, C] of a dense view [B, P, C]."""
    return dense.flatten(0, 1).index_select(0, rows_in_dense(offsets, dense.shape[1]))
