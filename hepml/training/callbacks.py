"""The Lightning callback that keeps a run: best and last checkpoint, early stopping, metrics to the journal,
a clean end on a signal.

One callback instead of several, because the order matters: measure, decide, write, tell. Its state travels in
the checkpoint, so that a resumed run remembers what was best and how long it has waited.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import lightning.pytorch as L

from hepml.training.checkpoints import BEST, LAST
from hepml.training.module import TrainingModule
from hepml.training.progress import Progress
from hepml.training.run_config import TrainingConfig

WATCHED = (signal.SIGTERM, signal.SIGINT)
REFRESH = 0.5  # seconds between looks at the running loss, each of which waits for the device


class Killed(Exception):
    """The run was asked to end (SIGTERM, SIGINT); its last checkpoint is written.

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


class Signals:
    """SIGTERM and SIGINT turned into a flag that the training loop looks at between steps."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def watching(self) -> Iterator[Signals]:
        """Catches the signals inside the block; a second SIGINT interrupts at once. Elsewhere than in the
        main thread it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {s: signal.getsignal(s) for s in WATCHED}
        self.install()
        try:
            yield self
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    def install(self) -> None:
        """Puts our handlers in place (again, after Lightning has put its own)."""
        if threading.current_thread() is threading.main_thread():
            for s in WATCHED:
                signal.signal(s, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum


# What of a run's keeper a checkpoint holds.
STATE = ("best", "best_epoch", "waited", "stopped", "history", "seconds", "trained")


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
        self._began = time.monotonic()
        self._epoch_began = time.monotonic()
        self._looked = 0.0
        self._loss: float | None = None

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
        self._began = time.monotonic()
        self.signals.install()
        if self.stopped:
            trainer.should_stop = True
        steps = int(trainer.num_training_batches)
        self.progress.begin(self.settings.epochs, steps, self.jets, first_epoch=trainer.current_epoch)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_began = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        now = time.monotonic()
        if now - self._looked > REFRESH:
            self._looked, self._loss = now, pl_module.running_loss()
        self.progress.step(trainer.current_epoch, batch_idx + 1, self._loss, len(batch) * trainer.world_size)
        asked = self._asked_to_end(trainer)
        every = self.settings.checkpoint_every
        last_of_epoch = batch_idx + 1 >= trainer.num_training_batches
        if last_of_epoch:
            return  # the end of the epoch writes its own checkpoint, and ends the run where that was asked
        done, batches = batch_idx + 1, self.settings.accumulate
        if done % batches:
            return  # gradients that wait for their step are in no checkpoint
        if asked or (every and done // every > (done - batches) // every):
            trainer.save_checkpoint(self.folder / LAST)
        if asked:
            raise Killed(asked, self.folder.parent)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.on_epoch_measured()
        seconds = time.monotonic() - self._epoch_began
        values = dict(pl_module.epoch_metrics)
        values["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        values["epoch_seconds"] = seconds
        values["jets_per_second"] = self.jets / max(seconds, 1e-9)
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
        if self.sink is not None and trainer.is_global_zero:
            self.sink.metrics({**values, "seconds": self.elapsed}, epoch)
        if better:
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)
        self.progress.epoch(epoch, values, better)
        asked = self._asked_to_end(trainer)
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

    def _asked_to_end(self, trainer: L.Trainer) -> int | None:
        asked = self.signals.received
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(asked is not None, all=False):
            asked = asked or int(signal.SIGTERM)  # one rank was told: all of them end at the same step
        return asked
