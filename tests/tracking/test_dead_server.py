"""A dead server never slows or kills a run, and nothing is lost by it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hepml import tracking
from hepml.tracking.journal import read_journal


def test_a_server_that_refuses_costs_a_warning_and_nothing_else(
    tmp_path: Path, refusing: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tracker = tracking.start(tmp_path / "run", uri=refusing, parameters={"a": 1}, system_interval=0)
        for step in range(20):
            tracker.metrics({"loss": 1.0 / (step + 1)}, step)
        warning = tracker.finish()
    assert warning is not None
    assert "connection refused" in warning
    assert f"hepml runs sync {tmp_path / 'run'}" in warning
    assert warning in caplog.messages
    assert [e["step"] for e in read_journal(tmp_path / "run").of("metrics")] == list(range(20))
    assert tracking.open_run(tmp_path / "run").status == "FINISHED"


def test_reports_return_while_the_server_hangs_and_finish_keeps_its_bound(
    tmp_path: Path, hanging: Any
) -> None:
    tracker = tracking.start(tmp_path / "run", uri=hanging.uri, system_interval=0)
    assert hanging.asked.wait(60)  # the sink is in the middle of a request that is never answered
    for step in range(200):
        tracker.metrics({"loss": 1.0}, step)
    tracker.tags({"a": "b"})
    assert tracker._sink is not None
    assert tracker._sink._thread.is_alive()  # and still is: no report waited for it
    assert tracker._sink.shipper.run_id is None
    warning = tracker.finish(timeout=0.5)
    assert warning is not None
    assert "hepml runs sync" in warning
    assert len(read_journal(tmp_path / "run").of("metrics")) == 200


def test_a_process_whose_server_hangs_ends_by_itself(tmp_path: Path, hanging: Any) -> None:
    code = (
        "import sys; from hepml import tracking\n"
        "t = tracking.start(sys.argv[1], uri=sys.argv[2], system_interval=0)\n"
        "t.metrics({'loss': 1.0}, 0)\n"
        "print('warned' if t.finish(timeout=4) else 'nothing')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), hanging.uri],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "warned\n"


def test_a_store_that_comes_back_gets_everything_without_sync(tmp_path: Path, store: str) -> None:
    database = Path(store.removeprefix("sqlite:///"))
    place = tmp_path / "later"
    place.write_text("a file where the store's folder should be")
    uri = f"sqlite:///{place / 'mlflow.db'}"
    tracker = tracking.start(tmp_path / "run", uri=uri, system_interval=0)
    tracker.metrics({"loss": 1.0}, 0)
    assert tracker._sink is not None
    for _ in range(600):
        if tracker.problem is not None:
            break
        tracker._sink._ended.wait(0.1)
    assert tracker.problem is not None
    place.unlink()
    place.mkdir()
    database.rename(place / "mlflow.db")
    tracker.metrics({"loss": 0.5}, 1)
    assert tracker.finish() is None
    from mlflow.tracking import MlflowClient

    history = MlflowClient(uri).get_metric_history(str(tracker.run_id), "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5)]


def test_a_run_without_mlflow_keeps_its_journal(tmp_path: Path) -> None:
    tracker = tracking.start(tmp_path / "run", enabled=False, system_interval=0)
    tracker.metrics({"loss": 1.0}, 0)
    assert tracker.finish() is None
    assert tracker.run_id is None
    assert len(read_journal(tmp_path / "run").of("metrics")) == 1
    assert not (tmp_path / "run" / "tracking.json").exists()
