"""The fully connected graph of every jet as packed real pairs: no padding, no self-loops, no pair twice.

The pairs of node i stand together, and the nodes in the order of the batch, so that a sum over neighbours is a sum over contiguous rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """Ordered pairs (i, j), i ≠ j, of nodes of the same jet.

    Args:
        receiver: [P] node i of each pair, rising.
        sender: [P] node j.
        degree: [ΣN] pairs of each node as the receiver, one less than its jet has nodes.
    """

    receiver: Tensor
    sender: Tensor
    degree: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> Pairs:
        """All pairs of jets packed by `offsets` [B + 1]."""
        counts = offsets.diff()
        total = int(offsets[-1])
        nodes = torch.arange(total, device=offsets.device)
        start = torch.repeat_interleave(offsets[:-1], counts, output_size=total)
        degree = torch.repeat_interleave(counts - 1, counts, output_size=total)
        pairs = int((counts * (counts - 1)).sum())
        receiver = torch.repeat_interleave(nodes, degree, output_size=pairs)
        first = torch.cumsum(degree, 0) - degree
        within = torch.arange(pairs, device=offsets.device) - first[receiver]  # 0 … degree - 1, skipping i itself below
        sender = start[receiver] + within
        return cls(receiver, sender + (sender >= receiver), degree)

    def __len__(self) -> int:
        return int(self.receiver.shape[0])

    @cached_property
    def offsets(self) -> Tensor:
        """[ΣN + 1] where the pairs of each receiver begin and end."""
        return torch.nn.functional.pad(torch.cumsum(self.degree, 0), (1, 0))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the neighbours of each node. Shapes: [P, F] -> [ΣN, F]."""
        out = values.new_zeros((self.degree.shape[0], values.shape[1]))
        return out.index_add_(0, self.receiver, values)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the neighbours of each node, zero where it has none. Shapes: [P, F] -> [ΣN, F]."""
        return self.sum(values) / self.degree.clamp_min(1).to(values.dtype)[:, None]
