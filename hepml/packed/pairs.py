"""The pairs of constituents of the same jet, packed: no padding, and nothing of one jet with another.

There are three kinds, of which each has its pairs grouped by one of their ends and the nodes in the order of
the batch, so that a sum over the partners of a node is a sum over consecutive rows:

- `OrderedPairs`, (i, j) and (j, i): messages from j to i;
- `SymmetricPairs`, j <= i with each constituent paired with itself: what is symmetric, kept once;
- `UnorderedPairs`, i < j: forces that obey Newton's third law. `hepml.packed.halves` has matrices T_ij in the
  order of these.

All of them are made by `members`, the one place where the indices of pairs are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.packed.lazy import lazy
from hepml.packed.rectangle import widest
from hepml.packed.rectangular import known_mask, mask_behind, spread
from hepml.packed.segments import segment_sum


def members(sizes: Tensor, first: Tensor, total: int | None = None) -> tuple[Tensor, Tensor]:
    """For each node i the rows first_i, first_i + 1, … first_i + sizes_i - 1, one node after the other.

    Args:
        sizes: [M] how many rows each node has.
        first: [M] its first.
        total: sum of the sizes, where it is known: the device need not be asked.

    Returns:
        node [P], rising, and row [P].
    """
    ends = sizes.cumsum(0)
    if total is None:
        total = int(ends[-1]) if sizes.shape[0] else 0
    node = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes, output_size=total)
    return node, torch.arange(total, device=sizes.device) + (first - ends + sizes)[node]


@dataclass(frozen=True, eq=False)
class OrderedPairs:
    """Ordered pairs (i, j), i ≠ j, of nodes of the same jet: its complete graph without self-loops.

    Args:
        offsets: [B + 1] where the nodes of each jet begin and end.
        receiver: [P] node i of each pair, rising.
        sender: [P] node j.
        degree: [M] pairs of each node as the receiver, one less than its jet has nodes.
        largest: nodes of the largest jet, where it is known.
    """

    offsets: Tensor
    receiver: Tensor
    sender: Tensor
    degree: Tensor
    largest: int | None = None

    @classmethod
    def of(
        cls, offsets: Tensor, nodes: int | None = None, total: int | None = None, largest: int | None = None
    ) -> OrderedPairs:
        """All pairs of jets packed by these offsets [B + 1]; `nodes` and `total` are the numbers of
        nodes and of pairs, and `largest` the nodes of the largest jet, where they are known."""
        mask = mask_behind(offsets)
        if mask is not None:
            return RectangularPairs.of_mask(offsets, mask)
        nodes = int(offsets[-1]) if nodes is None else nodes
        degree = spread(offsets.diff() - 1, offsets, nodes)
        receiver, sender = members(degree, spread(offsets[:-1], offsets, nodes), total)
        return cls(offsets, receiver, sender + (sender >= receiver), degree, largest)

    def __len__(self) -> int:
        return self.receiver.shape[0]

    @lazy
    def width(self) -> int:
        """Nodes of the largest jet."""
        return widest(self.offsets) if self.largest is None else self.largest

    @lazy
    def starts(self) -> Tensor:
        """[M + 1] where the pairs of each receiver begin and end."""
        return F.pad(self.degree.cumsum(0), (1, 0))

    @lazy
    def reverse(self) -> Tensor:
        """The position of the pair (j, i) for each pair (i, j), [P]."""
        first = spread(self.offsets[:-1], self.offsets, len(self.degree))
        within = self.receiver - first[self.receiver]
        return self.starts[self.sender] + within - (self.receiver > self.sender).long()

    @lazy
    def in_dense(self) -> Tensor:
        """Position of each pair in the flattened [B, width, width] matrices of the jets, [P]."""
        return in_matrices(self.offsets, self.width, self.receiver, self.sender, len(self.degree))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the neighbours of each node. Shapes: [P, F] -> [M, F]."""
        return segment_sum(values, self.starts)

    def own(self, values: Tensor) -> Tensor:
        """The values of the pairs that there are, zero for others. Shapes: [P], kept."""
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the neighbours of each node, zero where it has none. Shapes: [P, F] -> [M, F]."""
        return self.sum(values) / self.degree.clamp_min(1).to(values.dtype)[:, None]


def _of_rectangle(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both rows of all N² pairs of each jet in a rectangle [B, N]."""
    count, width = mask.shape
    rows = torch.arange(count * width, device=mask.device).view(count, width)
    return rows[:, :, None].expand(-1, -1, width).flatten(), rows[:, None].expand(-1, width, -1).flatten()


def _once_in_rectangle(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both rows of the pairs of each jet in a rectangle [B, N], as `SymmetricPairs` orders them."""
    width = mask.shape[1]
    at = torch.arange(width, device=mask.device)
    there = mask[:, :, None] & mask[:, None] & (at <= at[:, None])
    jet, i, j = there.nonzero().unbind(1)
    return jet * width + i, jet * width + j


class RectangularPairs(OrderedPairs):
    """All N² pairs of jets in a rectangle, of which sums take those of two constituents that are there, i ≠
    j."""

    @classmethod
    def of_mask(cls, offsets: Tensor, mask: Tensor) -> RectangularPairs:
        """Of jets with these offsets and the mask [B, N]."""
        degree = (mask.sum(1, keepdim=True) - 1).expand(-1, mask.shape[1]).flatten()
        return cls(offsets, *_of_rectangle(mask), degree)

    @lazy
    def mask(self) -> Tensor:
        """[B, N] which constituents are there."""
        return known_mask(self.offsets)

    @lazy
    def there(self) -> Tensor:
        """[B, N, N] which pairs are there."""
        itself = torch.eye(self.width, dtype=torch.bool, device=self.mask.device)
        return self.mask[:, :, None] & self.mask[:, None] & ~itself

    @lazy
    def in_dense(self) -> Tensor:
        return torch.arange(self.receiver.shape[0], device=self.receiver.device)

    def sum(self, values: Tensor) -> Tensor:
        each = values.view(*self.there.shape, values.shape[1])
        return each.masked_fill(~self.there[..., None], 0.0).sum(2).flatten(0, 1)

    def own(self, values: Tensor) -> Tensor:
        return values.masked_fill(~self.there.flatten(), 0.0)


@dataclass(frozen=True, eq=False)
class SymmetricPairs:
    """Pairs j <= i of constituents of the same jet, each with itself included.

    The pair (i, j) of jet b, both counted from its first constituent, is row `first_b + i (i + 1) / 2 + j`
    with first_b the number of pairs of the jets before: the way to a dense [P, P] is arithmetic, not a
    search.

    In a rectangle they are those of the constituents that are there, in the same order: their number is the
    one length of an exported graph that depends on the data.

    Args:
        i, j: [T] int64 packed rows of the two constituents, T = sum_b N_b (N_b + 1) / 2.
    """

    i: Tensor
    j: Tensor

    @classmethod
    def of(cls, offsets: Tensor, nodes: int | None = None, total: int | None = None) -> SymmetricPairs:
        """All pairs of jets packed by these offsets [B + 1]; `nodes` and `total` as for
        `OrderedPairs.of`."""
        mask = mask_behind(offsets)
        if mask is not None:
            return cls(*_once_in_rectangle(mask))
        nodes = int(offsets[-1]) if nodes is None else nodes
        start = spread(offsets[:-1], offsets, nodes)
        return cls(*members(torch.arange(1, nodes + 1, device=offsets.device) - start, start, total))

    def __len__(self) -> int:
        return self.i.shape[0]

    @staticmethod
    def in_squares(offsets: Tensor, width: int, absent: int) -> Tensor:
        """The row of each (i, j) of the rectangle [B, P, P] of jets with these offsets, P = width, and
        `absent` where either is padding."""
        mask, at = mask_behind(offsets), torch.arange(width, device=offsets.device)
        if mask is None:
            counts = offsets.diff()
            place, there = at.expand(1, width), at < counts[:, None]
        else:
            counts, place, there = mask.sum(1), mask.cumsum(1) - 1, mask
        low = torch.minimum(place[:, :, None], place[:, None])
        high = torch.maximum(place[:, :, None], place[:, None])
        per_jet = counts * (counts + 1) // 2
        cells = (per_jet.cumsum(0) - per_jet)[:, None, None] + high * (high + 1) // 2 + low
        return torch.where(there[:, :, None] & there[:, None], cells, absent)


@dataclass(frozen=True, eq=False)
class UnorderedPairs:
    """Pairs i < j of constituents of the same jet, each two once.

    Args:
        offsets: [B + 1] where the constituents of each jet begin and end.
        first, second: [U] the rows i and j, sorted by i, then by j.
        after: [M + 1]; the pairs with constituent i first are rows after[i]:after[i + 1].
    """

    offsets: Tensor
    first: Tensor
    second: Tensor
    after: Tensor

    @classmethod
    def of(cls, offsets: Tensor, nodes: int | None = None, total: int | None = None) -> UnorderedPairs:
        """All pairs of jets packed by these offsets [B + 1]; `nodes` and `total` as for
        `OrderedPairs.of`."""
        mask = mask_behind(offsets)
        if mask is not None:
            return UnorderedInRectangle(offsets, *_of_rectangle(mask), offsets[:0])
        nodes = int(offsets[-1]) if nodes is None else nodes
        row = torch.arange(1, nodes + 1, device=offsets.device)
        sizes = spread(offsets[1:], offsets, nodes) - row
        return cls(offsets, *members(sizes, row, total), F.pad(sizes.cumsum(0), (1, 0)))

    def __len__(self) -> int:
        return self.first.shape[0]

    @property
    def nodes(self) -> int:
        """M."""
        return len(self.after) - 1

    @lazy
    def before(self) -> Tensor:
        """[M + 1]; the pairs with constituent j second are rows by_second[before[j]:before[j + 1]]."""
        begin = spread(self.offsets[:-1], self.offsets, self.nodes)
        return F.pad((torch.arange(self.nodes, device=begin.device) - begin).cumsum(0), (1, 0))

    @lazy
    def by_second(self) -> Tensor:
        """[U] the rows sorted by `second`, then by `first`."""
        begin = spread(self.offsets[:-1], self.offsets, self.nodes)
        j, i = members(self.before.diff(), begin, len(self))
        return self.after[i] + j - i - 1

    def share(self, dtype: torch.dtype) -> Tensor:
        """[M] 1/n of the jet of each constituent."""
        counts = self.offsets.diff()
        return 1.0 / spread(counts, self.offsets, self.nodes).to(dtype)

    def differences(self, x: Tensor) -> Tensor:
        """x_i - x_j of each pair. Shapes: [M, C] -> [U, C]."""
        return x.index_select(0, self.first) - x.index_select(0, self.second)

    def products(self, x: Tensor) -> Tensor:
        """x_i x_j of each pair. Shapes: [M, C] -> [U, C]."""
        return x.index_select(0, self.first) * x.index_select(0, self.second)

    def spread(self, values: Tensor) -> Tensor:
        """To each constituent, the values of the pairs that it is first of, minus those that it is second of.
        Shapes: [U, C] -> [M, C]."""
        out = values.new_zeros((self.nodes, values.shape[1]))
        return out.index_add(0, self.first, values).index_add(0, self.second, values, alpha=-1)


class UnorderedInRectangle(UnorderedPairs):
    """All N² pairs of jets in a rectangle [B, N], of which sums take those i < j of two constituents that are
    there."""

    def share(self, dtype: torch.dtype) -> Tensor:
        mask = known_mask(self.offsets)
        counts = mask.sum(1, keepdim=True).clamp_min(1)
        return (1.0 / counts.to(dtype)).expand(-1, mask.shape[1]).flatten()

    def differences(self, x: Tensor) -> Tensor:
        i, j = self._ends(x)
        return (i - j).flatten(0, 2)

    def products(self, x: Tensor) -> Tensor:
        i, j = self._ends(x)
        return (i * j).flatten(0, 2)

    def spread(self, values: Tensor) -> Tensor:
        mask = known_mask(self.offsets)
        at = torch.arange(mask.shape[1], device=mask.device)
        there = mask[:, :, None] & mask[:, None] & (at[:, None] < at)
        each = values.view(*there.shape, values.shape[1]).masked_fill(~there[..., None], 0.0)
        return (each.sum(2) - each.sum(1)).flatten(0, 1)

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mask = known_mask(self.offsets)
        own = x.view(*mask.shape, x.shape[1])
        return own[:, :, None], own[:, None]


def in_matrices(offsets: Tensor, width: int, row: Tensor, column: Tensor, nodes: int) -> Tensor:
    """Position of each pair (row, column) of the M packed nodes in the flattened matrices [B, width, width]
    of their jets, [P]."""
    count = len(offsets) - 1
    jet = spread(torch.arange(count, device=offsets.device), offsets, nodes)[row]
    start = offsets[jet]
    return (jet * width + row - start) * width + column - start
