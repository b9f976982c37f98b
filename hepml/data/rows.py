"""Rows of packed columns: which belong to chosen jets, and the columns at these rows. Every batch and data
set takes jets through here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepml.data.ragged import Pieces
from hepml.errors import DataError
from hepml.packed.segments import rows_in_order


def positions(jets: Any, total: int, device: torch.device | None = None) -> Tensor:
    """Chosen jets as positions, [B'] int64.

    Args:
        jets: integers (negative ones count from the end), booleans [total], or a slice.
        total: jets there are.

    Raises:
        IndexError: a jet that is not there.
        DataError: booleans of another length.
    """
    plain = isinstance(jets, np.ndarray) and jets.dtype == np.int64 and jets.ndim == 1 and device is None
    # What loaders ask for, every step; as numbers without a sign, negative ones are large
    if plain and len(jets) and jets.view(np.uint64).max() < total:
        return torch.from_numpy(jets)
    if isinstance(jets, slice):
        return torch.arange(*jets.indices(total), device=device)
    which = jets if isinstance(jets, Tensor) else torch.as_tensor(np.asarray(jets))
    which = which.to(device)
    if which.dtype == torch.bool:
        if which.shape != (total,):
            raise DataError(f"{tuple(which.shape)} booleans for {total} jets", mend="give one a jet")
        return which.nonzero().flatten()
    if which.numel() and which.is_floating_point():
        raise DataError("jets are chosen by integers or booleans", mend="convert these numbers to integers")
    which = which.to(torch.int64).reshape(-1)
    if which.device.type == "cpu" and which.numel():  # asking a GPU would stall it
        low, high = (int(v) for v in which.aminmax())
        if low < -total or high >= total:
            raise IndexError(f"jet {low if low < -total else high} of {total}")
        if low >= 0:
            return which
    return torch.where(which < 0, which + total, which)


class JetRows:
    """Rows of the constituents of chosen jets.

    Args:
        offsets: [B + 1].
        jets: [B'] positions.

    Attributes:
        offsets: of those jets alone, [B' + 1].
    """

    def __init__(self, offsets: Tensor, jets: Tensor) -> None:
        self._pieces: Pieces | None = None
        if offsets.device.type == "cpu":
            self._pieces = Pieces(offsets.numpy(), jets.numpy())
            self.offsets = torch.from_numpy(self._pieces.offsets)
            return
        self.rows, self.offsets = rows_in_order(offsets, jets)

    def of(self, t: Tensor) -> Tensor:
        """Their rows of a packed column, as a copy."""
        if self._pieces is None:
            return t[self.rows]
        if t.requires_grad or t.dtype == torch.bfloat16:
            return t[torch.from_numpy(self._pieces.rows)]
        return torch.from_numpy(self._pieces.of(t.numpy()))


def gather(t: Tensor, rows: Tensor) -> Tensor:
    """t[rows]; on a CPU by numpy's take, which is the quicker one for rows of a few numbers."""
    if t.device.type != "cpu" or t.requires_grad or t.dtype == torch.bfloat16:
        return t[rows]
    return torch.from_numpy(t.numpy().take(rows.numpy(), axis=0, mode="clip"))
