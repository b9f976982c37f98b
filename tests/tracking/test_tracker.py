"""What a run reports stands in MLflow afterwards: parameters, metrics, figures, data sets, provenance,
status."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepml import tracking
from hepml.errors import TrackingError
from hepml.tracking.store import open_store
from hepml.tracking.tracker import status_of


def mlflow_run(tracker: tracking.Tracker) -> Any:
    return open_store(str(tracker.uri)).get_run(tracker.run_id)


def test_parameters_metrics_tags_and_provenance_arrive(tmp_path: Path, store: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("model: {name: pfn}\n")
    (run_dir / "git.json").write_text(json.dumps({"commit": "0123abc", "branch": "main", "dirty": True}))
    (run_dir / "environment.json").write_text(json.dumps(tracking.capture_environment()))
    tracker = tracking.start(
        run_dir,
        experiment="tests",
        name="my run",
        uri=store,
        parameters={"long": "x" * 7000},
        tags={"kind": "test"},
    )
    tracker.metrics({"loss": np.float32(0.5), "auc": 0.9}, 3)
    assert tracker.finish() is None
    run = mlflow_run(tracker)
    assert (run.info.run_name, run.info.status) == ("my run", "FINISHED")
    assert {k: run.data.metrics[k] for k in ("loss", "auc")} == {"loss": 0.5, "auc": 0.9}
    assert run.data.params["long"] == "x" * 5999 + "…"
    tags = run.data.tags
    assert (tags["kind"], tags["mlflow.source.git.commit"], tags["git.dirty"]) == ("test", "0123abc", "true")
    assert {"system/cpu_utilization_percentage", "system/process_memory_megabytes"} <= set(run.data.metrics)
    client = open_store(store)
    assert {a.path for a in client.list_artifacts(tracker.run_id)} == {
        "config.yaml",
        "environment.json",
        "git.json",
    }


def test_metrics_that_are_not_finite_are_never_sent_and_always_told(
    tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = tracking.start(tmp_path / "run", uri=store, system_interval=0)
    tracker.metrics({"loss": 1.0, "rejection": float("inf")}, 0)
    tracker.metrics({"loss": float("nan"), "rejection": 300.0}, 1)
    tracker.finish()
    client = open_store(store)
    sent = {
        k: [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, k)]
        for k in ("loss", "rejection")
    }
    assert sent == {"loss": [(0, 1.0)], "rejection": [(1, 300.0)]}
    tags = client.get_run(tracker.run_id).data.tags
    assert (tags["not_finite.rejection"], tags["not_finite.loss"]) == ("inf at step 0", "nan at step 1")
    assert "not finite" in caplog.text
    assert tracking.open_run(tmp_path / "run").not_finite == {"rejection": 1, "loss": 1}


def test_a_figure_is_a_file_of_the_run_and_an_artifact(tmp_path: Path, store: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    tracker = tracking.start(tmp_path / "run", uri=store, system_interval=0)
    path = tracker.figure("roc", figure)
    tracker.finish()
    assert path == tmp_path / "run" / "plots" / "roc.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [a.path for a in open_store(store).list_artifacts(tracker.run_id, "plots")] == ["plots/roc.png"]


def test_a_data_set_is_an_input_with_its_digest(tmp_path: Path, store: str) -> None:
    digest = "0123456789abcdef" * 4
    tracker = tracking.start(tmp_path / "run", uri=store, system_interval=0)
    tracker.dataset("train", digest, ["a.root", "b.root"], 1000, classes={"qcd": 500, "top": 500})
    tracker.finish()
    run = mlflow_run(tracker)
    (entry,) = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("a.root and 1 more", digest[:36])
    assert json.loads(entry.dataset.source) == {"files": ["a.root", "b.root"]}
    assert json.loads(entry.dataset.profile) == {
        "jets": 1000,
        "digest": digest,
        "classes": {"qcd": 500, "top": 500},
    }
    assert [(t.key, t.value) for t in entry.tags] == [("mlflow.data.context", "training")]
    assert run.data.tags["data.train.digest"] == digest


def test_artifacts_from_elsewhere_are_copied_into_the_run(tmp_path: Path) -> None:
    outside = tmp_path / "note.txt"
    outside.write_text("hello")
    with tracking.start(tmp_path / "run", enabled=False, system_interval=0) as tracker:
        tracker.artifact(outside, "notes")
        with pytest.raises(TrackingError, match="not there"):
            tracker.artifact(tmp_path / "absent")
    assert (tmp_path / "run" / "artifacts" / "note.txt").read_text() == "hello"


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("bad"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_the_status_says_how_the_run_ended(tmp_path: Path, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracking.start(tmp_path / "run", enabled=False, system_interval=0):
        raise error
    assert tracking.open_run(tmp_path / "run").status == status


def test_a_run_that_ends_by_itself_is_finished(tmp_path: Path) -> None:
    with tracking.start(tmp_path / "run", enabled=False, system_interval=0):
        pass
    assert tracking.open_run(tmp_path / "run").status == "FINISHED"
    assert status_of(SystemExit(0)) == "FINISHED"


def test_a_cancelled_job_ends_its_run_as_killed(tmp_path: Path, store: str) -> None:
    code = (
        "import sys, time; from hepml import tracking\n"
        "with tracking.start(sys.argv[1], uri=sys.argv[2], system_interval=0) as t:\n"
        "    print('up', flush=True); time.sleep(600)"
    )
    job = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run"), store], stdout=subprocess.PIPE)
    assert job.stdout is not None
    assert job.stdout.readline() == b"up\n"
    job.send_signal(signal.SIGTERM)
    assert job.wait(120) == 128 + signal.SIGTERM
    run = tracking.open_run(tmp_path / "run")
    assert (run.status, run.waiting) == ("KILLED", 0)
    assert open_store(store).get_run(run.run_id).info.status == "KILLED"


def test_a_run_that_is_given_an_mlflow_run_goes_on_with_it(tmp_path: Path, store: str) -> None:
    client = open_store(store)
    made = client.create_run("0", run_name="made elsewhere").info.run_id
    tracker = tracking.start(tmp_path / "run", uri=store, run_id=made, system_interval=0)
    tracker.metrics({"loss": 1.0}, 0)
    assert tracker.finish() is None
    assert tracker.run_id == made
    assert client.get_run(made).data.metrics == {"loss": 1.0}


def test_finish_counts_once(tmp_path: Path) -> None:
    tracker = tracking.start(tmp_path / "run", enabled=False)
    tracker.finish("FAILED")
    assert tracker.finish("FINISHED") is None
    assert tracking.open_run(tmp_path / "run").status == "FAILED"
    with pytest.raises(TrackingError, match="closed"):
        tracker.metrics({"loss": 1.0}, 0)
