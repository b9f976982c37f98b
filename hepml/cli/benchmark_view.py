"""What a benchmark shows while it runs: a live table of its runs on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from hepml.cli import console
from hepml.training.benchmark.workers import Progress

_COLOURS = {"running": "cyan", "finished": "green", "kept": "green", "failed": "red", "killed": "yellow"}
_EVERY = 60.0  # seconds between lines about what is running, without a terminal


class View:
    """A context in which `show` may be called as often as one likes.

    Args:
        quiet: shows nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet, self.console = quiet, console.err()
        self._live: Live | None = None
        self._said: dict[str, str] = {}
        self._printed = time.monotonic()

    def __enter__(self) -> View:
        if self.console.is_terminal and not self.quiet:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *problem: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, runs: Sequence[Progress]) -> None:
        """The present state of all runs."""
        if self._live is not None:
            self._live.update(table(runs, most=max(5, self.console.height - 8)))
        elif not self.quiet:
            self._lines(runs)

    def _lines(self, runs: Sequence[Progress]) -> None:
        now = time.monotonic()
        again = now - self._printed > _EVERY
        for run in runs:
            changed = self._said.get(run.run.name, "waiting") != run.status
            if changed or (again and run.status == "running"):
                self._said[run.run.name] = run.status
                self.console.print(Text(line(run)))
        if again:
            self._printed = now


def table(runs: Sequence[Progress], most: int = 1000) -> Table:
    """One row a run; where there are more than `most`, those that run or have failed come before the finished
    and the waiting."""
    finished = sum(run.status in ("finished", "kept") for run in runs)
    out = Table(
        title=f"{finished} of {len(runs)} runs finished", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for heading in ("Run", "State", "Epoch", "Val. AUC", "Jets/s", "Time"):
        out.add_column(heading, justify="left" if heading in ("Run", "State") else "right", no_wrap=True)
    shown = list(runs)
    if len(shown) > most:
        urgency = {"running": 0, "failed": 1, "killed": 1, "waiting": 2}
        shown = sorted(shown, key=lambda run: urgency.get(run.status, 3))[:most]
    for run in shown:
        colour: Any = _COLOURS.get(run.status, "dim")
        out.add_row(Text(run.run.name), Text(run.status, style=colour), *_figures(run))
        if run.problem:
            out.add_row("", Text(run.problem, style="red", overflow="ellipsis"))
    if len(shown) < len(runs):
        out.add_row(Text(f"… and {len(runs) - len(shown)} more", style="dim"))
    return out


def line(run: Progress) -> str:
    """The same as one line."""
    epoch, auc, speed, took = _figures(run)
    text = f"{run.run.name}: {run.status}"
    if run.epoch:
        text += f", epoch {epoch}, val_auc {auc}"
    if run.status == "running" and run.epoch:
        text += f", {speed} jets/s"
    if run.seconds and run.status != "kept":
        text += f", {took}"
    return f"{text}: {run.problem}" if run.problem else text


def _figures(run: Progress) -> tuple[str, str, str, str]:
    auc, speed = run.values.get("val_auc"), run.values.get("jets_per_second")
    minutes, seconds = divmod(round(run.seconds or 0), 60)
    return (
        f"{run.epoch}/{run.run.config.training.epochs}",
        "—" if auc is None else f"{auc:.4f}",
        "—" if speed is None else f"{speed:,.0f}",
        f"{minutes}:{seconds:02d}" if run.seconds else "—",
    )
