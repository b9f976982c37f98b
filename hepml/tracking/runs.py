"""All runs, read from their directories: MLflow is not asked and need not be there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepml.errors import TrackingError, did_you_mean
from hepml.tracking.journal import FILE_NAME, Record, is_locked, read_journal
from hepml.tracking.state import STATE_NAME, read_state

SUMMARY = "summary.json"
_MARKS = (FILE_NAME, SUMMARY)


@dataclass(frozen=True)
class Run:
    """One run, as its directory tells.

    Args:
        path: the directory.
        name, experiment: as it was started.
        status: RUNNING, FINISHED, FAILED, KILLED (also for one that died without a word), or UNKNOWN without
            a journal.
        started: milliseconds since 1970, or None.
        seconds: from the first start to the last entry, or None.
        summary: `summary.json`, empty where there is none.
        parameters: flattened, as text.
        metrics: the last value of each, with its step.
        not_finite: metrics that were NaN or infinite, with how often.
        notes: remarks in the journal.
        datasets: name to digest.
        sources: name of a data set to the files it was read from and the number of jets used.
        uri, run_id: the MLflow store and run, where known.
        waiting: journal entries that MLflow has not; None with tracking off.
        torn: journal lines that could not be read.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_run', enabled=False, system_interval=0)
        >>> warning = tracker.finish('FAILED')
        >>> hepml.tracking.open_run('runs/t_run').status
        'FAILED'
    """

    path: Path
    name: str
    experiment: str | None = None
    status: str = "UNKNOWN"
    started: int | None = None
    seconds: float | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, tuple[int, float]] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    datasets: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    uri: str | None = None
    run_id: str | None = None
    waiting: int | None = None
    torn: int = 0

    @property
    def model(self) -> str | None:
        """Name of the model."""
        named = self.summary.get("model")
        return named if isinstance(named, str) and named else self.parameters.get("model.name")

    @property
    def test(self) -> dict[str, Any]:
        """The first test report."""
        test = self.summary.get("test")
        return dict(test) if test and is_report(test) else {}

    def as_json(self) -> dict[str, Any]:
        """The run in plain values."""
        return {
            "run": str(self.path),
            "name": self.name,
            "experiment": self.experiment,
            "status": self.status,
            "model": self.model,
            "accuracy": self.test.get("accuracy"),
            "auc": self.test.get("auc"),
            "auc_error": self.test.get("auc_error"),
            "rejection": self.test.get("rejection") or {},
            "started": self.started,
            "seconds": self.seconds,
            "parameters": self.parameters,
            "metrics": {name: {"step": step, "value": value} for name, (step, value) in self.metrics.items()},
            "not_finite": self.not_finite,
            "datasets": self.datasets,
            "sources": self.sources,
            "notes": self.notes,
            "mlflow": {"uri": self.uri, "run_id": self.run_id, "waiting": self.waiting},
            "torn_lines": self.torn,
        }


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        runs: in the order they were named.
        parameters: those that differ: name to one text a run, None where a run has not got it.
        metrics: name to the last value of each run.
    """

    runs: list[Run]
    parameters: dict[str, list[str | None]]
    metrics: dict[str, list[float | None]]


def list_runs(root: Path | str = "runs") -> list[Run]:
    """All runs below `root`, newest first; a root that is not there has none.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_list', enabled=False, system_interval=0)
        >>> warning = tracker.finish()
        >>> 't_list' in [run.name for run in hepml.tracking.list_runs('runs')]
        True
    """
    runs = [open_directory(folder) for folder in _folders(Path(root))]
    return sorted(runs, key=lambda run: run.started or 0, reverse=True)


def open_run(run: Path | str, root: Path | str = "runs") -> Run:
    """A run by its directory, its name, or an unambiguous beginning of its directory's name below `root`.

    Raises:
        TrackingError: no such run (names the nearest), or several.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_open', enabled=False, system_interval=0)
        >>> warning = tracker.finish()
        >>> hepml.tracking.open_run('t_open').name
        't_open'
    """
    path = Path(run)
    if _is_run(path):
        return open_directory(path)
    folders = list(_folders(Path(root)))
    wanted = str(run)
    exact = [f for f in folders if wanted in (f.name, f.relative_to(root).as_posix())]
    fitting = exact or [f for f in folders if f.name.startswith(wanted)]
    if not fitting:
        fitting = [f for f in folders if open_directory(f).name == wanted]
    if len(fitting) == 1:
        return open_directory(fitting[0])
    if fitting:
        raise TrackingError(
            f"'{wanted}' is the beginning of {len(fitting)} runs",
            mend="one of " + ", ".join(f.name for f in fitting[:6]),
        )
    mend = (
        did_you_mean(wanted, [f.name for f in folders], noun=f"runs below {root}")
        if folders
        else "`hepml train` makes one"
    )
    raise TrackingError(f"there is no run '{wanted}'", where=str(root), mend=mend)


def open_directory(folder: Path) -> Run:
    """The run in this directory."""
    record = read_journal(folder)
    summary, damaged = _json(folder / SUMMARY)
    openings = record.of("start")
    opening = openings[-1] if openings else {}
    uri, run_id, waiting = _mlflow(folder, opening, record)
    return Run(
        path=folder,
        name=opening.get("name") or folder.name,
        experiment=opening.get("experiment"),
        status=_status(folder, record, summary),
        started=openings[0]["time"] if openings else None,
        seconds=(record.entries[-1]["time"] - openings[0]["time"]) / 1000
        if openings
        else summary.get("seconds"),
        summary=summary,
        parameters={k: v for e in record.of("parameters") for k, v in e["values"].items()},
        metrics=_last_metrics(record),
        not_finite=_count(name for e in record.of("metrics") for name in e.get("omitted") or ()),
        notes=[*(e["text"] for e in record.of("note")), *damaged],
        datasets={e["name"]: e["digest"] for e in record.of("dataset")},
        sources={
            e["name"]: {
                "files": [e["files"]] if isinstance(e["files"], str) else list(e["files"]),
                "jets": e["jets"],
            }
            for e in record.of("dataset")
        },
        uri=uri,
        run_id=run_id,
        waiting=waiting,
        torn=record.torn,
    )


def is_report(test: Any) -> bool:
    """Whether this is a test report: a mapping of numbers, with rejections in the form that hepml writes."""
    if not isinstance(test, dict):
        return False
    numbers = [test.get(key) for key in ("accuracy", "auc", "auc_error")]
    rejection = test.get("rejection") or {}
    if not isinstance(rejection, dict) or not all(isinstance(r, dict) for r in rejection.values()):
        return False
    numbers += [r.get(key) for r in rejection.values() for key in ("value", "error")]
    return all(isinstance(number, int | float | None) for number in numbers)


def compare_runs(runs: Sequence[Run], *, system: bool = False) -> Comparison:
    """Parameters that differ and metrics of several runs.

    Args:
        runs: at least one.
        system: include system metrics.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_one', enabled=False, system_interval=0)
        >>> tracker.metrics({'val_auc': 0.9}, step=0)
        >>> warning = tracker.finish()
        >>> run = hepml.tracking.open_run('runs/t_one')
        >>> hepml.tracking.compare_runs([run, run]).metrics
        {'val_auc': [0.9, 0.9]}
    """
    names = dict.fromkeys(n for run in runs for n in run.parameters)
    rows = {n: [run.parameters.get(n) for run in runs] for n in names}
    values = [_figures(run) for run in runs]
    wanted = dict.fromkeys(n for v in values for n in v if system or not n.startswith("system/"))
    return Comparison(
        list(runs),
        {n: row for n, row in rows.items() if len(set(row)) > 1},
        {n: [v.get(n) for v in values] for n in wanted},
    )


def _figures(run: Run) -> dict[str, float]:
    figures = {n: value for n, (_, value) in run.metrics.items()}
    summary = {
        k: run.summary[k] for k in ("parameters", "seconds") if isinstance(run.summary.get(k), (int, float))
    }
    return summary | figures


def _folders(root: Path) -> Iterator[Path]:
    if _is_run(root):
        yield root
        return
    for place, folders, files in os.walk(root, followlinks=False):
        if any(mark in files for mark in _MARKS):
            folders.clear()
            yield Path(place)
        else:
            folders[:] = sorted(f for f in folders if not f.startswith("."))


def _is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in _MARKS)


def _status(folder: Path, record: Record, summary: Mapping[str, Any]) -> str:
    marks = record.of("start", "end")
    if not marks:
        return "FINISHED" if summary else "UNKNOWN"
    if marks[-1]["kind"] == "end":
        return str(marks[-1]["status"])
    return "RUNNING" if is_locked(folder) else "KILLED"


def _mlflow(
    folder: Path, opening: Mapping[str, Any], record: Record
) -> tuple[str | None, str | None, int | None]:
    stores = read_state(folder / STATE_NAME)
    if not stores:
        enabled = bool(opening) and opening.get("enabled", True)
        return (opening.get("uri"), None, len(record.entries)) if enabled else (None, None, None)
    uri, state = list(stores.items())[-1]
    return uri, state.get("run_id"), sum(end > state.get("sent", 0) for end in record.ends)


def _last_metrics(record: Record) -> dict[str, tuple[int, float]]:
    last: dict[str, tuple[int, float]] = {}
    for entry in record.of("metrics"):
        step = entry.get("step", 0)
        for name, value in entry["values"].items():
            if name not in last or step >= last[name][0]:
                last[name] = (step, value)
    return last


def _count(names: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _json(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The mapping in a file of a run, empty where there is none; and a remark where it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and is_report(content.get("test") or {}):
        return content, []
    return {}, [f"{path.name} is damaged and left out"]
