"""A batch cut into groups of jets of similar length, for what needs a rectangle of constituents.

On a CPU a group has some thousand constituents, so that its activations stay in the cache from one layer to
the next. Attention takes it in pieces of some hundred, whose rectangles are hardly larger than their jets. On
an accelerator there is one group, and one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.nn import kernels
from hepml.nn.attention import AttentionMaps
from hepml.packed.rectangle import Rectangle
from hepml.packed.rectangular import mask_behind

# Constituents of a group, and of a piece of it, on a CPU.
ROWS = 1536
PIECE = 256


@dataclass(frozen=True)
class Group:
    """Some consecutive jets of a batch.

    Args:
        jets: which jets.
        rows: how many constituents.
        pairs: how many pairs of them, each once and each constituent with itself; 0 in a rectangle, where the
            mask says it.
        where: their rectangle.
        pieces: smaller rectangles of the same jets, one after the other.
        pairs_of_pieces: how many pairs each piece has.
    """

    jets: slice
    rows: int
    pairs: int
    where: Rectangle
    pieces: tuple[Rectangle, ...]
    pairs_of_pieces: tuple[int, ...]


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


def grouped(batch: JetBatch, rows: int = ROWS, piece: int = PIECE) -> Grouped:
    """The batch, sorted by count and cut into groups of about so many rows, and these into pieces; one of one
    on an accelerator, and where kernels are disabled."""
    if mask_behind(batch.offsets) is not None:
        return _whole(batch)
    order = torch.argsort(batch.counts, stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    jets = len(batch)
    if jets == 0:
        return Grouped(batch, back, ())
    if not kernels.allows("pieces", batch.four_momenta, autocast=True):
        (largest, squares), total = batch.sizes, batch.four_momenta.shape[0]
        batch, pairs_of_all = batch.reordered(order), (squares + total) // 2
        where = Rectangle.of(batch.offsets, max(1, largest), total)
        whole = Group(slice(0, jets), total, pairs_of_all, where, (where,), (pairs_of_all,))
        return Grouped(batch, back, (whole,))
    batch = batch.take(order)
    ends = _ends(batch.offsets, rows)
    cuts = sorted({*ends, *_ends(batch.offsets, piece)})
    pairs = F.pad((batch.counts * (batch.counts + 1) // 2).cumsum(0), (1, 0))[cuts].tolist()
    firsts, counts = batch.offsets[cuts].tolist(), batch.counts[[e - 1 for e in cuts[1:]]].tolist()
    at = {jet: i for i, jet in enumerate(cuts)}
    groups = []
    for a, b in pairwise(ends):
        pieces = range(at[a], at[b])
        groups.append(
            Group(
                slice(a, b),
                firsts[at[b]] - firsts[at[a]],
                pairs[at[b]] - pairs[at[a]],
                _rectangle(batch.offsets, a, b, firsts[at[a]], counts[at[b] - 1]),
                tuple(_rectangle(batch.offsets, cuts[i], cuts[i + 1], firsts[i], counts[i]) for i in pieces),
                tuple(pairs[i + 1] - pairs[i] for i in pieces),
            )
        )
    return Grouped(batch, back, tuple(groups))


def _whole(batch: JetBatch) -> Grouped:
    """Jets in a rectangle as one group of one piece, in their order."""
    where = Rectangle.of(batch.offsets, batch.max_count)
    jets, width = where.mask.shape
    back = torch.arange(jets, device=batch.device)
    return Grouped(batch, back, (Group(slice(0, jets), jets * width, 0, where, (where,), (0,)),))


def _ends(offsets: Tensor, rows: int) -> list[int]:
    """Where to cut jets so that each part has about so many rows: jets, from 0 to all."""
    jets = len(offsets) - 1
    cuts = torch.arange(rows, max(int(offsets[-1]), rows + 1), rows)
    return [0, *(e for e in torch.searchsorted(offsets, cuts).unique().tolist() if 0 < e < jets), jets]


def _rectangle(offsets: Tensor, start: int, stop: int, first: int, largest: int) -> Rectangle:
    """The rectangle of some jets by rising count, whose rows begin at `first`; the last is the largest."""
    return Rectangle.of(offsets[start : stop + 1] - first, max(1, largest))


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


def prepend(token: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
    """A row before each jet's own: token [C] and packed [ΣN, C] with [B + 1] to packed [ΣN + B, C]."""
    mask = mask_behind(offsets)
    if mask is not None:
        own = x.view(*mask.shape, x.shape[1])
        return torch.cat((token.to(x.dtype).expand(mask.shape[0], 1, -1), own), dim=1).flatten(0, 1)
    jets = len(offsets) - 1
    rows = torch.arange(len(x), device=x.device) + torch.repeat_interleave(
        torch.arange(1, jets + 1, device=x.device), offsets.diff(), output_size=len(x)
    )
    out = token.to(x.dtype).repeat(len(x) + jets, 1)
    return out.index_copy(0, rows, x)
