"""What MLflow's page of a run shows: curves as charts, final figures as tables and tags, pictures of this
very run, and a model that is called by its tagger and knows its metrics and jets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cloud import cloud

from hepml import models, tracking
from hepml.tracking import page
from hepml.tracking.runs import open_run
from hepml.tracking.store import open_store
from hepml.training.run_page import Against, describe, fill, roc_table

SUMMARY = {
    "model": "pfn", "parameters": 82178, "config": "toy", "epochs": 2, "best_epoch": 1, "ranks": 1,
    "classes": ["a", "b"],
    "jets": {"train": 200, "val": 100, "test": 300, "cms": 50},
    "test": {"accuracy": 0.9, "auc": 0.95, "rejection": {"0.3": {"value": 123.4, "error": 5.0}}},
    "tests": {"cms": {"accuracy": 0.8, "auc": 0.85, "rejection": {}}},
}  # fmt: skip


def curves() -> dict[str, Against]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    return {"test": (labels, labels + rng.normal(0, 1, 1000), None)}


def test_a_page_has_curves_as_charts_and_final_figures_as_tables(store: str, tmp_path: Path) -> None:
    tracker = tracking.start(tmp_path / "run", uri=store, system_interval=0)
    tracker.dataset("train", "t" * 40, ["data/train.root:tree"], 200)
    tracker.dataset("val", "v" * 40, ["data/val_0.root", "data/val_1.root"], 100)
    for epoch in range(2):
        tracker.metrics({"train_loss": 0.5 - 0.1 * epoch, "val_auc": 0.9 + 0.01 * epoch}, epoch)
    tracker.metrics({"test/auc": 0.7, "gone/auc": 0.7}, 0, final=True)  # before it went on
    tracker.metrics({"test/auc": 0.95, "test/rejection/0.3/value": 123.4}, 1, final=True)
    fill(tracker, SUMMARY, curves())
    tracker.model(
        models.create("pfn", outputs=2), cloud(dtype=torch.float32), objective="categorical", step=1
    )
    assert tracker.finish() is None

    client = open_store(store)
    run = client.get_run(tracker.run_id)
    assert set(run.data.metrics) == {"train_loss", "val_auc"}
    assert all(len(client.get_metric_history(run.info.run_id, name)) == 2 for name in run.data.metrics)
    assert run.data.tags["test.auc"] == "0.95000"
    assert run.data.tags["cms.accuracy"] == "0.80000"
    told = run.data.tags[page.DESCRIPTION]
    assert f"![ROC](get-artifact?path=plots%2Froc.png&run_uuid={run.info.run_id})" in told
    assert "| test | 0.9000 | 0.9500 | 123 |" in told
    shown = json.loads(run.data.tags[page.TABLES])
    assert shown == [{"path": f"tables/{name}.json", "type": "table"} for name in ("results", "roc")]
    assert {a.path for a in client.list_artifacts(run.info.run_id, "tables")} == {e["path"] for e in shown}

    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.name == "pfn"
    assert model.tags["test.auc"] == "0.95"
    assert "gone.auc" not in model.tags
    (metric,) = model.metrics
    assert (metric.key, metric.value, metric.step) == ("val_auc", 0.91, 1)
    assert (metric.dataset_name, metric.dataset_digest) == ("val_0.root and 1 more", "v" * 36)
    # the journal, and with it `hepml runs`, has final figures as metrics still
    assert open_run(tmp_path / "run").metrics["test/auc"] == (1, 0.95)


def test_a_roc_table_has_the_background_efficiency_of_even_signal_efficiencies() -> None:
    table = roc_table(curves(), points=10)
    assert table["signal efficiency"] == pytest.approx(np.arange(1, 11) / 10)
    assert np.all(np.diff(table["background efficiency"]) >= 0)
    assert table["background efficiency"][-1] <= 1
    at_half = table["signal efficiency"].index(0.5)
    labels, scores, _ = curves()["test"]
    cut = np.median(scores[labels == 1])
    assert table["background efficiency"][at_half] == pytest.approx(
        (scores[labels == 0] > cut).mean(), abs=0.01
    )


def test_a_description_of_a_regression_has_no_roc() -> None:
    summary = {**SUMMARY, "classes": [], "test": {"rmse": 0.1, "bias": 0.0}, "tests": {}}
    assert "ROC" not in describe(summary)
    assert "| test | 0.1000 | 0.0000 |" in describe(summary)
