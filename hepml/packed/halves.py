"""Rank-2 tensors of packed jets in halves: the diagonal, then T_ij of all i < j of the same jet, then T_ji in
the same order.

To transpose is to exchange the halves, so that T_ij + T_ji and T_ij - T_ji are sums of contiguous rows, half
as many as there are pairs. Where T_ij and T_ji are mixed by two matrices, these two need half the
multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.packed.lazy import lazy
from hepml.packed.pairs import UnorderedPairs, in_matrices
from hepml.packed.rectangle import widest
from hepml.packed.segments import segment_sum


@dataclass(frozen=True, eq=False)
class Halves:
    """The U unordered pairs of M nodes; a tensor of rank 2 is [M + 2 U, C]. Indices are int32.

    Args:
        offsets: [B + 1] int64 where the nodes of each jet begin and end.
        first, second: [U] nodes i < j, in rising order.
        starts: [M + 1] where the pairs of each node begin in `of_receiver`.
        of_receiver: [2 U] rows of the two halves (i, j), for each i.
        largest: nodes of the largest jet, where it is known.
    """

    offsets: Tensor
    first: Tensor
    second: Tensor
    starts: Tensor
    of_receiver: Tensor
    largest: int | None = None

    @classmethod
    def of(
        cls, offsets: Tensor, nodes: int | None = None, total: int | None = None, largest: int | None = None
    ) -> Halves:
        """All pairs of jets packed by these offsets [B + 1]; `nodes` and `total` are the numbers of
        nodes and of unordered pairs, and `largest` the nodes of the largest jet, where they are known."""
        pairs = UnorderedPairs.of(offsets, nodes, total)
        first, second, before = pairs.first, pairs.second, pairs.after
        counts, device, size = offsets.diff(), offsets.device, len(first)
        count = len(before) - 1
        node = torch.arange(count, device=device)
        start = torch.repeat_interleave(offsets[:-1], counts, output_size=count)
        degree = torch.repeat_interleave(counts - 1, counts, output_size=count)
        receiver = torch.repeat_interleave(node, degree, output_size=2 * size)
        starts = F.pad(degree.cumsum(0), (1, 0))
        sender = torch.arange(2 * size, device=device) - starts[receiver] + start[receiver]
        sender += sender >= receiver
        low, high = torch.minimum(receiver, sender), torch.maximum(receiver, sender)
        rows = before[low] + high - low - 1 + size * (sender < receiver)
        return cls(offsets, first.int(), second.int(), starts.int(), rows.int(), largest)

    @property
    def nodes(self) -> int:
        """M."""
        return len(self.starts) - 1

    @property
    def rows(self) -> int:
        """M + 2 U."""
        return self.nodes + 2 * len(self)

    def __len__(self) -> int:
        """U."""
        return len(self.first)

    @lazy
    def width(self) -> int:
        """Nodes of the largest jet."""
        return widest(self.offsets) if self.largest is None else self.largest

    @lazy
    def of_sender(self) -> Tensor:
        """[2 U] rows (j, i), for each i."""
        size = len(self)
        return torch.where(self.of_receiver < size, self.of_receiver + size, self.of_receiver - size)

    @lazy
    def ends(self) -> Tensor:
        """[U, 2] both nodes of each pair."""
        return torch.stack((self.first, self.second), dim=1)

    @lazy
    def opposite_ends(self) -> Tensor:
        """[U, 2] where x_i and -x_j stand in (x, -x)."""
        return torch.stack((self.first, self.second + self.nodes), dim=1)

    @lazy
    def jet_starts(self) -> Tensor:
        """[B + 1] where the unordered pairs of each jet begin."""
        counts = self.offsets.diff()
        return F.pad((counts * (counts - 1) // 2).cumsum(0), (1, 0))

    @lazy
    def in_dense(self) -> Tensor:
        """[U] position of each (i, j) in the flattened matrices [B, width, width] of the jets."""
        return in_matrices(self.offsets, self.width, self.first, self.second, self.nodes)

    def received(self, off: Tensor) -> Tensor:
        """sum_j T_ij, j ≠ i. Shapes: [2 U, C] -> [M, C]."""
        return self._bags(off, self.of_receiver)

    def sent(self, off: Tensor) -> Tensor:
        """sum_j T_ji, j ≠ i. Shapes: [2 U, C] -> [M, C]."""
        return self._bags(off, self.of_sender)

    def sums(self, x: Tensor) -> Tensor:
        """x_i + x_j of each pair. Shapes: [M, C] -> [U, C]."""
        return F.embedding_bag(self.ends, x, mode="sum") if len(self) else x.new_empty((0, x.shape[1]))

    def differences(self, x: Tensor) -> Tensor:
        """x_i - x_j of each pair. Shapes: [M, C] -> [U, C]."""
        return (
            F.embedding_bag(self.opposite_ends, torch.cat((x, -x)), mode="sum")
            if len(self)
            else x.new_empty((0, x.shape[1]))
        )

    def of_jets(self, off: Tensor) -> Tensor:
        """sum over i ≠ j of T_ij. Shapes: [2 U, C] -> [B, C]."""
        up, down = off.split((len(self), len(self)))
        return segment_sum(up, self.jet_starts) + segment_sum(down, self.jet_starts)

    def _bags(self, off: Tensor, rows: Tensor) -> Tensor:
        if not len(off):
            return off.new_zeros((self.nodes, off.shape[1]))
        return F.embedding_bag(rows, off, self.starts, mode="sum", include_last_offset=True)
