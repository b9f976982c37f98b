"""`Steps`: how jets are distributed over the steps of an epoch and over processes, and the position in an
epoch. The base of every loader, wherever its jets are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepml.errors import ConfigError, DataError


class Steps:
    """The steps of an epoch on one of several ranks, and a position that a resumed run goes on from.

    Args:
        jets: of an epoch, over all ranks.
        batch_size, shuffle, seed, buckets, drop_last, rank, world_size, step_size: as for `JetLoader`.

    Raises:
        ConfigError, DataError: as `JetLoader`.
    """

    def __init__(
        self,
        jets: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        buckets: bool | None,
        drop_last: bool,
        rank: int,
        world_size: int,
        step_size: int | None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}", mend="at least 1")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} of {world_size}", mend="ranks count from 0")
        self.batch_size, self.shuffle, self.seed, self.drop_last = batch_size, shuffle, seed, drop_last
        self.buckets = shuffle if buckets is None else buckets
        self.rank, self.world_size = rank, world_size
        self.step_size = batch_size * world_size if step_size is None else step_size
        self.epoch = 0
        self._position = self._resume_at = 0
        self._sizes = share_out(jets, batch_size, world_size, self.step_size, drop_last)
        self.step_jets = self._sizes  # jets of each step of the epoch over all ranks, in order

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

    def _begin(self) -> int:
        """The step that an iteration begins with: the first, or the one after those that were handed out
        before the run was resumed."""
        start, self._resume_at = self._resume_at, 0
        self._position = start
        return start


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
