"""Jets whose constituents stand in a rectangle, [B · N] rows of which a mask says which are there: the layout
of an exported network.

A graph that is written to a file cannot ask the data how long a tensor is. In this layout no length depends
on the data: every jet has N rows, present or absent, and the offsets are multiples of N. The offsets carry
the mask with them; sums, neighbours, pairs and dense views look for it (`mask_behind`) and then take a shape
where they would count. So an exported network is the packed one, with absent rows left out of every sum.
Nothing outside of `hepml.inference.exporting` makes such offsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_NAME = "_hepml_mask"


@dataclass(frozen=True, eq=False)
class Present:
    """Which rows of a rectangle there are: what costs much a row is computed for these alone.

    How many they are is a length that depends on the data, which a graph can have for the rows of one layer.

    Args:
        rows: [R] the rows.
        places: [B · N] where among them each row of the rectangle is; R where it is absent.
    """

    rows: Tensor
    places: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> Present | None:
        """Of jets in a rectangle; None for packed jets, of which there are all."""
        mask = mask_behind(offsets)
        if mask is None:
            return None
        flat = mask.flatten()
        rows = flat.nonzero()[:, 0]
        return cls(rows, torch.where(flat, flat.cumsum(0) - 1, rows.shape[0]))

    def spread(self, values: Tensor) -> Tensor:
        """Values of these rows among zeros. Shapes: [R, C] -> [B · N, C]."""
        return F.pad(values, (0, 0, 0, 1)).index_select(0, self.places)


def rectangular(mask: Tensor) -> Tensor:
    """Offsets [B + 1] of jets in a rectangle, which know their mask [B, N]."""
    jets, width = mask.shape
    offsets = torch.arange(jets + 1, device=mask.device) * width
    setattr(offsets, _NAME, mask)
    return offsets


def mask_behind(offsets: Tensor) -> Tensor | None:
    """The mask [B, N] of jets in a rectangle; None for packed jets."""
    mask: Tensor | None = getattr(offsets, _NAME, None)
    return mask


def known_mask(offsets: Tensor) -> Tensor:
    """The mask [B, N] of jets that are known to be in a rectangle."""
    mask = mask_behind(offsets)
    assert mask is not None
    return mask


def counts_of(offsets: Tensor) -> Tensor:
    """Constituents of each jet, [B] int64, in either layout."""
    mask = mask_behind(offsets)
    return offsets[1:] - offsets[:-1] if mask is None else mask.sum(1)


def jets_of(offsets: Tensor) -> int:
    """How many jets there are; a size of the graph where one is recorded (`len` would make it a constant)."""
    mask = mask_behind(offsets)
    return offsets.shape[0] - 1 if mask is None else mask.shape[0]


def spread(values: Tensor, offsets: Tensor, rows: int) -> Tensor:
    """The value of its jet for each row. Shapes: [B, ...] -> [rows, ...]."""
    mask = mask_behind(offsets)
    if mask is None:
        return torch.repeat_interleave(values, offsets.diff(), dim=0, output_size=rows)
    return values[:, None].expand(-1, mask.shape[1], *values.shape[1:]).flatten(0, 1)


def widened(mask: Tensor, extra: int) -> Tensor:
    """The mask where so many rows that are always there stand before each jet's own. Shapes: [B, N] -> [B,
    extra + N]."""
    return torch.cat((mask.new_ones((mask.shape[0], extra)), mask), dim=1)
