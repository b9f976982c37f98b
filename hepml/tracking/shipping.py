"""From the journal to MLflow: sends what has not been sent, and remembers how far it came.

The live sink and `hepml runs sync` are this one thing, called again and again or once. How far it came stands
in `run_dir/tracking.json`, written after each accepted request. Where a request may have arrived without that
being known (a crash, a lost answer), metrics are compared with the store's own history before they are sent,
so that each arrives exactly once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepml.errors import TrackingError
from hepml.tracking import names, page
from hepml.tracking.journal import FILE_NAME, Entry, read_journal
from hepml.tracking.state import STATE_NAME, State
from hepml.tracking.store import experiment_id, open_store, public_uri, reason

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

KEY_TAG = "hepml.run_key"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
_log = logging.getLogger("hepml.tracking")


class Abandoned(Exception):
    """The shipper was told to stop between two requests."""


class Shipper:
    """Sends the journal of one run to one store.

    Args:
        run_dir: the directory of the run.
        uri: the store.
        abandoned: asked before every request; true stops at once (raises `Abandoned`).
    """

    def __init__(self, run_dir: Path, uri: str, abandoned: Callable[[], bool] = lambda: False) -> None:
        self.run_dir, self.uri, self._abandoned = Path(run_dir), uri, abandoned
        self.state = State(self.run_dir / STATE_NAME, public_uri(uri))
        self.requests = 0  # accepted ones: the sink sees progress by them
        self.refused: list[str] = []
        self._client: MlflowClient | None = None
        self._doubtful = self.state.run_id is not None
        self._history: dict[str, set[tuple[int, int]]] = {}

    @property
    def run_id(self) -> str | None:
        """The MLflow run, None until it was made."""
        return self.state.run_id

    def waiting(self) -> int:
        """Finished journal entries that have not been sent."""
        return len(read_journal(self.run_dir, self.state.sent).entries)

    def ship(self) -> int:
        """Sends all there is; returns the number of entries sent.

        Raises:
            Exception: what MLflow raised; what was accepted before it stays accepted. The next call takes up
                from there.
        """
        try:
            self._open()
            sent = 0
            while True:
                record = read_journal(self.run_dir, self.state.sent)
                if not record.entries:
                    self.state.advance(record.size)
                    break
                for group, end in _groups(record.entries, record.ends):
                    self._send(group)
                    self.state.advance(end)
                    sent += len(group)
            self._doubtful = False
            self._history.clear()
            return sent
        except BaseException:
            self._doubtful = True
            self._history.clear()
            raise

    # ------------------------------------------------------------------ the run

    def _open(self) -> None:
        if self._client is None:
            client = open_store(self.uri)
            self._accepted()
            self._client = client
        if self.state.run_id is None:
            self._make_run()
        elif self._doubtful:
            self._find_run()

    @property
    def client(self) -> MlflowClient:
        if self._abandoned():
            raise Abandoned
        assert self._client is not None
        return self._client

    @property
    def _run(self) -> str:
        assert self.state.run_id is not None
        return self.state.run_id

    def _make_run(self) -> None:
        opening = next((e for e in read_journal(self.run_dir).entries if e["kind"] == "start"), None)
        if opening is None:
            raise TrackingError(
                "the journal has no start entry",
                where=str(self.run_dir / FILE_NAME),
                mend="this run cannot be sent",
            )
        experiment = experiment_id(self.client, self.uri, opening["experiment"])
        key = opening["key"]
        # The answer to an earlier request may have been lost: the run is found again by its key.
        matches = self.client.search_runs(
            [experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1
        )
        if matches:
            run_id = matches[0].info.run_id
            self._doubtful = True
        else:
            tags = {
                KEY_TAG: key,
                "mlflow.user": opening.get("user") or "unknown",
                "mlflow.source.name": "hepml",
                "mlflow.source.type": "LOCAL",
            }
            run = self.client.create_run(
                experiment, start_time=opening["time"], tags=tags, run_name=opening["name"]
            )
            run_id = run.info.run_id
        self._accepted()
        self.state.begin(run_id, experiment)

    def _find_run(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(self._run)
            self._accepted()
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            _log.warning(
                "MLflow run %s is gone from %s: all of %s is sent again",
                *(self.state.run_id, public_uri(self.uri), self.run_dir),
            )
            self.state.forget()
            self._make_run()
            return
        if run.info.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow run {self.state.run_id} is deleted",
                where=public_uri(self.uri),
                mend="restore it in MLflow",
            )
        self.state.experiment = run.info.experiment_id

    # ------------------------------------------------------------------ entries

    def _send(self, group: list[Entry]) -> None:
        getattr(self, f"_send_{group[0]['kind']}", self._send_unknown)(group)
        self._accepted()

    def _send_unknown(self, group: list[Entry]) -> None:
        self._refuse(f"{len(group)} entries of unknown kind '{group[0]['kind']}'")

    def _send_start(self, group: list[Entry]) -> None:
        if any(e.get("resumed") for e in group):
            self.client.update_run(self._run, status="RUNNING")

    def _send_note(self, group: list[Entry]) -> None:
        """Notes are for the journal's readers."""

    def _send_end(self, group: list[Entry]) -> None:
        self.client.set_terminated(self._run, status=group[-1]["status"], end_time=group[-1]["time"])

    def _send_metrics(self, group: list[Entry]) -> None:
        from mlflow.entities import Metric

        metrics = []
        tags: dict[str, str] = {}
        for entry in group:
            for name, value in {} if entry.get("final") else entry["values"].items():
                metrics.append(Metric(names.grouped(name), value, entry["time"], entry.get("step", 0)))
            for name, value in (entry.get("omitted") or {}).items():
                tags[names.accepted(f"not_finite.{name}")] = f"{value} at step {entry.get('step', 0)}"
        if self._doubtful:
            metrics = [m for m in metrics if (m.step, m.timestamp) not in self._known(m.key)]
        for part in _parts(metrics, names.METRICS_A_BATCH):
            self._batch(f"{len(part)} metrics", metrics=part)
        self._tags(tags)

    def _send_parameters(self, group: list[Entry]) -> None:
        from mlflow.entities import Param

        values = {k: v for e in group for k, v in e["values"].items()}
        params = [Param(names.accepted(k), names.cut(v, names.PARAMETER_LIMIT)) for k, v in values.items()]
        for part in _parts(params, names.ITEMS_A_BATCH):
            if self._batch(None, params=part):
                continue
            for param in part:  # one that the store refuses must not take the others with it
                short = Param(param.key, names.cut(param.value, names.OLD_PARAMETER_LIMIT))
                if not (self._batch(None, params=[param]) or self._batch(None, params=[short])):
                    # MLflow keeps the first value of a parameter; a resumed run's new one stands beside it.
                    self._tags({names.accepted(f"resumed.{param.key}"): param.value})

    def _send_tags(self, group: list[Entry]) -> None:
        tags = {names.accepted(k): v for e in group for k, v in e["values"].items()}
        if page.DESCRIPTION in tags:
            tags[page.DESCRIPTION] = page.addressed(tags[page.DESCRIPTION], self._run)
        self._tags(tags)

    def _send_table(self, group: list[Entry]) -> None:
        self._send_artifact([{**entry, "folder": "tables"} for entry in group])
        self._tags({page.TABLES: page.shown_tables(read_journal(self.run_dir))})

    def _send_dataset(self, group: list[Entry]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        for e in group:
            profile = {"jets": e["jets"], "digest": e["digest"], **(e.get("profile") or {})}
            source = json.dumps({"files": e["files"]})
            dataset = Dataset(
                name=page.dataset_title(e["files"]) or e["name"],
                digest=e["digest"][:36],
                source_type="local",
                source=source if len(source) < 60_000 else json.dumps({"files": len(e["files"])}),
                profile=json.dumps(profile),
            )
            context = InputTag("mlflow.data.context", e.get("context") or e["name"])
            with self._refusable(f"data set {e['name']}"):
                self.client.log_inputs(self._run, [DatasetInput(dataset, [context])])
        self._tags({names.accepted(f"data.{e['name']}.digest"): e["digest"] for e in group})

    def _send_artifact(self, group: list[Entry]) -> None:
        for e in group:
            path = self.run_dir / e["path"]
            folder = e.get("folder") or None
            if path.is_dir():
                with self._refusable(f"artifact {e['path']}"):
                    self.client.log_artifacts(self._run, str(path), folder)
            elif path.is_file():
                with self._refusable(f"artifact {e['path']}"):
                    self.client.log_artifact(self._run, str(path), folder)
            else:
                self._refuse(f"artifact {e['path']}: no such file")

    def _send_model(self, group: list[Entry]) -> None:
        from hepml.tracking import packaging

        for e in group:
            data = self.run_dir / e["path"]
            if not data.is_dir():
                self._refuse(f"model {e['path']}: no such folder")
                continue
            with (
                tempfile.TemporaryDirectory(prefix="hepml-model-") as scratch,
                self._refusable(f"model {e['name']}"),
            ):
                model_id = self.state.models.get(e["name"])
                if model_id is None:
                    title = e.get("title") or e["name"]
                    model_id = packaging.register(self.client, self.state.experiment, self._run, title)
                    self.state.remember_model(e["name"], model_id)
                folder = packaging.package(data, Path(scratch) / "model", self._run, model_id)
                self.client.log_artifacts(self._run, str(folder), e["name"])
                if model_id:
                    self.client.log_model_artifacts(model_id, str(folder))
                    self.client.finalize_logged_model(model_id, "READY")
                    page.link_model(self.client, self._run, model_id, e, read_journal(self.run_dir))

    # ------------------------------------------------------------------ requests

    def _tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        items = [RunTag(k, names.cut(str(v), names.TAG_LIMIT)) for k, v in tags.items()]
        for part in _parts(items, names.ITEMS_A_BATCH):
            self._batch(f"{len(part)} tags", tags=part)

    def _batch(self, what: str | None, **items: Any) -> bool:
        """One request; false where the store refuses it, which is noted if `what` names it."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_batch(self._run, **items)
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            if what is not None:
                self._refuse(f"{what}: {reason(error)}")
            return False
        self._accepted()
        return True

    @contextlib.contextmanager
    def _refusable(self, what: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            self._refuse(f"{what}: {reason(error)}")

    def _refuse(self, what: str) -> None:
        self.refused.append(what)
        _log.warning("MLflow did not take %s (it stays in %s)", what, self.run_dir)

    def _known(self, key: str) -> set[tuple[int, int]]:
        if key not in self._history:
            history = self.client.get_metric_history(self._run, key)
            self._accepted()
            self._history[key] = {(m.step, m.timestamp) for m in history}
        return self._history[key]

    def _accepted(self) -> None:
        self.requests += 1


def _groups(entries: list[Entry], ends: list[int]) -> Iterator[tuple[list[Entry], int]]:
    """Neighbouring entries of one kind, metrics up to one batch, with the journal offset after the last."""
    group: list[Entry] = []
    weight = 0
    last = 0
    for entry, end in zip(entries, ends, strict=True):
        size = len(entry.get("values") or ()) if entry["kind"] == "metrics" else 1
        if group and (entry["kind"] != group[0]["kind"] or weight + size > names.METRICS_A_BATCH):
            yield group, last
            group, weight = [], 0
        group.append(entry)
        weight += size
        last = end
    if group:
        yield group, last


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
