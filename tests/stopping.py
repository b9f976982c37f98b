"""A run that is asked to end in the middle of an epoch."""

from __future__ import annotations

import os
import signal

from hepml.training.progress import Progress


class StopAt(Progress):
    """Sends this process a signal behind a step.

    Args:
        epoch, step: which; epochs count from 0, steps from 1.
        signum: the signal.
    """

    def __init__(self, epoch: int, step: int, signum: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.at, self.signum = (epoch, step), signum

    def step(self, epoch: int, step: int, loss: float | None, jets: int) -> None:
        if (epoch, step) == self.at:
            os.kill(os.getpid(), self.signum)
