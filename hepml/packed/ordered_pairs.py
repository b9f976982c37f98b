"""The fully connected graph of every jet as packed real pairs: no padding, no self-loops, no pair twice.

The pairs of node i stand together, and the nodes in the order of the batch, so that a sum over neighbours is
a sum over contiguous rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hepml.packed.segments import segment_sum


@dataclass(frozen=True, eq=False)
class Pairs:
    """Ordered pairs (i, j), i ≠ j, of nodes of the same jet.

    Args:
        jets: [B + 1] where the nodes of each jet begin and end.
        receiver: [P] node i of each pair, rising.
        sender: [P] node j.
        degree: [ΣN] pairs of each node as the receiver, one less than its jet has nodes.
    """

    jets: Tensor
    receiver: Tensor
    sender: Tensor
    degree: Tensor

    @classmethod
    def of(cls, jets: Tensor) -> Pairs:
        """All pairs of jets packed by the offsets `jets` [B + 1]."""
        counts = jets.diff()
        total = int(jets[-1])
        nodes = torch.arange(total, device=jets.device)
        start = torch.repeat_interleave(jets[:-1], counts, output_size=total)
        degree = torch.repeat_interleave(counts - 1, counts, output_size=total)
        pairs = int((counts * (counts - 1)).sum())
        receiver = torch.repeat_interleave(nodes, degree, output_size=pairs)
        first = torch.cumsum(degree, 0) - degree
        within = (
            torch.arange(pairs, device=jets.device) - first[receiver]
        )  # 0 … degree - 1, skipping i itself below
        sender = start[receiver] + within
        return cls(jets, receiver, sender + (sender >= receiver), degree)

    def __len__(self) -> int:
        return int(self.receiver.shape[0])

    @cached_property
    def width(self) -> int:
        """Nodes of the largest jet."""
        return int(self.jets.diff().max()) if len(self.jets) > 1 else 0

    @cached_property
    def offsets(self) -> Tensor:
        """[ΣN + 1] where the pairs of each receiver begin and end."""
        return torch.nn.functional.pad(torch.cumsum(self.degree, 0), (1, 0))

    @cached_property
    def reverse(self) -> Tensor:
        """The position of the pair (j, i) for each pair (i, j), [P]."""
        first = torch.repeat_interleave(
            self.jets[:-1], self.jets.diff(), output_size=len(self.degree)
        )  # node of the jet
        within = self.receiver - first[self.receiver]
        return self.offsets[self.sender] + within - (self.receiver > self.sender).long()

    @cached_property
    def in_dense(self) -> Tensor:
        """Position of each pair in the flattened [B, width, width] matrices of the jets, [P]."""
        counts = self.jets.diff()
        jets = torch.arange(len(counts), device=self.jets.device)
        jet_of = torch.repeat_interleave(jets, counts, output_size=len(self.degree))[self.receiver]
        start = self.jets[:-1][jet_of]
        return (jet_of * self.width + self.receiver - start) * self.width + self.sender - start

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the neighbours of each node. Shapes: [P, F] -> [ΣN, F]."""
        return segment_sum(values, self.offsets)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the neighbours of each node, zero where it has none. Shapes: [P, F] -> [ΣN, F]."""
        return self.sum(values) / self.degree.clamp_min(1).to(values.dtype)[:, None]
