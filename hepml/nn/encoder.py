"""A batch cut into groups of jets of similar length, for what needs a rectangle of constituents.

On a CPU a group has some hundred constituents, so that its activations stay in the cache from one layer to the next, and its
rectangle is hardly larger than its jets. On an accelerator there is one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.nn.attention import AttentionMaps, Rectangle

# Constituents of a group on a CPU.
ROWS = 1536


@dataclass(frozen=True)
class Group:
    """Some consecutive jets of a batch.

    Args:
        jets: which jets.
        rows: how many constituents.
        pairs: how many pairs of them, each once and each constituent with itself.
        where: their rectangle.
    """

    jets: slice
    rows: int
    pairs: int
    where: Rectangle


@dataclass(frozen=True)
class Grouped:
    """A batch with its jets by rising count, and how they were before.

    Args:
        batch: the sorted batch.
        back: [B] where each jet of the given batch now is.
        groups: consecutive jets.
    """

    batch: JetBatch
    back: Tensor
    groups: tuple[Group, ...]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def restore(self, parts: list[Tensor], columns: int) -> Tensor:
        """One tensor [b, C] a group as [B, C] in the order of the given batch."""
        if not parts:
            return self.batch.four_momenta.new_zeros((0, columns))
        return torch.cat(parts).index_select(0, self.back)


def grouped(batch: JetBatch, rows: int = ROWS) -> Grouped:
    """The batch, sorted by count and cut into groups of about so many rows (of one group on an accelerator)."""
    order = torch.argsort(batch.counts, stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    batch = batch.take(order)
    jets = len(batch)
    if jets == 0:
        return Grouped(batch, back, ())
    ends = [0, jets]
    if batch.device.type == "cpu":
        offsets = batch.offsets
        cuts = torch.arange(rows, max(int(offsets[-1]), rows + 1), rows)
        ends = [0, *(e for e in torch.searchsorted(offsets, cuts).unique().tolist() if 0 < e < jets), jets]
    pairs = F.pad((batch.counts * (batch.counts + 1) // 2).cumsum(0), (1, 0))[ends].tolist()
    firsts, counts = batch.offsets[ends].tolist(), batch.counts[[e - 1 for e in ends[1:]]].tolist()
    groups = []
    for g, (a, b) in enumerate(pairwise(ends)):  # the last jet of a group is its largest
        where = Rectangle.of(batch.offsets[a : b + 1] - firsts[g], max(1, counts[g]))
        groups.append(Group(slice(a, b), firsts[g + 1] - firsts[g], pairs[g + 1] - pairs[g], where))
    return Grouped(batch, back, tuple(groups))


def gather_maps(jets: Grouped, parts: list[tuple[Tensor, Tensor | None]]) -> AttentionMaps:
    """Maps of each group, [L, b, H, p, p] and [K, b, H, 1 + p], as those of the batch."""
    width = max((g.where.width for g in jets), default=0)
    mask = [F.pad(g.where.mask, (0, width - g.where.width)) for g in jets]
    blocks = [F.pad(m, (0, width - m.shape[-1]) * 2) for m, _ in parts]
    pooling = [F.pad(p, (0, 1 + width - p.shape[-1])) for _, p in parts if p is not None]
    return AttentionMaps(
        torch.cat(blocks, dim=1).index_select(1, jets.back),
        torch.cat(pooling, dim=1).index_select(1, jets.back) if pooling else None,
        torch.cat(mask).index_select(0, jets.back),
    )


def prepend(token: Tensor, x: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """A row before each jet's own: token [C] and packed [ΣN, C] with [B + 1] to packed [ΣN + B, C] with its offsets."""
    jets = len(offsets) - 1
    longer = offsets + torch.arange(jets + 1, device=offsets.device)
    rows = torch.arange(len(x), device=x.device) + torch.repeat_interleave(
        torch.arange(1, jets + 1, device=x.device), offsets.diff(), output_size=len(x)
    )
    out = token.to(x.dtype).repeat(len(x) + jets, 1)
    return out.index_copy(0, rows, x), longer
