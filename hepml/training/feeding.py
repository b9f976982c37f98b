"""Loaders as Lightning iterates them, and how long a training waits for them.

A stream sets the epoch of its loader when an epoch really begins, starts at the batch where a killed run
stopped, and takes the time that each batch is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from hepml.data.batch import JetBatch
from hepml.data.loader import JetLoader
from hepml.data.reading.cores import available_cores
from hepml.data.stream_loader import StreamLoader


def reading_processes(asked: int | None, ranks: int = 1) -> int:
    """Processes that read ahead for this rank: as many as the config asks for, else one where there is a core
    for it.

    Args:
        asked: `data.workers`.
        ranks: processes that train on this machine.
    """
    return asked if asked is not None else int(available_cores() > ranks)


class Stream:
    """A loader as Lightning iterates it.

    Args:
        loader: of the jets.
        position: gives (epoch, batches already seen) when an iteration really begins.
        pin: put batches in page-locked memory.

    Attributes:
        waited: seconds that were spent waiting for batches so far.
    """

    def __init__(
        self,
        loader: JetLoader | StreamLoader,
        position: Callable[[], tuple[int, int]] | None = None,
        *,
        pin: bool = False,
    ) -> None:
        self.loader, self.position, self.pin = loader, position, pin
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[JetBatch]:
        return self._batches()

    def _batches(self) -> Iterator[JetBatch]:
        # a generator: nothing happens before the first batch is asked for, when Lightning knows the epoch
        if self.position is not None:
            epoch, position = self.position()
            self.loader.set_epoch(epoch)
            if position:
                self.loader.load_state_dict(
                    {**self.loader.state_dict(), "epoch": epoch, "position": position}
                )
        batches = iter(self.loader)
        while True:
            since = time.monotonic()
            batch = next(batches, None)
            if batch is not None and self.pin:
                batch = batch.pin_memory()
            self.waited += time.monotonic() - since
            if batch is None:
                return
            yield batch
