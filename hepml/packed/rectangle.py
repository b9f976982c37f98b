"""The padded rectangle: packed constituents as [B, P, C], P at least the count of the largest jet.

For models and steps that need one (sequences for convolutions, attention, the distance matrix of a neighbour
search). The packed tensor stays the truth; `to_packed` is the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepml.packed.rectangular import mask_behind


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Where packed rows stand in the dense [B, P] of their jets.

    Args:
        offsets: [B + 1], beginning at 0.
        width: P, at least the count of the largest jet.
        rows: [ΣN] place of each packed row in the flattened rectangle.
        mask: [B, P] True where a constituent stands.
    """

    offsets: Tensor
    width: int
    rows: Tensor
    mask: Tensor

    @classmethod
    def of(cls, offsets: Tensor, width: int, rows: int | None = None) -> Rectangle:
        """The rectangle of jets with these offsets; `rows` is ΣN, where it is known."""
        return cls(offsets, width, rows_in_dense(offsets, width, rows), mask_of(offsets, width))

    @property
    def jets(self) -> int:
        """B."""
        return self.mask.shape[0]

    @property
    def is_full(self) -> bool:
        """Whether there is no padding."""
        return mask_behind(self.offsets) is None and self.rows.shape[0] == self.jets * self.width

    def dense(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """Packed [ΣN, C] to [B, P, C], `fill` where there is none."""
        if mask_behind(self.offsets) is not None:
            dense = x.view(*self.mask.shape, x.shape[1])
            if dense.dtype == torch.bool and not fill:
                return dense & self.mask[..., None]
            return dense.masked_fill(~self.mask[..., None], fill)
        out = x.new_full((self.jets * self.width, x.shape[1]), fill)
        return out.index_copy(0, self.rows, x).view(self.jets, self.width, x.shape[1])

    def packed(self, x: Tensor) -> Tensor:
        """[B, P, C] to packed [ΣN, C]."""
        flat = x.flatten(0, 1)
        return flat if mask_behind(self.offsets) is not None else flat.index_select(0, self.rows)

    def key_bias(self, dtype: torch.dtype) -> Tensor:
        """[B, 1, 1, P] to add to attention scores: zero at constituents, very negative at padding."""
        bias = torch.zeros(self.mask.shape, dtype=dtype, device=self.mask.device)
        return bias.masked_fill(~self.mask, masking_value(dtype))[:, None, None]


def masking_value(dtype: torch.dtype) -> float:
    """What stands at padded keys before the softmax: finite, so that a jet without constituents has no NaN,
    and zero after it."""
    return torch.finfo(dtype).min / 4


def rows_in_dense(offsets: Tensor, width: int, rows: int | None = None) -> Tensor:
    """Row of the flattened [B · width] rectangle at which each constituent stands, [ΣN] int64; `rows` is ΣN,
    where it is known."""
    mask = mask_behind(offsets)
    if mask is not None:
        return torch.arange(mask.shape[0] * mask.shape[1], device=offsets.device)
    counts = offsets.diff()
    if rows is None:
        rows = int(offsets[-1] - offsets[0]) if len(offsets) else 0
    jets = torch.arange(len(counts), device=offsets.device)
    shift = torch.repeat_interleave(jets * width - (offsets[:-1] - offsets[0]), counts, output_size=rows)
    return shift + torch.arange(rows, device=offsets.device)


def mask_of(offsets: Tensor, width: int) -> Tensor:
    """True where a constituent stands, [B, width] bool."""
    mask = mask_behind(offsets)
    return torch.arange(width, device=offsets.device) < offsets.diff()[:, None] if mask is None else mask


def widest(offsets: Tensor) -> int:
    """Constituents of the largest jet, asked of the device."""
    mask = mask_behind(offsets)
    if mask is not None:
        return mask.shape[1]
    return int(offsets.diff().max()) if len(offsets) > 1 else 0


def to_dense(values: Tensor, offsets: Tensor, width: int | None = None, fill: float = 0.0) -> Tensor:
    """Packed values [ΣN, C] as [B, width, C], padded with `fill`.

    Args:
        values: [ΣN, C].
        offsets: [B + 1].
        width: constituents a jet in the rectangle; the largest jet's count where left out. Never smaller than
            that.
        fill: what stands where there is no constituent.
    """
    return Rectangle.of(offsets, widest(offsets) if width is None else width, values.shape[0]).dense(
        values, fill
    )


def to_packed(dense: Tensor, offsets: Tensor, rows: int | None = None) -> Tensor:
    """The packed rows [ΣN, C] of a dense view [B, P, C]."""
    if mask_behind(offsets) is not None:
        return dense.flatten(0, 1)
    return dense.flatten(0, 1).index_select(0, rows_in_dense(offsets, dense.shape[1], rows))
