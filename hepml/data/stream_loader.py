"""`StreamLoader`: the batches of a `StreamedJets`, shuffled in bounded memory, with a state that resumes bit
for bit.

An epoch takes the shards in a random order, some at a time: as many as fit in `POOL_BYTES` are a pool, whose
jets are shuffled together. The ranks take pieces of that order that begin where the last ends, so that each
reads its own shards (at most two of them share one), all make the same steps, and every jet comes once. The
order depends on (seed, epoch, rank) alone; a resumed run reads on from the pool where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hepml.data.batch import JetBatch
from hepml.data.loader import GROUP, JetLoader
from hepml.data.reading.links import starts_of
from hepml.data.reading_processes import read_ahead
from hepml.data.shards import StreamedJets, picked
from hepml.data.steps import Steps

POOL_BYTES = 100_000_000
PIECE = 1_024  # jets of a pool that are put in order together; three copies of them live at once


@dataclass(frozen=True)
class _Segment:
    """Jets of one shard that one rank takes. An epoch has all its segments at once, so none holds its jets.

    Args:
        shard: its number.
        first, last: the jets, counted in the part that is loaded.
        indices: of that part in the whole; None where it is the whole.
    """

    shard: int
    first: int
    last: int
    indices: np.ndarray | None

    @property
    def jets(self) -> np.ndarray:
        """Their positions in the whole."""
        if self.indices is None:
            return np.arange(self.first, self.last)
        return self.indices[self.first : self.last]

    def __len__(self) -> int:
        return self.last - self.first


class StreamLoader(Steps):
    """An iterable of `JetBatch`es; its arguments and its promises are those of `JetLoader`.

    Args:
        dataset: a `StreamedJets`, or a part of one.
        workers: processes that read ahead.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        buckets: bool | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        step_size: int | None = None,
        workers: int = 0,
    ) -> None:
        self.jets, self.indices = _root(dataset)
        super().__init__(
            len(self.jets) if self.indices is None else len(self.indices), batch_size, shuffle=shuffle,
            seed=seed, buckets=buckets, drop_last=drop_last, rank=rank, world_size=world_size,
            step_size=step_size,
        )  # fmt: skip
        self.workers = workers
        # jets of each step on each rank, as a JetLoader deals them out
        each = [(self._sizes - r + world_size - 1) // world_size for r in range(world_size)]
        self._sizes = each[rank]
        self._first = int(sum(int(e.sum()) for e in each[:rank]))

    def __iter__(self) -> Iterator[JetBatch]:
        start = self._begin()
        bounds = np.concatenate([[0], np.cumsum(self._sizes)])
        at, step, rest = int(bounds[start]), start, None
        for first, pool in self._pieces(at):
            if rest is not None:
                pool, first = JetBatch.concatenate([rest, pool]), first - len(rest)
            while step < len(self) and bounds[step + 1] <= first + len(pool):
                self._position += 1
                yield _copied(pool, int(bounds[step]) - first, int(bounds[step + 1]) - first)
                step += 1
            left = first + len(pool) - int(bounds[step])
            rest = _copied(pool, len(pool) - left, len(pool)) if left > 0 and step < len(self) else None
            del pool

    def _pieces(self, at: int) -> Iterator[tuple[int, JetBatch]]:
        """Pieces of the pools, each with its position among this rank's jets, in the order of the epoch, from
        the pool on that has jet `at`."""
        pools = _pooled(self.jets, self._segments())
        begins = np.cumsum([0, *(sum(map(len, pool)) for pool in pools)])
        first = max(int(np.searchsorted(begins, at, side="right")) - 1, 0)
        wanted = [s for pool in pools[first:] for s in pool]
        stream = read_ahead(self.jets.reader, (self.jets.shards[s.shard] for s in wanted), self.workers)
        try:
            for number in range(first, len(pools)):
                order = self._order(number, pools[number])
                parts = []
                for segment in pools[number]:
                    mine = torch.from_numpy(segment.jets - self.jets.bounds[segment.shard])
                    part = next(stream)
                    part = part if len(mine) == len(part) else part.take(mine)
                    parts.append(replace(part, index=torch.from_numpy(segment.jets)))
                    del part
                edges = starts_of(np.array([len(part) for part in parts]))
                for low in range(0, len(order), PIECE):
                    piece = picked(parts.__getitem__, edges, order[low : low + PIECE])
                    yield int(begins[number]) + low, piece
                    del piece
                del parts
        finally:
            stream.close()  # type: ignore[attr-defined]

    def _segments(self) -> list[_Segment]:
        """This rank's jets of the epoch by shard, in the order in which they are read."""
        jets, shards = self.jets, len(self.jets.shards)
        edges = jets.bounds if self.indices is None else np.searchsorted(self.indices, jets.bounds)
        order = self._shuffled_shards() if self.shuffle else np.arange(shards)
        low, high = self._first, self._first + int(self._sizes.sum())
        segments, before = [], 0
        for shard in order.tolist():
            many = int(edges[shard + 1] - edges[shard])
            first, last = max(low - before, 0), min(high - before, many)
            before += many
            if last > first:
                at = int(edges[shard])
                segments.append(_Segment(shard, at + first, at + last, self.indices))
        return segments

    def _shuffled_shards(self) -> np.ndarray:
        """Shards in a random order in which those of one class come as evenly as they can, since files are
        often of one class, or sorted by class."""
        rng, kinds = np.random.default_rng([self.seed, self.epoch]), self.jets.kinds
        place = np.empty(len(kinds))
        for kind in np.unique(kinds):
            mine = rng.permutation(np.flatnonzero(kinds == kind))
            place[mine] = (np.arange(len(mine)) + rng.random(len(mine))) / len(mine)
        return np.argsort(place, kind="stable")

    def _order(self, number: int, pool: list[_Segment]) -> np.ndarray:
        """The order of a pool's jets: shuffled, and within groups of many batches by length."""
        counts = np.concatenate([self.jets.counts[s.jets] for s in pool])
        if not self.shuffle:
            return np.argsort(counts, kind="stable") if self.buckets else np.arange(len(counts))
        rng = np.random.default_rng([self.seed, self.epoch, self.rank, number])
        order = rng.permutation(len(counts))
        if not self.buckets or not len(self._sizes):
            return order
        size = int(self._sizes[0])
        group = np.arange(len(order)) // (size * GROUP)
        order = order[np.lexsort((counts[order], group))]
        pieces = np.array_split(order, range(size, len(order), size))
        return np.concatenate([pieces[i] for i in rng.permutation(len(pieces))])


def loader_of(dataset: Any, batch_size: int, *, workers: int = 0, **options: Any) -> JetLoader | StreamLoader:
    """The loader of a data set, or of a part of one, wherever its jets are; arguments as there."""
    if isinstance(_root(dataset)[0], StreamedJets):
        return StreamLoader(dataset, batch_size, workers=workers, **options)
    return JetLoader(dataset, batch_size, **options)


def _root(dataset: Any) -> tuple[Any, np.ndarray | None]:
    """The data set that a part was taken of, and which of its jets the part has, in rising order."""
    if not hasattr(dataset, "indices"):
        return dataset, None
    whole, outer = _root(dataset.whole)
    return whole, dataset.indices if outer is None else outer[dataset.indices]


def _copied(pool: JetBatch, first: int, last: int) -> JetBatch:
    """Some jets of a pool in memory of their own, so that whoever keeps them does not keep the pool."""
    return pool.take(torch.arange(first, last))


def _pooled(jets: StreamedJets, segments: list[_Segment]) -> list[list[_Segment]]:
    """Segments that are shuffled together: as many as fit in memory."""
    pools: list[list[_Segment]] = []
    taken = POOL_BYTES + 1
    for segment in segments:
        size = int(jets.sizes[segment.shard]) * jets.row_bytes
        if taken + size > POOL_BYTES:
            pools.append([])
            taken = 0
        pools[-1].append(segment)
        taken += size
    return pools
