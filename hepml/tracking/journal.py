"""The journal of a run: one JSON object a line in `run_dir/journal.jsonl`, appended and flushed as things
happen.

It is written before anything is sent anywhere, so that a dead server, a crash or a full disk loses nothing
that was reported. A line is whole or it is torn; torn lines (a crash in the middle of a write, a damaged
disk) are skipped by the reader and counted.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hepml.errors import FileError, TrackingError
from hepml.redaction import redacted

FILE_NAME = "journal.jsonl"
LOCK_NAME = ".journal.lock"
Entry = dict[str, Any]

_log = logging.getLogger("hepml.tracking")


@dataclass
class Record:
    """A journal as it was read.

    Args:
        entries: whole entries, in order.
        ends: the byte after each entry.
        torn: lines that could not be read.
        size: bytes up to the end of the last finished line.
    """

    entries: list[Entry] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    torn: int = 0
    size: int = 0

    def of(self, *kinds: str) -> list[Entry]:
        """The entries of these kinds."""
        return [e for e in self.entries if e["kind"] in kinds]


def read_journal(run_dir: Path | str, start: int = 0) -> Record:
    """Reads the journal of a run, from byte `start` on; an absent journal is an empty one.

    Raises:
        FileError: the journal cannot be read.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_read', enabled=False, system_interval=0)
        >>> tracker.metrics({'val_auc': 0.9}, step=0)
        >>> warning = tracker.finish()
        >>> [entry['values'] for entry in hepml.tracking.read_journal('runs/t_read').of('metrics')]
        [{'val_auc': 0.9}]
    """
    record = Record(size=start)
    path = Path(run_dir) / FILE_NAME
    try:
        for end, entry in _lines(path, start):
            record.size = max(end, record.size)
            if entry is None:
                record.torn += 1
            else:
                record.entries.append(entry)
                record.ends.append(end)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileError(
            f"the journal cannot be read: {error.strerror}",
            where=str(path),
            mend="check the file's permissions",
        ) from error
    return record


class Journal:
    """Appends to the journal of a run; safe to use from several threads of one process.

    A write that fails (disk full) is kept in memory and tried again with the next one; `close` raises if it
    never went through. While the journal is open its lock is held, so that a second process cannot write to
    the same run and `hepml runs` can tell a run that is alive from one that was killed.

    Args:
        run_dir: the directory of the run, made if it is absent.
        lock: of the directory, where the caller has taken it; the journal lets go of it.

    Raises:
        TrackingError: another process is writing to this run.
        FileError: the journal cannot be opened.

    Examples:
        >>> journal = hepml.tracking.Journal('runs/t_journal')
        >>> type(journal).__name__
        'Journal'
    """

    def __init__(self, run_dir: Path | str, lock: FileLock | None = None) -> None:
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / FILE_NAME
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._lock_file = take_lock(self.run_dir) if lock is None else lock
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FileError(
                f"the journal cannot be opened: {error.strerror or error}",
                where=str(self.path),
                mend="choose an output directory that can be written",
            ) from error
        self._mutex = threading.Lock()
        self._unwritten = b"" if self._ends_whole() else b"\n"  # a torn last line stays, on a line of its own
        self._warned = False
        self._closed = False

    def append(self, kind: str, **values: Any) -> Entry:
        """Writes one entry, with the time in milliseconds since 1970 unless `time` is given; returns it."""
        entry: Entry = {"kind": kind, "time": int(time.time() * 1000), **values}
        line = _encode(entry)
        with self._mutex:
            if self._closed:
                raise TrackingError(
                    f"the journal is closed, '{kind}' was not written",
                    where=str(self.path),
                    mend="report before finish()",
                )
            self._unwritten += line
            self._write()
        return entry

    def close(self) -> None:
        """Brings the journal to disk and lets go of its lock.

        Raises:
            FileError: entries could not be written.
        """
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._write()
            try:
                os.fsync(self._fd)
            except OSError as error:
                _log.warning("journal %s could not be brought to disk: %s", self.path, error)
            os.close(self._fd)
            self._lock_file.release()
        lost = self._unwritten.count(b"\n")
        if lost:
            raise FileError(
                f"{lost} entries of the journal could not be written",
                where=str(self.path),
                mend="make room on the disk",
            )

    @property
    def closed(self) -> bool:
        return self._closed

    def _write(self) -> None:
        try:
            while self._unwritten:
                written = os.write(self._fd, self._unwritten)
                self._unwritten = self._unwritten[written:]
            self._warned = False
        except OSError as error:
            if not self._warned:
                _log.warning(
                    "journal %s: %s; entries are kept in memory and tried again", self.path, error.strerror
                )
            self._warned = True

    def _ends_whole(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size == 0 or os.pread(self._fd, 1, size - 1) == b"\n"


def take_lock(run_dir: Path) -> FileLock:
    """Takes the lock of a run for this process.

    Raises:
        TrackingError: another process has it.

    Examples:
        >>> from pathlib import Path
        >>> Path("runs/t_lock").mkdir(parents=True, exist_ok=True)
        >>> hepml.tracking.take_lock(Path("runs/t_lock")).release()
    """
    lock = FileLock(run_dir / LOCK_NAME, thread_local=False, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrackingError(
            "another process is writing to this run",
            where=str(run_dir),
            mend="wait until it ends, or choose another output",
        ) from None
    return lock


def is_locked(run_dir: Path) -> bool:
    """Whether a process is writing to this run now."""
    if not (run_dir / LOCK_NAME).exists():
        return False
    try:
        take_lock(run_dir).release()
    except TrackingError:
        return True
    except OSError:  # a read-only directory: nobody of ours writes there
        return False
    return False


def finite(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Splits metrics into those that are finite numbers and the others, as text: JSON has no infinity, and
    MLflow stores it as 1.8e308."""
    kept, omitted = {}, {}
    for name, value in values.items():
        number = float(value)
        if math.isfinite(number):
            kept[name] = number
        else:
            omitted[name] = str(number)
    return kept, omitted


def _lines(path: Path, start: int) -> Iterator[tuple[int, Entry | None]]:
    """Each line from byte `start` as (offset of its end, entry); entry None for a torn line, offset -1 for
    one without its end."""
    end = start
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            end += len(line)
            if not line.endswith(b"\n"):
                yield -1, None
            elif line.strip():
                yield end, _entry(line)


def _entry(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and _is_whole(entry) else None


# What entries of each kind must hold to be of use; others, and entries of kinds that later versions write,
# only need a kind and a time.
_MUST: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {"name": str, "experiment": str, "key": str},
    "end": {"status": str},
    "metrics": {"values": dict},
    "parameters": {"values": dict},
    "tags": {"values": dict},
    "note": {"text": str},
    "dataset": {"name": str, "digest": str, "jets": int, "files": (list, str)},
    "artifact": {"path": str},
    "model": {"path": str, "name": str},
}


_LATEST = 4_102_444_800_000  # the year 2100, in milliseconds


def _is_whole(entry: Entry) -> bool:
    must: dict[str, Any] = {"kind": str, "time": int, **_MUST.get(str(entry.get("kind")), {})}
    if not all(isinstance(entry.get(key), kind) for key, kind in must.items()):
        return False
    if not 0 <= entry["time"] < _LATEST:
        return False
    if entry["kind"] != "metrics":
        return True
    numbers = [entry.get("step", 0), *entry["values"].values()]
    return all(isinstance(value, int | float) for value in numbers)


def _encode(entry: Entry) -> bytes:
    if entry["kind"] != "metrics":
        entry = redacted(entry)
    try:
        text = json.dumps(entry, separators=(",", ":"), default=_plain, allow_nan=False, ensure_ascii=False)
    except ValueError:  # a NaN or infinity somewhere inside
        text = json.dumps(
            _without_infinities(entry), separators=(",", ":"), default=_plain, ensure_ascii=False
        )
    return text.encode() + b"\n"


def _without_infinities(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_infinities(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy and torch scalars as numbers, sets as lists, paths and the rest as
    text."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return str(value)
