"""A table of what was submitted: where each run is, how often it was queued again, how far it has come and
what went wrong. Read from the queue and the run folders; no accounting is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepml.cluster import queue, submissions
from hepml.cluster.submissions import Submitted
from hepml.tracking.journal import Record, is_locked, read_journal
from hepml.tracking.last_words import last_words, why_unfinished

SUMMARY = "summary.json"
UNFINISHED = ("failed", "left")  # left the queue without a result
_ENDED = frozenset({"FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "COMPLETED", "REMOVED"})


@dataclass(frozen=True)
class Row:
    """One run of a board.

    Args:
        name: of the run.
        job: what the batch system calls it.
        system: slurm, htcondor or local.
        state: pending, running, held, finished, failed, or left (the queue without a result); ended, of a
            gather step.
        started: how often it began; the first time counts.
        epoch, epochs: done, and of how many.
        jets_per_second: of the last epoch.
        seconds_left: of training, by the mean of its epochs.
        problem: its last words.
        folder: of the run.
    """

    name: str
    job: str
    system: str
    state: str
    started: int
    epoch: int
    epochs: int | None
    jets_per_second: float | None
    seconds_left: float | None
    problem: str | None
    folder: str | None

    @property
    def requeued(self) -> int:
        return max(0, self.started - 1)

    def as_json(self) -> dict[str, Any]:
        """The row in plain values."""
        return {**self.__dict__, "requeued": self.requeued}


def table(output: Path) -> list[Row]:
    """One row a run, in the order of its first submission."""
    rows = submissions.latest(submissions.read(output))
    known: dict[str, dict[str, str]] = {}
    for system in sorted({row.system for row in rows.values()}):
        known[system] = (
            queue.states(system, [r.id for r in rows.values() if r.system == system and r.id]) or {}
        )
    return [_row(row, known[row.system].get(row.id)) for row in rows.values()]


def _row(row: Submitted, queued: str | None) -> Row:
    folder = Path(row.folder) if row.folder else None
    record = read_journal(folder) if folder is not None else Record()
    epochs = [e for e in record.of("metrics") if "epoch_seconds" in e["values"]]
    seconds = [float(e["values"]["epoch_seconds"]) for e in epochs]
    trained = max((int(e["step"]) + 1 for e in epochs), default=0)
    speed = epochs[-1]["values"].get("jets_per_second") if epochs else None
    state = _state(folder, queued) if folder is not None else _state_of_many(row, queued)
    left = None
    if state == "running" and row.epochs and seconds:
        left = max(0, row.epochs - trained) * sum(seconds) / len(seconds)
    problem = None
    if state in ("failed", "left", "held"):
        reason = why_unfinished(folder, record) if folder is not None else None
        words = last_words(row.log)
        problem = words if words and words.startswith("error:") else reason or words
    return Row(
        row.name, row.id, row.system, state, len(record.of("start")), trained, row.epochs, speed, left,
        problem, row.folder,
    )  # fmt: skip


def _queued(queued: str | None) -> str | None:
    if queued in queue.ALIVE:
        return "pending" if queued in ("PENDING", "REQUEUED", "CONFIGURING") else "running"
    return "held" if queued == "HELD" else None


def _state_of_many(row: Submitted, queued: str | None) -> str:
    """The state of a job that is no single run: the gather step, or a whole benchmark."""
    waits = _queued(queued)
    if waits is not None or "--output" not in row.words:
        return waits or "ended"
    output = Path(row.words[row.words.index("--output") + 1])
    marks = list(output.rglob("benchmark.json"))
    return "finished" if marks and all((m.parent / SUMMARY).is_file() for m in marks) else "left"


def _state(folder: Path, queued: str | None) -> str:
    if (folder / SUMMARY).is_file():
        return "finished"
    waits = _queued(queued)
    if waits is not None:
        return waits
    if folder.is_dir() and is_locked(folder):
        return "running"  # by hand, or the batch system does not answer
    try:
        status = json.loads((folder / "run.json").read_text())["status"]
    except (OSError, ValueError, KeyError):
        status = None
    return "failed" if status == "FAILED" or queued in _ENDED - {"COMPLETED"} else "left"
