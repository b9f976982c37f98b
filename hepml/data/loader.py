"""`JetLoader`: batches of a `JetDataset` in a seeded global order, with length buckets and a state that
resumes bit for bit.

The order of an epoch depends on (seed, epoch) alone, so position within it is all that a resumed run needs.
Buckets sort jets by length within groups of many batches, so a padded view of a batch wastes little, while
every epoch still mixes all files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError, DataError

GROUP = 24  # batches that are sorted by length together


class Packed(Protocol):
    """What the loader asks of a data set."""

    @property
    def counts(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> JetBatch: ...


class JetLoader:
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

    Example:
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
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}", mend="at least 1")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} of {world_size}", mend="ranks count from 0")
        self.dataset, self.batch_size = dataset, batch_size
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.buckets = shuffle if buckets is None else buckets
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._position = self._resume_at = 0
        self.step_size = batch_size * world_size if step_size is None else step_size
        self._sizes = share_out(len(dataset), batch_size, world_size, self.step_size, drop_last)

    def __len__(self) -> int:
        """Batches an epoch on this rank; the same on all."""
        return len(self._sizes)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next iteration."""
        if epoch != self.epoch:
            self.epoch, self._position, self._resume_at = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch, and how many batches of it were handed out."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration continues behind the batch that was handed out last when `state` was taken."""
        self.seed, self.epoch = int(state["seed"]), int(state["epoch"])
        self._position = self._resume_at = int(state["position"])

    def __iter__(self) -> Iterator[JetBatch]:
        order, bounds = self._plan()
        start, self._resume_at = self._resume_at, 0
        self._position = start
        for step in range(start, len(self)):
            self._position += 1
            # every so-manieth jet: where a step is sorted by length, all ranks have long and short ones
            yield self.dataset.batch(order[bounds[step] + self.rank : bounds[step + 1] : self.world_size])

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


def share_out(jets: int, batch_size: int, world_size: int, step_size: int, drop_last: bool) -> np.ndarray:
    """Jets of each step over all ranks: full ones, and what is left.

    Raises:
        ConfigError: a step with fewer jets than ranks.
        DataError: too few jets for one step of all ranks.
    """
    if step_size < world_size:
        raise ConfigError(
            f"a step of {step_size} jets leaves some of {world_size} processes without any",
            where="training.batch_size",
            mend=f"at least {world_size}, or fewer processes",
        )
    if drop_last:
        steps, rest = jets // step_size, 0
        enough = steps > 0 or not jets
    else:
        steps, rest = divmod(jets, step_size)
        each = -(-jets // batch_size)
        enough = -(-each // world_size) * world_size <= jets
    if not enough:
        raise DataError(
            f"{jets} jets do not fill a batch of {batch_size} on each of {world_size} processes",
            mend="use fewer processes, a smaller batch, or more jets",
        )
    sizes = np.full(steps, step_size)
    if 0 < rest < world_size and steps:
        sizes[-1] += rest
    elif rest:
        sizes = np.append(sizes, rest)
    return sizes
