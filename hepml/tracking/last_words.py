"""Why a run has no result: what its log says at the end, and what its journal says about its ends."""

from __future__ import annotations

from pathlib import Path

from hepml.tracking.journal import Record, read_journal


def last_words(log: Path | str | None) -> str | None:
    """The line of a log that says what went wrong: the last error line, else the last line; None without a
    log."""
    if log is None:
        return None
    try:
        lines = [line.strip() for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return None
    errors = [line for line in lines[-80:] if line.startswith("error:")]
    candidates = errors or lines
    return candidates[-1][:300] if candidates else None


def why_unfinished(folder: Path, record: Record | None = None) -> str | None:
    """Why a run has no result, as its journal tells; None where it says nothing."""
    record = record or read_journal(folder)
    starts, ends = len(record.of("start")), [entry["status"] for entry in record.of("end")]
    if not starts:
        return None
    killed = ends.count("KILLED") + max(0, starts - len(ends))  # a start without an end was killed outright
    if (ends and ends[-1] == "KILLED") or starts > len(ends):
        return f"left the queue after {killed} time limit{'s' if killed > 1 else ''}, kills or preemptions"
    return None
