"""Large buffers on the CPU that outlive a training step, so that the system need not clear their pages
again and again."""

from __future__ import annotations

import torch
from torch import Tensor


class Buffers:
    """A few buffers, taken and given back."""

    def __init__(self) -> None:
        self.free: list[Tensor] = []

    def take(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """An uninitialised [rows, columns], from the smallest free buffer that holds it."""
        size = rows * columns * dtype.itemsize
        fitting = [i for i, buffer in enumerate(self.free) if buffer.numel() >= size]
        if fitting:
            buffer = self.free.pop(min(fitting, key=lambda i: self.free[i].numel()))
        else:
            self.free.clear()  # all too small: batches have grown
            buffer = torch.empty(size + size // 8, dtype=torch.uint8)
        return buffer[:size].view(dtype).view(rows, columns)

    def give(self, tensor: Tensor) -> None:
        """Hands a buffer back."""
        if len(self.free) < 12:
            storage = tensor.untyped_storage()
            self.free.append(torch.empty(0, dtype=torch.uint8).set_(storage))
