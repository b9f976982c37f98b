"""Dropout whose random numbers are cheap on a CPU.

torch draws one uniform number an entry on a CPU, which was measured to be a fifth of a Particle Transformer's
training step. One byte decides as well: an entry is dropped where its byte is below round(256 p), eight
entries for one 64-bit draw. The probability is that multiple of 1/256 (0.1 becomes 0.1016), and what is kept
is scaled by the inverse of what that keeps, so that expectations are exact. Bytes come from a fast generator
of numpy's that is seeded by torch's own at each call: seeds and resumed runs work as ever.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.kernels.gate import allows


def threshold(p: float) -> int:
    """Bytes below this are dropped, 0 to 256."""
    return round(256 * p)


def random_bytes(entries: int) -> Tensor:
    """[entries] uint8, determined by torch's default generator on the CPU.

    SFC64 takes half the time of torch's generator for as many bytes.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    return torch.from_numpy(np.random.SFC64(seed).random_raw(-(-entries // 8)).view(np.uint8))[:entries]


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x with each entry zeroed with probability p, and scaled to keep its mean; x itself in evaluation."""
    if not training or p <= 0:
        return x
    cut = threshold(p)
    if not 0 < cut < 256 or not allows("byte_dropout", x, autocast=True):
        return F.dropout(x, p, True)
    keep = torch.ge(random_bytes(x.numel()), cut, out=torch.empty(x.numel(), dtype=x.dtype)).view(x.shape)
    return x * keep.mul_(256 / (256 - cut))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)
