"""`JetLoader`: batches of a `JetDataset` in a seeded global order, with length buckets and a state that
resumes bit for bit.

The order of an epoch depends on (seed, epoch) alone, so position within it is all that a resumed run needs.
Buckets sort jets by length within groups of many batches, so a padded view of a batch wastes little, while
every epoch still mixes all files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

import numpy as np

from hepml.data.batch import JetBatch
from hepml.data.steps import Steps

GROUP = 24  # batches that are sorted by length together
# Jets that are copied at once and handed out as views. Whatever runs after a copy of some megabytes finds the
# processor's cache cold and takes ten times as long, and copies batch by batch lost a third of the time so.
TOGETHER = 4_096


class Packed(Protocol):
    """What the loader asks of a data set."""

    @property
    def counts(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> JetBatch: ...


class JetLoader(Steps):
    """An iterable of `JetBatch`es.

    Args:
        dataset: a `JetDataset`.
        batch_size: jets a batch at most, of one rank.
        shuffle: a new global order each epoch; without it jets come in file order.
        seed: of the order.
        buckets: batches of jets of similar length. Left out, as `shuffle`. With `shuffle=False` and
            `buckets=True` jets come sorted by length: put results back with `batch.index`.
        drop_last: full batches only.
        rank, world_size: this process among how many. The ranks share out the batches that one process would
            take: all make the same steps, and every jet comes once. A last step with fewer jets than ranks is
            joined to the one before.
        step_size: jets of a step over all ranks; `batch_size` of each where left out.

    Raises:
        ConfigError: a batch size below one, a rank outside the world, a step with fewer jets than ranks.
        DataError: fewer jets than processes.

    Examples:
        >>> data = hepml.data.JetDataset.open('data/toptag/val.root', max_jets=100)
        >>> [len(batch) for batch in hepml.data.JetLoader(data, batch_size=40)]
        [40, 40, 20]
    """

    def __init__(
        self,
        dataset: Packed,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        buckets: bool | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        step_size: int | None = None,
    ) -> None:
        super().__init__(
            len(dataset), batch_size, shuffle=shuffle, seed=seed, buckets=buckets, drop_last=drop_last,
            rank=rank, world_size=world_size, step_size=step_size,
        )  # fmt: skip
        self.dataset = dataset

    def __iter__(self) -> Iterator[JetBatch]:
        order, bounds = self._plan()
        self.step_jets = np.diff(bounds)  # buckets are taken in another order
        together = max(1, TOGETHER * self.world_size // max(self.step_size, 1))
        for first in range(self._begin(), len(self), together):
            steps = range(first, min(first + together, len(self)))
            # every so-manieth jet: where a step is sorted by length, all ranks have long and short ones
            jets = [order[bounds[s] + self.rank : bounds[s + 1] : self.world_size] for s in steps]
            yield from self._parts(self.dataset.batch(np.concatenate(jets)), [len(j) for j in jets])

    def _parts(self, taken: JetBatch, sizes: list[int]) -> Iterator[JetBatch]:
        for first, last in pairwise(np.cumsum([0, *sizes]).tolist()):
            self._position += 1
            yield taken.slice(first, last) if len(sizes) > 1 else taken

    def _plan(self) -> tuple[np.ndarray, np.ndarray]:
        """Jets in the order of this epoch, and where each step begins; the same on every rank."""
        jets, sizes = len(self.dataset), self._sizes
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(jets) if self.shuffle else np.arange(jets)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        order = order[: bounds[-1]]
        if not self.buckets:
            return order, bounds
        counts = np.asarray(self.dataset.counts)
        if not self.shuffle:
            return order[np.argsort(counts[order], kind="stable")], bounds
        # Groups of steps are sorted by length; what is left of equal lengths stays shuffled (stable sort).
        group = np.zeros(len(order), dtype=np.int64)
        group[bounds[GROUP:-1:GROUP]] = 1
        np.cumsum(group, out=group)
        order = order[np.lexsort((counts[order], group))]
        chosen = rng.permuted(np.arange(len(sizes)).reshape(-1, 1), axis=0).ravel()
        pieces = [order[bounds[i] : bounds[i + 1]] for i in chosen]
        return np.concatenate(pieces) if pieces else order, np.concatenate([[0], np.cumsum(sizes[chosen])])
