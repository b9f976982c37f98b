"""What commands share on the screen: consoles, the one JSON document, the training bar.

Reports go to standard output, progress to standard error, so that `--json` leaves exactly one document on
standard output. Without a terminal the bar becomes one plain line an epoch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

DATA_SUFFIXES = frozenset({".root", ".npz", ".h5", ".hdf5", ".parquet", ".arrow", ".feather"})


def refuse_jets_as_run(word: str, example: str) -> None:
    """Refuses a file of jets where a run or weights belong.

    Raises:
        ConfigError: it is one; `example` is the mend.
    """
    from pathlib import Path

    from hepml.errors import ConfigError

    if Path(word).suffix.lower() in DATA_SUFFIXES:
        raise ConfigError(f"'{word}' holds jets, it is no run", where="command line", mend=example)


def out() -> Console:
    """The console for results; as wide as the table where there is no terminal to measure."""
    return Console(width=None if sys.stdout.isatty() else 120, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """The console for progress and remarks."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    from hepml.training.run_directory import finite

    sys.stdout.write(json.dumps(finite(document), indent=2) + "\n")


class CountingBar:
    """A bar for work that is counted, on standard error; silent without a terminal except for a line every
    now and then.

    Args:
        what: what is counted, as `jets`.
        total: how many there will be, or None.
        quiet: says nothing at all.
    """

    def __init__(self, what: str, total: int | None = None, *, quiet: bool = False) -> None:
        self.what, self.total, self.quiet = what, total, quiet
        self.console = err()
        self._bar: Progress | None = None
        self._task: Any = None
        self._began = self._told = time.monotonic()

    def __enter__(self) -> CountingBar:
        if self.console.is_terminal and not self.quiet:
            counted = "{task.completed:,.0f}" + (f" of {self.total:,}" if self.total else "")
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn(counted),
                RateColumn(self.what), TimeElapsedColumn(), TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total)
        return self

    def update(self, done: int, total: int | None = None) -> None:
        """So many are done."""
        if total is not None:
            self.total = total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total)
        elif not self.quiet and time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            rate = done / (self._told - self._began)
            self.console.print(
                f"{done:,}" + (f" of {self.total:,}" if self.total else "") + f" {self.what}, {rate:,.0f} /s"
            )

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class RateColumn(ProgressColumn):
    """Things a second."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def render(self, task: Task) -> Text:
        rate = task.speed or 0.0
        return Text(f"{rate:,.0f} {self.what}/s" if rate >= 10 else f"{rate:.1f} {self.what}/s", style="cyan")


def training_progress(*, quiet: bool = False) -> Any:
    """The `hepml.training.progress.Progress` that draws on standard error."""
    from hepml.training.progress import Progress as Listener

    return Listener() if quiet else _bar_class()()


def _bar_class() -> Callable[[], Any]:
    from hepml.training.progress import Progress as Listener

    class TrainingBar(Listener):
        """Epoch, step, loss, jets a second and the time left on a terminal; one line an epoch elsewhere."""

        def __init__(self) -> None:
            self.console = err()
            self.bar: Progress | None = None
            self.task: Any = None
            self.scores: dict[str, Any] = {}
            self.epochs = self.steps = self.jets = 0

        def message(self, text: str) -> None:
            self.console.print(Text(text), style="dim")

        def begin(self, epochs: int, steps: int, jets: int, *, first_epoch: int = 0) -> None:
            self.epochs, self.steps, self.jets = epochs, steps, jets
            self._open()
            if self.bar is not None:
                self.task = self.bar.add_task(
                    "training", total=epochs * jets, completed=first_epoch * jets, note=""
                )

        def step(self, epoch: int, step: int, loss: float | None, jets: int) -> None:
            if self.bar is None:
                return
            note = f"step {step}/{self.steps}" + (f"  loss {loss:.4f}" if loss is not None else "")
            self.bar.update(
                self.task, advance=jets, description=f"epoch {epoch + 1}/{self.epochs}", note=note
            )

        def epoch(self, epoch: int, values: Mapping[str, float], best: bool) -> None:
            shown = [f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"]
            named = [
                n for n in ("train_loss", "val_loss", "val_accuracy", "val_auc", "val_rmse") if n in values
            ]
            shown += [f"{n} {values[n]:.4g}" if n == "val_rmse" else f"{n} {values[n]:.4f}" for n in named]
            shown.append(f"{values['jets_per_second']:,.0f} jets/s")
            shown.append(f"{values['epoch_seconds']:.1f} s")
            if self.bar is not None:
                self.bar.update(self.task, completed=(epoch + 1) * self.jets)
            self.console.print(Text("  ".join(shown) + ("  *" if best else "")))

        def scoring(self, name: str, done: int, jets: int) -> None:
            self._open()
            if self.bar is None:
                return
            if name not in self.scores:
                self.scores[name] = self.bar.add_task(f"scoring {name}", total=jets, note="")
            self.bar.update(self.scores[name], completed=done)

        def end(self) -> None:
            if self.bar is not None:
                self.bar.stop()
                self.bar = None

        def _open(self) -> None:
            if self.bar is None and self.console.is_terminal:
                self.bar = Progress(
                    TextColumn("{task.description}"), BarColumn(bar_width=24),
                    TextColumn("{task.fields[note]}"),
                    RateColumn("jets"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                    console=self.console, transient=True,
                )  # fmt: skip
                self.bar.start()

    return TrainingBar
