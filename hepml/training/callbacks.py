"""The Lightning callback that records a run: best and last checkpoint, early stopping, metrics to the
journal, a clean end on a signal.

One callback instead of several, because the order matters: measure, decide, write, tell. Its state travels in
the checkpoint, so that a resumed run remembers what was best and how long it has waited.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import lightning.pytorch as L
import torch

from hepml import interrupts
from hepml.training.checkpoints import BEST, LAST
from hepml.training.module import TrainingModule
from hepml.training.progress import Progress
from hepml.training.training_config import TrainingConfig

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
REFRESH = 0.5  # seconds between looks at the running loss, each of which waits for the device
_MOST_STEPS = 1000  # between two looks of several ranks at each other


class Killed(Exception):
    """The run was asked to end (SIGTERM, SIGINT, SIGUSR1, SIGUSR2); its last checkpoint is written.

    Args:
        signum: the signal.
        folder: the run folder.
    """

    def __init__(self, signum: int, folder: Path) -> None:
        self.signum, self.folder = signum, folder
        super().__init__(signal.Signals(signum).name)


class MetricSink(Protocol):
    """What of a tracker the callback needs."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def has_reported(self, name: str, step: int) -> bool: ...


def watched() -> tuple[signal.Signals, ...]:
    """The signals that ask a run to end, without those that this process was started to ignore."""
    ignorable = (signal.SIGUSR1, signal.SIGUSR2)
    return tuple(s for s in WATCHED if s not in ignorable or signal.getsignal(s) is not signal.SIG_IGN)


class Signals:
    """Signals that ask a run to end. The training loop looks at them between steps, when a checkpoint can be
    written; before and after it, where there is nothing to keep, they end the run at once.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.received: int | None = None
        self.folder = folder
        self.at_once = True

    @contextmanager
    def watching(self) -> Iterator[Signals]:
        """Catches the signals inside the block; a second SIGINT interrupts at once. Elsewhere than in the
        main thread it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {s: signal.getsignal(s) for s in watched()}
        self.install()
        try:
            if interrupts.received():
                self._note(signal.SIGINT, None)
            yield self
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    def install(self) -> None:
        """Puts our handlers in place (again, after Lightning has put its own)."""
        if threading.current_thread() is threading.main_thread():
            for s in watched():
                signal.signal(s, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        again = self.received is not None
        self.received = signum
        if self.at_once and not again:
            raise Killed(signum, self.folder)


# What of a run's keeper a checkpoint holds.
STATE = ("best", "best_epoch", "waited", "stopped", "history", "seconds", "trained", "jets_per_epoch")


class RunKeeper(L.Callback):
    """Keeps a run.

    Args:
        folder: where checkpoints are written.
        settings: the `training` block.
        sink: where metrics go, or None on ranks that report nothing.
        progress: told what happens.
        signals: looked at after every step.
        jets: training jets an epoch, for jets a second.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainingConfig,
        sink: MetricSink | None,
        progress: Progress,
        signals: Signals,
        jets: int,
    ) -> None:
        self.folder, self.settings, self.sink, self.progress, self.signals, self.jets = (
            folder,
            settings,
            sink,
            progress,
            signals,
            jets,
        )
        self.best: float | None = None
        self.best_epoch = -1
        self.waited = 0
        self.stopped = False
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0  # of training before this process
        self.trained = 0.0  # up to the end of the last epoch
        self.ranks = 1
        self.norms: dict[str, int] | None = None  # how many measure all ranks' jets, and each rank's own
        self.jets_per_epoch: int | None = None  # as they were counted, summed over ranks
        self.loader_seconds: Callable[[], float] = lambda: 0.0  # waited for batches so far
        self._waited_before = 0.0
        self._began = time.monotonic()
        self._epoch_began = time.monotonic()
        self._looked = 0.0
        self._loss: float | None = None
        self._saved = time.monotonic()
        self._steps = 0
        self._next_look = 1
        self._last_look = (0, time.monotonic())

    # ------------------------------------------------------------------ state in the checkpoint

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, "elapsed" if name == "seconds" else name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in STATE:
            if name in state_dict:
                setattr(self, name, state_dict[name])
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all processes that worked on this run."""
        return self.seconds + time.monotonic() - self._began

    # ------------------------------------------------------------------ hooks

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = self._saved = time.monotonic()
        self._last_look = (self._steps, self._began)
        self.ranks = trainer.world_size
        self.signals.install()
        self.signals.at_once = False
        assert isinstance(pl_module, TrainingModule)
        before = pl_module.ranks_before
        if before not in (None, self.ranks):
            self.progress.message(
                f"the checkpoint is of {before} ranks and these are {self.ranks}: the same jets in the same "
                "steps, other random numbers for dropout and augmentation"
            )
        self._report_what_was_cut_off(trainer)
        if self.stopped:
            trainer.should_stop = True
        steps = int(trainer.num_training_batches)
        self.progress.begin(self.settings.epochs, steps, self.jets, first_epoch=trainer.current_epoch)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_began = time.monotonic()
        self._waited_before = self.loader_seconds()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        now = time.monotonic()
        if now - self._looked > REFRESH:
            self._looked, self._loss = now, pl_module.running_loss()
        self.progress.step(trainer.current_epoch, batch_idx + 1, self._loss, len(batch) * trainer.world_size)
        self._steps += 1
        last_of_epoch = batch_idx + 1 >= trainer.num_training_batches
        if last_of_epoch:
            return  # the end of the epoch writes its own checkpoint, and ends the run where that was asked
        asked, due = self._look(trainer)
        position, batches = batch_idx + 1, self.settings.accumulate
        if position % batches:
            return  # gradients that wait for their step are in no checkpoint
        every = self.settings.checkpoint_every
        if asked or due or (every and position // every > (position - batches) // every):
            self._save(trainer, LAST)
        if asked:
            raise Killed(asked, self.folder.parent)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.on_epoch_measured()
        seconds = time.monotonic() - self._epoch_began
        values = dict(pl_module.epoch_metrics)
        values["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        values["epoch_seconds"] = seconds
        values["loader_seconds"] = self.loader_seconds() - self._waited_before
        values["jets_per_second"] = self.jets / max(seconds, 1e-9)
        self.jets_per_epoch = pl_module.jets_seen
        epoch = trainer.current_epoch
        better = self._is_better(values)
        if better:
            self.best, self.best_epoch, self.waited = values[self.settings.monitor], epoch, 0
        else:
            self.waited += 1
        if self.settings.early_stopping is not None and self.waited >= self.settings.early_stopping:
            self.stopped = True
            trainer.should_stop = True
        self.trained = self.elapsed
        self.history = [*self.history, {"epoch": epoch, **values}]
        if better:
            self._save(trainer, BEST)
        self._save(trainer, LAST)
        # behind the checkpoint: a run that is killed in between reports the epoch when it goes on, and once
        if self.sink is not None and trainer.is_global_zero:
            self.sink.metrics({**values, "seconds": self.elapsed}, epoch)
        self.progress.epoch(epoch, values, better)
        asked, _ = self._look(trainer, now=True)
        if asked and not self.stopped and epoch + 1 < self.settings.epochs:
            raise Killed(asked, self.folder.parent)

    # ------------------------------------------------------------------ helpers

    def _is_better(self, values: dict[str, float]) -> bool:
        monitor = self.settings.monitor
        if monitor not in values:
            values.setdefault(monitor, values.get("train_loss", 0.0) if monitor == "val_loss" else 0.0)
        if self.best is None:
            return True
        return values[monitor] > self.best if monitor == "val_auc" else values[monitor] < self.best

    def _save(self, trainer: L.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name)
        self._saved = time.monotonic()

    def _look(self, trainer: L.Trainer, *, now: bool = False) -> tuple[int | None, bool]:
        """The signal that asks the run to end, or None, and whether a checkpoint is due.

        Ranks must answer alike at the same step, and asking each other costs time: they do so every half
        second or so, at a step that they agreed on when they asked last.
        """
        due = time.monotonic() - self._saved > 60 * self.settings.checkpoint_minutes
        if trainer.world_size == 1:
            return self.signals.received, due
        if not now and self._steps < self._next_look:
            return None, False
        steps, since = self._last_look
        pace = (time.monotonic() - since) / max(1, self._steps - steps)
        signals = torch.tensor([self.signals.received or 0, due, pace], dtype=torch.float64)
        signals = signals.to(trainer.strategy.root_device)
        torch.distributed.all_reduce(signals, torch.distributed.ReduceOp.MAX)
        asked, due, pace = int(signals[0]), bool(signals[1]), float(signals[2])
        self._last_look = (self._steps, time.monotonic())
        self._next_look = self._steps + min(_MOST_STEPS, max(1, int(REFRESH / max(pace, 1e-9))))
        return asked or None, due

    def _report_what_was_cut_off(self, trainer: L.Trainer) -> None:
        """Reports the last epoch, where the run was killed between its checkpoint and its report."""
        if self.sink is None or not self.history or not trainer.is_global_zero:
            return
        values = dict(self.history[-1])
        epoch = int(values.pop("epoch"))
        if not self.sink.has_reported("epoch_seconds", epoch):
            self.sink.metrics(values, epoch)
