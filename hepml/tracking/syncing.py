"""`sync`: replays to MLflow what a run's journal has and the store has not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hepml.errors import HepmlError, TrackingError
from hepml.tracking.journal import Journal, read_journal, take_lock
from hepml.tracking.shipping import Shipper
from hepml.tracking.store import prepare_environment, public_uri, reason, tracking_uri

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # seconds
_LONGEST = 600


@dataclass
class Synced:
    """What became of one run.

    Args:
        run_dir: the run.
        sent: journal entries that MLflow took now.
        run_id: the MLflow run.
        uri: the store.
        refused: what MLflow did not take, and why.
        torn: journal lines that could not be read.
        problem: why the run was not sent, or not wholly; None if all is well.
        skipped: whether the run was left alone on purpose (it runs, or its tracking is off).
    """

    run_dir: Path
    sent: int = 0
    run_id: str | None = None
    uri: str | None = None
    refused: list[str] = field(default_factory=list)
    torn: int = 0
    problem: str | None = None
    skipped: bool = False


def sync(
    run_dirs: Iterable[Path | str] | Path | str, uri: str | None = None, *, force: bool = False
) -> list[Synced]:
    """Sends what is missing, each entry exactly once; a run that was killed without a word is ended as
    KILLED.

    Args:
        run_dirs: directories of runs.
        uri: a store for all of them; without it MLFLOW_TRACKING_URI, else the store each run was started
            with.
        force: send runs whose tracking was switched off, too.

    Returns:
        One report a run; a store that fails is reported there, and the next run is tried.

    Examples:
        >>> hepml.tracking.sync([])
        []
    """
    folders = [run_dirs] if isinstance(run_dirs, (str, Path)) else list(run_dirs)
    return [_sync_one(Path(folder), uri, force) for folder in folders]


def _sync_one(run_dir: Path, uri: str | None, force: bool) -> Synced:
    result = Synced(run_dir)
    record = read_journal(run_dir)
    openings = record.of("start")
    if not openings:
        result.problem = "no journal with a start entry"
        return result
    if not openings[-1].get("enabled", True) and not force:
        result.skipped, result.problem = True, "its tracking is off (name it, or use --force)"
        return result
    where = _store(uri, openings)
    result.uri = public_uri(where)
    try:
        _bury(run_dir)
        lock = take_lock(run_dir)
    except TrackingError:
        result.skipped, result.problem = True, "it is running"
        return result
    except (HepmlError, OSError) as error:
        result.problem = str(error)
        return result
    try:
        shipper = Shipper(run_dir, where)
        result.torn = read_journal(run_dir).torn
        try:
            result.sent = _patiently(shipper)
        except Exception as error:  # one dead store must not keep the others from being brought up to date
            result.problem = f"MLflow at {public_uri(where)}: {reason(error)}"
        result.run_id, result.refused = shipper.run_id, shipper.refused
    finally:
        lock.release()
    return result


def _patiently(shipper: Shipper) -> int:
    """Ships everything; a server that takes longer to answer than it is given is given more, up to ten
    minutes a request. Nobody waits for this but the person who asked for it."""
    prepare_environment()
    before = os.environ[TIMEOUT]
    sent = shipper.state.sent
    entries = 0
    try:
        while True:
            try:
                return entries + shipper.ship()
            except Exception as error:
                allowed = int(os.environ[TIMEOUT])
                if reason(error) != "no answer in time" or allowed >= _LONGEST:
                    raise
                os.environ[TIMEOUT] = str(min(_LONGEST, 3 * allowed))
                now = shipper.state.sent
                entries += len(read_journal(shipper.run_dir, sent).entries) - shipper.waiting()
                sent = now
    finally:
        os.environ[TIMEOUT] = before


def _store(uri: str | None, openings: list[dict[str, object]]) -> str:
    if uri is not None:
        return _without_variable(uri)
    return tracking_uri(str(openings[-1]["uri"]))


def _without_variable(uri: str) -> str:
    """The store as named on the command line, which is nearer to the user than a variable."""
    saved = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        return tracking_uri(uri)
    finally:
        if saved is not None:
            os.environ["MLFLOW_TRACKING_URI"] = saved


def _bury(run_dir: Path) -> None:
    """Ends a run whose process died without a word; raises TrackingError where the run is alive."""
    journal = Journal(run_dir)  # holding the lock is the proof that nobody else does
    try:
        record = read_journal(run_dir)
        marks = record.of("start", "end")
        if marks and marks[-1]["kind"] == "start":
            journal.append("end", status="KILLED", inferred=True, time=record.entries[-1]["time"])
    finally:
        journal.close()
