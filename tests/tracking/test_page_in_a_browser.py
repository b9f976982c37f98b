"""What somebody sees who opens the pages of a run: a real MLflow server and a real browser.

By name, `pytest -m browser`: it needs playwright and Debian's chromium. With HEPML_SCREENSHOTS=FOLDER it
leaves the pictures of docs/tracking.md there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from cloud import cloud
from servers import serving

from hepml import models, tracking
from hepml.evaluation.plots.scores import plot_roc
from hepml.tracking import page as pages
from hepml.training.benchmark import writing
from hepml.training.run_page import Against, fill

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is absent: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import mlflow.pyfunc  # noqa: F401 - takes seconds, in which a run of one second would be over

    with serving(migrated, tmp_path_factory.mktemp("server")) as uri:
        yield uri


def jets(seed: int) -> dict[str, Against]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 20_000)
    return {"test": (labels, labels * 2.5 + rng.normal(0, 1, 20_000), None)}


def make_run(folder: Path, uri: str, seed: int) -> Any:
    """A run as a training leaves it, in a second."""
    test = {"accuracy": 0.93, "auc": 0.982, "rejection": {"0.3": {"value": 1012.0}, "0.5": {"value": 254.0}}}
    summary = {
        "model": "pfn", "parameters": 82_178, "config": "pfn", "epochs": 8, "best_epoch": 7, "ranks": 1,
        "classes": ["qcd", "top"], "jets": {"train": 1_200_000, "val": 400_000, "test": 400_000},
        "test": test, "tests": {},
    }  # fmt: skip
    tracker = tracking.start(folder, uri=uri, experiment="toptag", name=f"pfn seed {seed}", system_interval=0)
    tracker.dataset("train", "t" * 40, ["data/train.root"], 1_200_000)
    tracker.dataset("val", "v" * 40, ["data/val.root"], 400_000)
    for epoch in range(8):
        loss = 0.2 + 0.3 * float(np.exp(-epoch / 2))
        values = {"train_loss": loss, "val_loss": loss + 0.01, "val_auc": 0.985 - loss / 10}
        tracker.metrics({**values, "epoch_seconds": 61.0 + epoch % 3, "jets_per_second": 2e4 + epoch}, epoch)
    tracker.metrics({"test/auc": 0.982, "test/accuracy": 0.93}, 7, final=True)
    figure = plot_roc(jets(seed))
    tracker.figure("roc", figure, dpi=60)
    plt.close(figure)
    fill(tracker, summary, jets(seed))
    tracker.model(
        models.create("pfn", outputs=2), cloud(dtype=torch.float32), objective="categorical", step=7
    )
    tracker.finish(timeout=120)
    (sent,) = tracking.sync(folder)  # a machine under load may have taken longer than a run waits
    assert sent.problem is None
    return tracker


def opened(browser: Any, url: str, awaited: str, picture: str) -> Any:
    page = browser.new_page(viewport={"width": 1150, "height": 760})
    page.goto(url, wait_until="load", timeout=120_000)
    page.get_by_text(awaited, exact=True).first.wait_for(timeout=120_000)
    for close in page.get_by_label("Close").all():  # the assistant, which covers a third of the page
        if close.is_visible():
            close.click()
    page.wait_for_timeout(1500)
    place = os.environ.get("HEPML_SCREENSHOTS")
    if place:
        page.screenshot(path=Path(place) / f"{picture}.png")
    return page


def test_the_pages_of_a_run(browser: Any, server: str, tmp_path: Path) -> None:
    tracker = make_run(tmp_path / "run", server, 1)
    run = tracking.open_run(tmp_path / "run")
    experiment = tracker._sink.shipper.state.experiment
    base = f"{server}/#/experiments/{experiment}/runs/{run.run_id}"

    page = opened(browser, base, "Description", "mlflow-run")
    for more in page.get_by_text("Show more").all()[:1]:
        more.click()
    text = page.inner_text("body")
    assert "pfn (82,178 parameters), config pfn: 8 epochs of 1,200,000 jets" in text
    assert "0.9820" in text
    curve = "[...document.images].some(i => i.src.includes('roc.png') && i.naturalWidth > 100)"
    page.wait_for_function(curve, timeout=60_000)
    assert "train.root" in text
    assert "test/auc" not in text, "final figures are no metrics"
    if os.environ.get("HEPML_SCREENSHOTS"):
        page.screenshot(path=Path(os.environ["HEPML_SCREENSHOTS"]) / "mlflow-run.png")

    page = opened(browser, f"{base}/model-metrics", "train_loss", "mlflow-curves")
    text = page.inner_text("body")
    assert "Model metrics" in text
    assert all(name in text for name in ("train_loss", "val_loss", "val_auc"))
    assert "jets_per_second" not in text, "how fast a run is stands in the tab of the system"

    page = opened(browser, f"{base}/artifacts/tables/roc.json", "signal efficiency", "mlflow-table")
    assert "background efficiency" in page.inner_text("body")

    page = opened(browser, f"{server}/#/experiments/{experiment}/models", "pfn", "mlflow-models")
    assert "Ready" in page.inner_text("body")


def test_the_page_of_a_benchmark_has_the_leaderboard(
    browser: Any, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hepml.training.run_config import TrackingConfig

    make_run(tmp_path / "runs/pfn", server, 2)
    figure = {"mean": 0.982, "std": 0.001}
    folder = str(tmp_path / "runs/pfn")
    row = {
        "label": "pfn", "seeds": [1, 2], "parameters": 82_178, "flops": None, "accuracy": figure,
        "auc": figure, "rejection": {"0.3": {"mean": 1012.0, "std": 9.0}}, "tests": {},
        "runs": [{"folder": folder}],
    }  # fmt: skip
    board = {"taggers": [row], "fractions": [], "failed": {}, "points": ["0.3"]}
    settings = TrackingConfig(uri=server, experiment="toptag")
    assert writing.track(board, tmp_path / "board", settings, []) == []
    parent = tracking.open_run(tmp_path / "board/mlflow")
    experiment = pages.json.loads((tmp_path / "board/mlflow/tracking.json").read_text())["stores"][server]
    url = f"{server}/#/experiments/{experiment['experiment_id']}/runs/{parent.run_id}"
    text = opened(browser, url, "Description", "mlflow-leaderboard").inner_text("body")
    assert "1,012 ± 9" in text
    assert "Child runs" in text
    assert "pfn seed 2" in text
    assert "No metrics recorded" in text
