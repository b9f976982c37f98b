"""`start` a run and report to it: everything goes to the journal first, then, in the background, to MLflow.

No call of a `Tracker` waits for MLflow except `finish`, and that only as long as it promises.

Longer than other files because it is one idea: a run, how it is started, and all that can be said of it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from hepml import outputs
from hepml.errors import TrackingError
from hepml.paths import RUN_CONFIG
from hepml.tracking import names
from hepml.tracking.environment import provenance_tags, user_name
from hepml.tracking.journal import Journal, finite, read_journal
from hepml.tracking.sink import Sink, is_local
from hepml.tracking.state import STATE_NAME, read_state, write_state
from hepml.tracking.store import authenticated, public_uri, tracking_uri
from hepml.tracking.system import Sampler

if TYPE_CHECKING:
    from filelock import FileLock
    from matplotlib.figure import Figure
    from torch import nn

    from hepml.data.batch import JetBatch

STATUSES = ("FINISHED", "FAILED", "KILLED")
# Files of a run directory that are kept in MLflow too, where they exist.
PROVENANCE = (RUN_CONFIG, "environment.json", "git.json")
_TRIES = 100  # to draw, a tenth of a second apart, while the background imports MLflow
_log = logging.getLogger("hepml.tracking")


def start(
    run_dir: Path | str,
    *,
    experiment: str = "hepml",
    name: str | None = None,
    uri: str | None = None,
    enabled: bool = True,
    parameters: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    system_interval: float = 10.0,
    lock: FileLock | None = None,
    grace: float = 0.0,
) -> Tracker:
    """Begins to track a run, or goes on with the one whose journal is in `run_dir`.

    Args:
        run_dir: the directory of the run. `config.yaml`, `environment.json` and `git.json`, where they are
            there, are kept and tagged.
        experiment: the MLflow experiment.
        name: the run's name; that of the directory where left out.
        uri: the MLflow store; MLFLOW_TRACKING_URI wins over it, `mlflow.db` in the current directory is the
            default.
        enabled: false writes the journal only.
        parameters: nested; flattened to `key.sub`.
        tags: further tags.
        run_id: an MLflow run to go on with, where the run directory does not know it.
        system_interval: seconds between samples of processor, memory and accelerator; 0 takes none.
        lock: of the run directory, where the caller has it (see `take_lock`).
        grace: seconds before MLflow is imported and told.

    Raises:
        TrackingError: another process writes to this run.
        FileError: the run directory cannot be written.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_start', enabled=False, system_interval=0)
        >>> tracker.metrics({'val_auc': 0.9}, step=0)
        >>> warning = tracker.finish()
        >>> hepml.tracking.open_run('runs/t_start').status
        'FINISHED'
    """
    run_dir = Path(run_dir)
    where = tracking_uri(uri)
    where = authenticated(where) if enabled else where
    before = read_journal(run_dir)
    journal = Journal(run_dir, lock)
    if before.torn:
        _log.warning("the journal of %s has %d torn lines, which are left out", run_dir, before.torn)
    resumed = bool(before.of("start"))
    opening = before.of("start")[0] if resumed else {}
    if run_id is not None:
        _adopt(run_dir, where, run_id)
    journal.append(
        "start",
        format=1,
        key=opening.get("key") or uuid.uuid4().hex,
        experiment=opening.get("experiment") or experiment,
        name=opening.get("name") or name or run_dir.resolve().name,
        uri=public_uri(where),
        enabled=enabled,
        resumed=resumed,
        host=socket.gethostname(),
        user=user_name(),
        pid=os.getpid(),
    )
    tracker = Tracker(journal, Sink(run_dir, where, grace=grace) if enabled else None, system_interval)
    if resumed:
        tracker._remember(before.of("metrics"))
    try:
        tracker.parameters(parameters or {})
        tracker.tags({"hepml.run_dir": str(run_dir), **_provenance(run_dir), **(tags or {})})
        for file in PROVENANCE:
            if (run_dir / file).is_file():
                tracker.artifact(run_dir / file)
    except BaseException:
        tracker.finish("FAILED")
        raise
    return tracker


class Tracker:
    """Reports of one run. Made by `start`; a context manager that ends the run as FINISHED, FAILED (an
    exception) or KILLED (a signal).

    Args:
        journal: open, with its start entry written.
        sink: sends it to MLflow, or None.
        system_interval: seconds between system samples; 0 takes none.

    Examples:
        >>> tracker = hepml.tracking.start('runs/t_tracker', enabled=False, system_interval=0)
        >>> tracker.parameters({'model': {'name': 'pfn'}})
        >>> warning = tracker.finish()
        >>> hepml.tracking.open_run('runs/t_tracker').parameters
        {'model.name': 'pfn'}
    """

    def __init__(self, journal: Journal, sink: Sink | None, system_interval: float = 0.0) -> None:
        self.run_dir = journal.run_dir
        self._journal, self._sink = journal, sink
        self._latest: dict[tuple[str, int], float] = {}
        self._repeated = 0
        self._omitted: dict[str, int] = {}
        self._old_handler: Any = None
        self._sampler = Sampler(self._system, system_interval) if system_interval > 0 else None
        self._wake()

    @property
    def run_id(self) -> str | None:
        """The MLflow run id; None without MLflow, or while it has not been made."""
        return None if self._sink is None else self._sink.shipper.run_id

    @property
    def uri(self) -> str | None:
        """The MLflow store, None without one."""
        return None if self._sink is None else self._sink.uri

    @property
    def problem(self) -> str | None:
        """Why MLflow is not up to date, where it is not."""
        return None if self._sink is None else self._sink.problem

    # ------------------------------------------------------------------ reporting

    def metrics(self, values: Mapping[str, Any], step: int, *, final: bool = False) -> None:
        """Metrics at a step. NaN and infinities are kept in the journal and sent as a tag, never as numbers;
        they are counted.

        Values that the run already reported for that step before it was resumed are not repeated.

        Args:
            values: by name.
            step: when.
            final: figures of the finished run, of which there will be one value: MLflow, which would draw a
                chart with one point of each, gets them as a table, and the journal as metrics.
        """
        kept, omitted = finite(values)
        if self._latest:
            again = [n for n, v in kept.items() if self._latest.get((n, step)) == v]
            self._repeated += len(again)
            kept = {n: v for n, v in kept.items() if n not in again}
        for n in omitted:
            self._omitted[n] = self._omitted.get(n, 0) + 1
        if kept or omitted:
            more = {**({"omitted": omitted} if omitted else {}), **({"final": True} if final else {})}
            self._append("metrics", step=int(step), values=kept, **more)

    def has_reported(self, name: str, step: int) -> bool:
        """Whether the run reported a metric at a step before it was resumed."""
        return (name, step) in self._latest

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Parameters, nested ones flattened to `key.sub`."""
        if values:
            self._append("parameters", values=names.flatten(values))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tags, as text."""
        if values:
            self._append("tags", values={str(k): names.text(v) for k, v in values.items()})

    def figure(self, name: str, figure: Figure, *, dpi: int = 150) -> Path:
        """Saves a figure as `plots/NAME.png` and keeps it as an artifact; returns its path."""
        folder = self.run_dir / "plots"
        folder.mkdir(exist_ok=True)
        path = folder / (name if Path(name).suffix in (".png", ".pdf", ".svg") else f"{name}.png")
        for _ in range(_TRIES):
            try:
                figure.savefig(path, dpi=dpi, bbox_inches="tight")
                break
            except AttributeError as problem:  # matplotlib looks at IPython, which MLflow is just importing
                if "partially initialized module" not in str(problem):
                    raise
                time.sleep(0.1)
        else:
            figure.savefig(path, dpi=dpi, bbox_inches="tight")
        self.artifact(path, "plots")
        return path

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> Path:
        """Saves columns of equal length as `tables/NAME.json`, which MLflow shows as a table; returns its
        path."""
        folder = self.run_dir / "tables"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.json"
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        outputs.write_bytes(path, json.dumps({"columns": list(columns), "data": rows}).encode())
        self._append("table", path=path.relative_to(self.run_dir).as_posix())
        return path

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Keeps a file or folder as an artifact. One from outside the run directory is copied into
        `artifacts/` first.

        Raises:
            TrackingError: there is no such file.
        """
        path = Path(path)
        if not path.exists():
            raise TrackingError(
                "an artifact is not there", where=str(path), mend="write the file before reporting it"
            )
        try:
            inside = path.resolve().relative_to(self.run_dir.resolve())
        except ValueError:
            inside = Path("artifacts") / path.name
            (self.run_dir / "artifacts").mkdir(exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, self.run_dir / inside, dirs_exist_ok=True)
            else:
                shutil.copy2(path, self.run_dir / inside)
        self._append("artifact", path=inside.as_posix(), folder=folder)

    def dataset(
        self, name: str, digest: str, files: Sequence[Path | str] | Path | str, jets: int, **profile: Any
    ) -> None:
        """A data set that goes into the run.

        Args:
            name: its role: `train`, `val`, `test`.
            digest: hash of its content.
            files: where it came from.
            jets: how many.
            profile: further numbers, as `classes={...}`.
        """
        sources = [files] if isinstance(files, (str, Path)) else list(files)
        context = {"train": "training", "val": "validation", "test": "evaluation"}.get(name, name)
        self._append(
            "dataset",
            name=name,
            digest=str(digest),
            files=[str(f) for f in sources],
            jets=int(jets),
            context=context,
            profile=profile,
        )

    def model(
        self,
        module: nn.Module,
        example_batch: JetBatch,
        *,
        objective: Any = None,
        classes: Sequence[str] | None = None,
        name: str = "model",
        step: int | None = None,
    ) -> Path:
        """Keeps the model, with its signature, so that `mlflow.pyfunc.load_model` gives its scores back;
        returns the folder.

        Args:
            module: a model made by `hepml.models.create`.
            example_batch: some jets; the first few are kept as an example with their scores.
            objective: an `Objective`, its name, or a mapping with `name`; `module.hepml_objective` where left
                out.
            classes: names of the classes; `module.hepml_classes` where left out.
            name: the folder in the run directory, and in MLflow.
            step: whose metrics are those of this model; MLflow shows them on its page.

        Raises:
            TrackingError: the module does not know how it was made.
        """
        from hepml.models.identity import identity_of
        from hepml.tracking.packaging import save

        save(self.run_dir / name, module, example_batch, objective=objective, classes=classes)
        title = identity_of(module).name or name
        self._append("model", path=name, name=name, title=title, **({} if step is None else {"step": step}))
        return self.run_dir / name

    # ------------------------------------------------------------------ ending

    def finish(self, status: str = "FINISHED", *, timeout: float | None = None) -> str | None:
        """Ends the run and waits, within bounds, until MLflow has everything. May be called again; only the
        first counts.

        Args:
            status: FINISHED, FAILED or KILLED.
            timeout: longest wait in seconds, by default 180 for a local store and 60 for a server; a store
                that does not move for a while (60 s, 12 s) is not waited for longer.

        Returns:
            The warning that was logged where MLflow has not everything, else None.

        Raises:
            FileError: the journal could not be written (disk full).
        """
        if status not in STATUSES:
            raise ValueError(f"status '{status}' is none of {STATUSES}")
        if self._journal.closed:
            return None
        if self._sampler is not None:
            self._sampler.stop()
        for text in self._notes():
            _log.warning("%s", text)
            self._append("note", text=text)
        self._append("end", status=status)
        self._journal.close()
        return self._settle(timeout)

    def __enter__(self) -> Tracker:
        # A cancelled batch job gets SIGTERM: without this the process dies at once and the run stays RUNNING
        # for ever.
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_handler = signal.signal(signal.SIGTERM, _terminate)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)
            self._old_handler = None
        self.finish(status_of(error))

    # ------------------------------------------------------------------ helpers

    def _append(self, kind: str, **values: Any) -> None:
        self._journal.append(kind, **values)
        self._wake()

    def _system(self, values: dict[str, float], step: int) -> None:
        if not self._journal.closed and values:
            self._append("metrics", step=step, values=values)

    def _wake(self) -> None:
        if self._sink is not None:
            self._sink.wake()

    def _remember(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            for name, value in entry["values"].items():
                self._latest[name, entry["step"]] = value
        if self._sampler is not None:
            own = [step for name, step in self._latest if name.startswith("system/")]
            self._sampler.step = max(own, default=-1) + 1

    def _notes(self) -> list[str]:
        notes = []
        if self._omitted:
            listed = ", ".join(f"{n} ({k})" for n, k in sorted(self._omitted.items()))
            notes.append(f"metrics that were not finite, kept as text only: {listed}")
        if self._repeated:
            notes.append(
                f"{self._repeated} values were already reported before the run was resumed and not repeated"
            )
        return notes

    def _settle(self, timeout: float | None) -> str | None:
        if self._sink is None:
            return None
        local = is_local(self._sink.uri)
        limit = timeout if timeout is not None else (180.0 if local else 60.0)
        # A store that has failed is given one more try, briefly.
        stall = (60.0 if local else 12.0) if self._sink.problem is None else 6.0
        if self._sink.finish(stall=min(stall, limit), limit=limit):
            return None
        warning = (
            f"MLflow at {public_uri(self._sink.uri)} has not everything ({self._sink.shipper.waiting()} "
            "entries wait: "
            f"{self._sink.problem}); `hepml runs sync {self.run_dir}` replays what is missing"
        )
        _log.warning("%s", warning)
        return warning


def status_of(error: BaseException | None) -> str:
    """FINISHED without an exception, KILLED for an interrupt or a signal, FAILED for any other."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    if isinstance(error, (KeyboardInterrupt, SystemExit)) or type(error).__name__ == "SIGTERMException":
        return "KILLED"
    return "FAILED"


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _adopt(run_dir: Path, uri: str, run_id: str) -> None:
    path = run_dir / STATE_NAME
    stores = read_state(path)
    if stores.get(public_uri(uri), {}).get("run_id") is None:
        stores[public_uri(uri)] = {"run_id": run_id, "experiment_id": "", "sent": 0, "models": {}}
        write_state(path, stores)


def _provenance(run_dir: Path) -> dict[str, str]:
    records: list[Any] = []
    for file in ("environment.json", "git.json"):
        try:
            records.append(json.loads((run_dir / file).read_text()))
        except (OSError, ValueError):
            records.append(None)
    return provenance_tags(*records)
