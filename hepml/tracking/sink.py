"""The thread that sends a running journal to MLflow, and for which no caller waits longer than a stated time.

It wakes when something was written, imports MLflow, opens the store and ships. A failure is reported once,
then tried again after a pause that grows to a minute. The training thread only sets an event.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from hepml.tracking.shipping import Abandoned, Shipper
from hepml.tracking.store import public_uri, reason, sqlite_path

_log = logging.getLogger("hepml.tracking")


class Sink:
    """Ships the journal of `run_dir` to `uri` in the background.

    Args:
        run_dir: the directory of the run.
        uri: the store.
        gather: seconds to wait after an entry for others that go in the same request.
        grace: seconds before the first request, and so before MLflow is imported: a training run takes its
            first steps meanwhile.
    """

    def __init__(self, run_dir: Path, uri: str, *, gather: float = 0.5, grace: float = 0.0) -> None:
        self.uri = uri
        self.problem: str | None = None
        self._gather, self._grace = gather, grace
        self._wake, self._stop, self._abandon = threading.Event(), threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._steps = 0
        self.shipper = Shipper(run_dir, uri, self._abandon.is_set)
        self._thread = threading.Thread(target=self._run, name="hepml-tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that the journal has grown; returns at once."""
        self._wake.set()

    def finish(self, *, stall: float, limit: float) -> bool:
        """Waits until all is sent; gives up after `stall` seconds without progress once the store is open, or
        `limit` seconds in all.

        Returns:
            Whether all was sent.
        """
        self._stop.set()
        self._wake.set()
        started = moved = time.monotonic()
        position = self._progress()
        while not self._ended.wait(0.05):
            now = time.monotonic()
            if self._progress() != position:
                position, moved = self._progress(), now
            opened = (
                self.shipper.requests > 0
            )  # before that MLflow is imported or a store made: slow, but no sign of death
            if (opened and now - moved > stall) or now - started > limit:
                self.problem = self.problem or f"{public_uri(self.uri)} does not answer"
                break
        self._abandon.set()
        return self._ended.is_set() and self.problem is None

    def _progress(self) -> tuple[int, int]:
        return self._steps, self.shipper.requests

    def _run(self) -> None:
        failures = 0
        try:
            self._stop.wait(self._grace)
            while not self._abandon.is_set():
                self._wake.wait()
                if not self._stop.is_set():
                    self._stop.wait(self._gather)
                last = self._stop.is_set()
                self._wake.clear()
                try:
                    self.shipper.ship()
                    failures, self.problem = 0, None
                except Abandoned:
                    return
                except (
                    Exception
                ) as error:  # whatever MLflow, its server or its database does, the run goes on
                    failures += 1
                    self._failed(error, failures)
                    self._wake.set()
                    if not last:
                        self._stop.wait(min(2.0**failures, 60.0))
                self._steps += 1
                if last:
                    return
        finally:
            self._ended.set()

    def _failed(self, error: Exception, failures: int) -> None:
        self.problem = reason(error)
        if failures == 1:
            _log.warning(
                "MLflow at %s cannot be reached, the run goes on and keeps its journal: %s",
                *(public_uri(self.uri), self.problem),
            )


def is_local(uri: str) -> bool:
    """Whether the store is a file on this machine, which is waited for more patiently than a server."""
    return sqlite_path(uri) is not None or uri.startswith("file:")
