"""Dropout that draws a random number for each entry it drops, not for each it keeps.

On a CPU torch's own dropout draws one number an entry, which was measured to be a quarter of a transformer's
training step. How many entries lie between two that are dropped follows the geometric distribution,

    P(gap = k) = (1 - p)^k p,   gap = floor(ln(1 - u) / ln(1 - p)),  u uniform in [0, 1),

so that a tenth of the numbers is enough for p = 0.1, and each entry is still dropped by itself with
probability p. The numbers come from torch's default generator: seeds and resumed runs work as ever. On other
devices, and in a compiled network, torch's dropout is one fused pass already and the gate leaves it alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.kernels.gate import allows

# Shares of this and less, of this many entries and more, are worth it.
_LARGEST_SHARE = 0.25
_FEWEST = 8192


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x with each entry zeroed with probability p, and scaled to keep its mean; x itself in evaluation."""
    if not training or p == 0:
        return x
    if p > _LARGEST_SHARE or x.numel() < _FEWEST or not allows("dropout", x, autocast=True):
        return F.dropout(x, p, True)
    keep = torch.full((x.numel() + 2,), 1 / (1 - p), dtype=x.dtype)
    keep.index_fill_(0, dropped(x.numel(), p), 0)
    return x * keep[1:-1].view(x.shape)


def dropped(entries: int, p: float) -> Tensor:
    """Which of the entries 1, 2, ..., each by itself with probability p; the rest is `entries` + 1."""
    enough = int(entries * p + 8 * math.sqrt(entries * p)) + 16  # they end before the last entry once in 1e15
    gaps = torch.rand(enough, dtype=torch.float32).neg_().log1p_().mul_(1 / math.log1p(-p)).floor_()
    return gaps.add_(1).cumsum(0, dtype=torch.int64).clamp_(max=entries + 1)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape kept."""
        return dropout(input, self.p, self.training)
