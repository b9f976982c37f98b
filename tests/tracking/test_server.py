"""A real MLflow server on the loopback: the same run arrives there once, with artifacts and model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from servers import serving

from hepml import models, tracking
from hepml.data.batch import JetBatch
from hepml.tracking.journal import read_journal
from hepml.tracking.store import open_store


@pytest.fixture(scope="module")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(migrated, tmp_path_factory.mktemp("server")) as uri:
        yield uri


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
