"""A real MLflow server on the loopback: the same run arrives there once, with artifacts and model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hepml import models, tracking
from hepml.data.batch import JetBatch
from hepml.tracking.journal import read_journal
from hepml.tracking.store import open_store


@pytest.fixture(scope="module")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "server.db").write_bytes(migrated.read_bytes())
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, *command, *stores],
        stdout=log,
        stderr=log,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(900):
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.1)
        else:
            pytest.fail("the server does not start: " + (folder / "log.txt").read_text())
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)
        log.close()


@pytest.fixture
def finished(tmp_path: Path, refusing: str) -> Path:
    """A run whose server was dead from its start to its end."""
    rng = np.random.default_rng(0)
    momenta = rng.normal((30.0, 0.0, 0.0), 5.0, (40, 3))
    batch = JetBatch.from_arrays(
        np.c_[np.linalg.norm(momenta, axis=1), momenta].astype(np.float32), np.array([0, 10, 15, 40])
    )
    torch.manual_seed(0)
    tracker = tracking.start(
        tmp_path / "run", experiment="server", uri=refusing, parameters={"a": {"b": 1}}, system_interval=0
    )
    for step in range(300):
        tracker.metrics({"loss": 1.0 / (step + 1), "rejection": float("inf") if step == 0 else 100.0}, step)
    tracker.dataset("train", "abc", ["a.root"], 10)
    tracker.model(models.create("pfn", outputs=2), batch, objective="categorical")
    (tmp_path / "run" / "summary.json").write_text("{}")
    tracker.artifact(tmp_path / "run" / "summary.json")
    assert tracker.finish(timeout=3) is not None
    return tmp_path / "run"


def test_a_run_is_replayed_to_a_server_exactly_once(
    server: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    results = [tracking.sync(finished, server)[0] for _ in range(2)]
    assert [(r.problem, r.refused) for r in results] == [(None, [])] * 2
    assert [r.sent for r in results] == [len(read_journal(finished).entries), 0]
    state = finished / "tracking.json"
    forgotten = state.read_text().replace(f'"sent": {read_journal(finished).size}', '"sent": 0')
    assert forgotten != state.read_text()
    state.write_text(forgotten)  # as if the machine had died before it noted what had arrived
    assert tracking.sync(finished, server)[0].problem is None
    client = open_store(server)
    run = client.get_run(results[0].run_id)
    loss = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in loss] == [(s, 1.0 / (s + 1)) for s in range(300)]
    assert len(client.get_metric_history(run.info.run_id, "rejection")) == 299
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert (run.info.status, run.data.params) == ("FINISHED", {"a.b": "1"})
    assert len(run.inputs.dataset_inputs) == 1
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"model", "summary.json"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    example = np.load(finished / "model" / "example.npz")
    scores = loaded.predict({"four_momenta": example["four_momenta"], "offsets": example["offsets"]})
    np.testing.assert_allclose(scores, example["scores"], rtol=0, atol=1e-6)
    assert (
        len(mlflow.search_logged_models(experiment_ids=[run.info.experiment_id], output_format="list")) == 1
    )


def test_a_live_run_arrives_on_the_server(server: str, tmp_path: Path) -> None:
    tracker = tracking.start(tmp_path / "run", experiment="live", uri=server)
    tracker.metrics({"loss": 1.0}, 0)
    assert tracker.finish() is None
    run = open_store(server).get_run(tracker.run_id)
    assert (run.data.metrics["loss"], run.info.status) == (1.0, "FINISHED")
