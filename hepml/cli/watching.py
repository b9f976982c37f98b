"""A bar for whatever takes longer than a second in any command, drawn from what is reported to
`hepml.progress`.

It comes on standard error and vanishes when the work is done. Without a terminal it is one line a minute,
with the time that is left; with `-q` it is nothing. A bar that a command draws itself goes before it.
"""

from __future__ import annotations

import time
from typing import Any

from hepml import cli

PATIENCE = 1.0  # seconds before anything is drawn
PAUSE = 60.0  # seconds between two lines in a log


class Watch:
    """The listener that `main` installs."""

    def __init__(self) -> None:
        self.what = ""
        self.count = 0
        self.began = self.printed = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if cli.QUIET or cli.BARS:
            self.close()
            return
        now = time.monotonic()
        if what != self.what or done < self.count:
            self.close()
            self.what, self.began, self.printed = what, now, now
        self.count = done
        if total is not None and done >= total:
            self.close()
        elif total is None or now - self.began >= PATIENCE:
            self._show(done, total, now)

    def close(self) -> None:
        """Takes the bar away."""
        self.what = ""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, done: int, total: int | None, now: float) -> None:
        from hepml.cli import console

        screen = console.err()
        if screen.is_terminal:
            if self._bar is None:
                self._bar = console.counting_bar(self.what, total, screen)
                self._task = self._bar.add_task(self.what, total=total)
            self._bar.update(self._task, completed=done, total=total)
        elif now - self.printed >= PAUSE and total is not None:
            self.printed = now
            screen.print(console.progress_line(self.what, done, total, now - self.began))
