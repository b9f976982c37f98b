"""What commands share on the screen: consoles, the one JSON document, the training bar.

Reports go to standard output, progress to standard error, so that `--json` leaves exactly one document on
standard output. Without a terminal the bar becomes one plain line an epoch.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hepml import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAUSE = 60.0  # seconds between two lines in a log
PICTURES = frozenset({".png", ".pdf", ".svg"})
LONG_WAIT = 0.1  # of an epoch, from which on the wait for jets is shown with it
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


def check_picture(path: Path, option: str = "--plot") -> None:
    """Before anything is computed: the ending is that of a picture, and its folder is there, since a new one
    is more often a slip than a wish.

    Raises:
        FileError: otherwise.
    """
    from hepml.errors import FileError

    if path.suffix.lower() not in PICTURES:
        raise FileError(f"cannot draw '{path.name}'", where=option, mend="end the name in .png, .pdf or .svg")
    if not path.parent.is_dir():
        raise FileError(
            f"there is no folder {path.parent}",
            where=option,
            mend=f"mkdir -p {shlex.quote(str(path.parent))}",
        )


def out() -> Console:
    """The console for results; as wide as the table where there is no terminal to measure."""
    return Console(width=None if sys.stdout.isatty() else 120, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """The console for progress and remarks; says nothing where `-q` was given."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty(), quiet=cli.QUIET)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    from hepml.training.run_directory import finite

    sys.stdout.write(json.dumps(finite(document), indent=2) + "\n")


def counting_bar(what: str, total: int | None, console: Console, *, transient: bool = True) -> Progress:
    """A started bar: done of total, rate, time so far, and time left."""
    known = (TextColumn("left"), TimeRemainingColumn()) if total else ()
    counted = (TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),) if total else (SpinnerColumn(),)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), *counted, RateColumn(what.split()[0]),
        TimeElapsedColumn(), *known, console=console, transient=transient,
    )  # fmt: skip
    bar.start()
    return bar


def progress_line(what: str, done: int, total: int | None, seconds: float) -> str:
    """What a log is told once a minute: so many of all, a second, and the time left."""
    rate = done / max(seconds, 1e-9)
    shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    if not total:
        return f"{done:,} {what}, {shown}/s"
    left = "" if not done else f", {duration((total - done) / rate)} left"
    return f"{done:,} of {total:,} {what}, {shown}/s{left}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class CountingBar:
    """A bar for work that is counted, on standard error; silent without a terminal except for a line a
    minute.

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
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> CountingBar:
        cli.BARS += 1
        if self.console.is_terminal and not self.quiet:
            self._bar = counting_bar(self.what, self.total, self.console, transient=False)
            self._task = self._bar.add_task(self.what, total=self.total)
        return self

    def update(self, done: int, total: int | None = None) -> None:
        """So many are done."""
        if total is not None:
            self.total = total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total)
        elif not self.quiet and time.monotonic() - self._printed > PAUSE:
            self._printed = time.monotonic()
            self.console.print(progress_line(self.what, done, self.total, self._printed - self._began))

    def __exit__(self, *problem: object) -> None:
        cli.BARS -= 1
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
            self.epochs = self.steps = self.jets = self.trained = self.whole = 0
            self.began = self.printed = time.monotonic()

        def message(self, text: str) -> None:
            self.console.print(Text(text), style="dim")

        def begin(self, epochs: int, steps: int, jets: int, *, first_epoch: int = 0) -> None:
            self.epochs, self.steps, self.jets = epochs, steps, jets
            self.trained, self.whole = 0, (epochs - first_epoch) * jets
            self.began = self.printed = time.monotonic()
            self._open()
            if self.bar is not None:
                self.task = self.bar.add_task(
                    "training", total=epochs * jets, completed=first_epoch * jets, note=""
                )

        def step(self, epoch: int, step: int, loss: float | None, jets: int) -> None:
            note = f"step {step}/{self.steps}" + (f"  loss {loss:.4f}" if loss is not None else "")
            self.trained += jets
            if self.bar is None:
                if time.monotonic() - self.printed > PAUSE:
                    self.printed = time.monotonic()
                    line = progress_line("jets", self.trained, self.whole, self.printed - self.began)
                    self.console.print(f"epoch {epoch + 1}/{self.epochs}  {note}  {line}")
                return
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
            if values.get("loader_seconds", 0.0) > LONG_WAIT * values["epoch_seconds"]:
                shown.append(f"{values['loader_seconds']:.1f} s waiting for jets")
            if self.bar is not None:
                self.bar.update(self.task, completed=(epoch + 1) * self.jets)
            self.printed = time.monotonic()
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
                cli.BARS -= 1

        def _open(self) -> None:
            if self.bar is None and self.console.is_terminal:
                self.bar = Progress(
                    TextColumn("{task.description}"), BarColumn(bar_width=24),
                    TextColumn("{task.fields[note]}"),
                    RateColumn("jets"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                    console=self.console, transient=True,
                )  # fmt: skip
                self.bar.start()
                cli.BARS += 1

    return TrainingBar
