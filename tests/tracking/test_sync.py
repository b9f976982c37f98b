"""Everything in the journal arrives in MLflow exactly once, whatever happened on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hepml import tracking
from hepml.tracking.journal import Journal, read_journal
from hepml.tracking.shipping import Shipper


def client_of(uri: str) -> Any:
    from hepml.tracking.store import open_store

    return open_store(uri)


def history(uri: str, run_id: str | None, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client_of(uri).get_metric_history(run_id, key)]


def make_run(folder: Path, epochs: int = 4, **arguments: Any) -> tracking.Tracker:
    tracker = tracking.start(
        folder, experiment="tests", parameters={"model": {"name": "pfn"}}, system_interval=0, **arguments
    )
    for epoch in range(epochs):
        tracker.metrics({"loss": 1.0 / (epoch + 1), "auc": 0.9 + epoch / 100}, epoch)
    return tracker


LOSSES = [(0, 1.0), (1, 0.5), (2, 1.0 / 3), (3, 0.25)]


def test_sync_replays_a_run_whose_server_was_dead_exactly_once(
    tmp_path: Path, refusing: str, store: str
) -> None:
    assert make_run(tmp_path / "run", uri=refusing).finish(timeout=1) is not None
    (first,) = tracking.sync(tmp_path / "run", store)
    assert first.problem is None
    assert first.sent == len(read_journal(tmp_path / "run").entries)
    (second,) = tracking.sync([tmp_path / "run"], store)
    assert (second.problem, second.sent, second.run_id) == (None, 0, first.run_id)
    assert history(store, first.run_id, "loss") == LOSSES
    run = client_of(store).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.name": "pfn"}
    assert len(client_of(store).search_runs([run.info.experiment_id])) == 1


def test_sync_to_a_dead_server_says_so_and_loses_nothing(tmp_path: Path, refusing: str, store: str) -> None:
    make_run(tmp_path / "run", enabled=False).finish()
    (dead,) = tracking.sync(tmp_path / "run", refusing, force=True)
    assert dead.problem is not None
    assert dead.sent == 0
    (alive,) = tracking.sync(tmp_path / "run", store, force=True)
    assert alive.problem is None
    assert history(store, alive.run_id, "loss") == LOSSES


def test_what_arrived_without_an_answer_is_not_sent_again(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is carried out and its answer lost; the metrics given to the store are counted, since
    sqlite would hide a repetition."""
    from mlflow.tracking import MlflowClient

    make_run(tmp_path / "run", enabled=False).finish()
    given: Counter[tuple[str, int]] = Counter()
    log_batch, create_run = MlflowClient.log_batch, MlflowClient.create_run
    lost = {"create_run": 1, "log_batch": 1}

    def losing_batch(self: Any, run_id: str, metrics: Any = (), **others: Any) -> Any:
        given.update((m.key, m.step) for m in metrics)
        answer = log_batch(self, run_id, metrics=metrics, **others)
        if metrics and lost["log_batch"]:
            lost["log_batch"] -= 1
            raise ConnectionError("the answer is lost")
        return answer

    def losing_run(*arguments: Any, **others: Any) -> Any:
        answer = create_run(*arguments, **others)
        if lost["create_run"]:
            lost["create_run"] -= 1
            raise ConnectionError("the answer is lost")
        return answer

    monkeypatch.setattr(MlflowClient, "log_batch", losing_batch)
    monkeypatch.setattr(MlflowClient, "create_run", losing_run)
    results = [tracking.sync(tmp_path / "run", store, force=True)[0] for _ in range(3)]
    assert ["answer is lost" in (r.problem or "") for r in results] == [True, True, False]
    assert set(given.values()) == {1}
    assert history(store, results[-1].run_id, "loss") == LOSSES
    assert len(client_of(store).search_runs(["1"])) == 1


def test_a_sink_that_loses_an_answer_does_not_repeat_itself(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    given: Counter[tuple[str, int]] = Counter()
    log_batch = MlflowClient.log_batch

    def losing(self: Any, run_id: str, metrics: Any = (), **others: Any) -> Any:
        given.update((m.key, m.step) for m in metrics)
        answer = log_batch(self, run_id, metrics=metrics, **others)
        if metrics and sum(given.values()) == len(metrics):
            raise ConnectionError("the answer is lost")
        return answer

    journal = Journal(tmp_path / "run")
    journal.append("start", key="k", experiment="tests", name="n", enabled=True, uri=store)
    journal.append("metrics", step=0, values={"loss": 1.0})
    monkeypatch.setattr(MlflowClient, "log_batch", losing)
    shipper = Shipper(tmp_path / "run", store)
    with pytest.raises(ConnectionError):
        shipper.ship()
    journal.append("metrics", step=1, values={"loss": 0.5})
    shipper.ship()
    journal.close()
    assert given == {("loss", 0): 1, ("loss", 1): 1}


def test_a_run_killed_without_a_word_is_completed_and_ended_by_sync(tmp_path: Path, store: str) -> None:
    code = (
        "import os, signal, sys; from hepml import tracking\n"
        "t = tracking.start(sys.argv[1], uri=sys.argv[2], system_interval=0)\n"
        "for i in range(50): t.metrics({'loss': float(i)}, i)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), store], capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert tracking.open_run(tmp_path / "run").status == "KILLED"
    (result,) = tracking.sync(tmp_path / "run")
    assert result.problem is None
    assert history(store, result.run_id, "loss") == [(i, float(i)) for i in range(50)]
    assert client_of(store).get_run(result.run_id).info.status == "KILLED"


def test_a_resumed_run_goes_on_in_the_same_mlflow_run_without_repeating_epochs(
    tmp_path: Path, store: str
) -> None:
    first = make_run(tmp_path / "run", epochs=3, uri=store)
    assert first.finish("KILLED") is None
    second = tracking.start(
        tmp_path / "run",
        uri=store,
        experiment="tests",
        parameters={"model": {"name": "pfn"}, "epochs": 4},
        system_interval=0,
    )
    for epoch in (2, 3):  # epoch 2 is done again, from a checkpoint before it
        second.metrics({"loss": 1.0 / (epoch + 1), "auc": 0.9 + epoch / 100}, epoch)
    assert second.finish() is None
    assert second.run_id == first.run_id
    assert history(store, second.run_id, "loss") == LOSSES
    run = client_of(store).get_run(second.run_id)
    assert run.info.status == "FINISHED"
    assert any("2 values were already reported" in note for note in tracking.open_run(tmp_path / "run").notes)


def test_a_parameter_changed_by_a_resumed_run_stands_beside_the_first_value(
    tmp_path: Path, store: str
) -> None:
    tracking.start(
        tmp_path / "run", uri=store, parameters={"epochs": 2, "lr": 0.1}, system_interval=0
    ).finish()
    second = tracking.start(
        tmp_path / "run", uri=store, parameters={"epochs": 5, "lr": 0.1, "new": True}, system_interval=0
    )
    assert second.finish() is None
    data = client_of(store).get_run(second.run_id).data
    assert data.params == {"epochs": "2", "lr": "0.1", "new": "true"}
    assert data.tags["resumed.epochs"] == "5"
    assert "resumed.lr" not in data.tags


def test_a_store_that_lost_the_run_gets_all_of_it_again(tmp_path: Path, migrated: Path, store: str) -> None:
    make_run(tmp_path / "run", uri=store).finish()
    (tmp_path / "other").mkdir()
    other = f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
    Path(other.removeprefix("sqlite:///")).write_bytes(migrated.read_bytes())
    state = tmp_path / "run" / "tracking.json"
    state.write_text(
        state.read_text().replace(store, other)
    )  # as if the database had been replaced by an empty one
    (result,) = tracking.sync(tmp_path / "run", other)
    assert result.problem is None
    assert history(other, result.run_id, "loss") == LOSSES


def test_runs_that_are_alive_or_not_for_mlflow_are_left_alone(tmp_path: Path, store: str) -> None:
    make_run(tmp_path / "private", enabled=False).finish()
    alive = make_run(tmp_path / "alive", uri=store)
    results = tracking.sync([tmp_path / "private", tmp_path / "alive"])
    assert [(r.skipped, r.run_id) for r in results] == [(True, None), (True, None)]
    alive.finish()
    assert tracking.open_run(tmp_path / "alive").status == "FINISHED"


def test_an_entry_that_mlflow_refuses_is_reported_and_does_not_block_the_rest(
    tmp_path: Path, store: str
) -> None:
    tracker = tracking.start(tmp_path / "run", uri=store, enabled=False, system_interval=0)
    gone = tmp_path / "run" / "gone.txt"
    gone.write_text("x")
    tracker.artifact(gone)
    gone.unlink()
    tracker.metrics({"loss": 1.0}, 0)
    tracker.finish()
    (result,) = tracking.sync(tmp_path / "run", store, force=True)
    assert result.problem is None
    assert result.refused == ["artifact gone.txt: no such file"]
    assert history(store, result.run_id, "loss") == [(0, 1.0)]


def test_more_metrics_than_one_request_takes_all_arrive(tmp_path: Path, store: str) -> None:
    tracker = tracking.start(tmp_path / "run", enabled=False, system_interval=0)
    tracker.metrics({f"many/{i}": float(i) for i in range(1203)}, 0)
    for step in range(700):
        tracker.metrics({"a": step, "b": -step}, step)
    tracker.parameters({f"p{i}": i for i in range(250)})
    tracker.tags({f"t{i}": i for i in range(250)})
    tracker.finish()
    (result,) = tracking.sync(tmp_path / "run", store, force=True)
    assert (result.problem, result.refused) == (None, [])
    data = client_of(store).get_run(result.run_id).data
    assert sum(name.startswith("many/") for name in data.metrics) == 1203
    assert history(store, result.run_id, "a") == [(s, float(s)) for s in range(700)]
    assert len(data.params) == 250
    assert data.tags["t249"] == "249"


def test_a_server_that_answers_slowly_is_given_more_time_by_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ten seconds an answer were the time limit of a request, so that sync never came to an end."""
    from hepml.tracking import syncing

    given: list[int] = []

    class Slow:
        run_dir = tmp_path

        class state:
            sent = 0

        def waiting(self) -> int:
            return 0

        def ship(self) -> int:
            given.append(int(os.environ[syncing.TIMEOUT]))
            if given[-1] < 60:
                raise TimeoutError("Read timed out. (read timeout=10)")
            return 7

    monkeypatch.setenv(syncing.TIMEOUT, "10")
    assert syncing._patiently(Slow()) == 7  # type: ignore[arg-type]
    assert given == [10, 30, 90]
    assert os.environ[syncing.TIMEOUT] == "10"
