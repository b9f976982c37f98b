"""What a log says at its end about why a process failed."""

from __future__ import annotations

from pathlib import Path


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
    told = errors or lines
    return told[-1][:300] if told else None
