"""The benchmark's MLflow run: one parent with the leaderboard, its trainings nested below it, nothing
twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hepml import tracking
from hepml.training.benchmark.board import gather
from hepml.training.benchmark.writing import track, write
from hepml.training.report_config import TrackingConfig

LABELS = np.arange(200) % 2
SCORES = np.clip(LABELS * 0.4 + np.random.default_rng(0).uniform(0, 0.6, 200), 0, 1).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_trainings_are_nested_below_one_run_that_has_the_leaderboard(
    store: str, tmp_path: Path, finished: Callable[..., Path]
) -> None:
    from hepml.tracking.store import open_store

    client = open_store(store)
    for seed in (1, 2):
        folder = finished(
            tmp_path / "board" / "runs" / "pfn" / f"seed_{seed}", "pfn", seed, {"toys": (LABELS, SCORES)}
        )
        with tracking.start(
            folder, uri=store, experiment="e", name=f"pfn seed {seed}", system_interval=0
        ) as tracker:
            tracker.metrics({"val_auc": 0.9}, step=0)
    finished(
        tmp_path / "board" / "runs" / "efn" / "seed_1", "efn", 1, {"toys": (LABELS, SCORES)}
    )  # never tracked
    settings = TrackingConfig(uri=store, experiment="e")
    for _ in range(2):  # a benchmark that is repeated goes on in the same run
        board = gather([tmp_path / "board"])
        files = write(board, tmp_path / "board")
        assert track(board, tmp_path / "board", settings, files) == []
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "e"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"board", "pfn seed 1", "pfn seed 2"}
    parent = runs["board"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {}, "charts of one point"
    assert f"{board['taggers'][0]['auc']['mean']:.4f}" in parent.data.tags["mlflow.note.content"]
    assert "mlflow.parentRunId" not in parent.data.tags
    for seed in (1, 2):
        child = runs[f"pfn seed {seed}"]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
    kept = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"leaderboard.md", "leaderboard.json", "plots"} <= kept


def test_tracking_that_is_off_leaves_no_run(tmp_path: Path, finished: Callable[..., Path]) -> None:
    finished(tmp_path / "runs" / "pfn" / "seed_1", "pfn", 1, {"toys": (LABELS, SCORES)})
    assert track(gather([tmp_path]), tmp_path, TrackingConfig(enabled=False), []) == []
    assert not (tmp_path / "mlflow").exists()
