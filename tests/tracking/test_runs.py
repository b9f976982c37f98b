"""Runs are listed, shown and compared from their directories alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hepml import tracking
from hepml.cli.runs import app
from hepml.errors import TrackingError

SUMMARY = {
    "test": {
        "accuracy": 0.9,
        "auc": 0.98123,
        "auc_error": 0.0021,
        "rejection": {
            "0.3": {"value": 812.4, "error": 41.0},
            "0.5": {"value": 240.0, "error": 9.0, "lower_limit": True},
        },
    },
    "parameters": 82458,
    "seconds": 12.5,
    "model": "pfn",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for name, rate in (("toptag/pfn-1", 0.1), ("toptag/pfn-2", 0.2)):
        tracker = tracking.start(
            root / name,
            experiment="toptag",
            enabled=False,
            system_interval=0,
            parameters={"model": {"name": "pfn"}, "training": {"learning_rate": rate}},
        )
        tracker.metrics({"val_auc": 0.9 + rate / 10}, 0)
        tracker.metrics({"val_auc": 0.95 + rate / 10}, 1)
        tracker.dataset("train", "0123456789abcdef", [f"jets{i}.root" for i in range(6)], 12345)
        tracker.finish()
    (root / "toptag/pfn-1/summary.json").write_text(json.dumps(SUMMARY))
    broken = tracking.start(root / "broken", enabled=False, system_interval=0)
    broken.finish("FAILED")
    return root


def test_runs_are_found_newest_first_with_status_and_figures(root: Path) -> None:
    runs = tracking.list_runs(root)
    assert [run.path.name for run in runs] == ["broken", "pfn-2", "pfn-1"]
    assert [run.status for run in runs] == ["FAILED", "FINISHED", "FINISHED"]
    first = runs[-1]
    assert (first.model, first.test["auc"], first.experiment) == ("pfn", 0.98123, "toptag")
    assert first.metrics == {"val_auc": (1, 0.95 + 0.01)}
    assert first.seconds is not None


def test_a_run_that_writes_now_is_running(tmp_path: Path) -> None:
    tracker = tracking.start(tmp_path / "runs" / "now", enabled=False, system_interval=0)
    assert [run.status for run in tracking.list_runs(tmp_path / "runs")] == ["RUNNING"]
    tracker.finish()


def test_a_run_is_found_by_directory_name_or_beginning(root: Path) -> None:
    for given in (root / "toptag" / "pfn-2", "pfn-2", "toptag/pfn-2"):
        assert tracking.open_run(given, root).path.name == "pfn-2"
    assert tracking.open_run("bro", root).path.name == "broken"
    with pytest.raises(TrackingError, match="beginning of 2 runs"):
        tracking.open_run("pfn", root)
    with pytest.raises(TrackingError, match="did you mean 'broken'"):
        tracking.open_run("brocken", root)
    with pytest.raises(TrackingError, match="hepml train"):
        tracking.open_run("x", root / "nothing")


def test_a_comparison_has_the_parameters_that_differ_and_all_metrics(root: Path) -> None:
    comparison = tracking.compare_runs([tracking.open_run("pfn-1", root), tracking.open_run("pfn-2", root)])
    assert comparison.parameters == {"training.learning_rate": ["0.1", "0.2"]}
    assert comparison.metrics["val_auc"] == [0.95 + 0.01, 0.95 + 0.02]
    assert comparison.metrics["parameters"] == [82458, None]


def test_torn_lines_and_broken_summaries_do_not_hide_a_run(root: Path) -> None:
    with (root / "broken" / "journal.jsonl").open("a") as file:
        file.write('{"kind":')
    (root / "broken" / "summary.json").write_text("{")
    run = tracking.open_run("broken", root)
    assert (run.torn, run.summary, run.status) == (1, {}, "FAILED")


def test_the_command_line_lists_shows_and_compares(root: Path) -> None:
    runner = CliRunner()
    table = runner.invoke(app, ["list", str(root)])
    assert table.exit_code == 0, table.output
    assert "0.9812 ± 0.0021" in table.output
    assert "812 ± 41" in table.output
    listed = json.loads(runner.invoke(app, ["list", str(root), "--json"]).output)
    assert [(r["status"], r["auc"]) for r in listed][-1] == ("FINISHED", 0.98123)
    assert listed[-1]["rejection"]["0.3"]["value"] == 812.4
    shown = runner.invoke(app, ["show", "pfn-1", "--root", str(root)])
    assert "val_auc" in shown.output
    assert "learning_rate" in shown.output
    assert "> 240" in shown.output
    assert "12,345 jets of jets0.root" in shown.output
    assert "2 more files" in shown.output
    compared = runner.invoke(app, ["compare", "pfn-1", "pfn-2", "--root", str(root)])
    assert "learning_rate" in compared.output
    assert "model.name" not in compared.output
    assert "no runs" in runner.invoke(app, ["list", str(root / "nothing")]).output


def test_the_command_line_synchronises_and_fails_where_the_store_is_dead(
    root: Path, store: str, refusing: str
) -> None:
    runner = CliRunner()
    dead = runner.invoke(app, ["sync", "pfn-1", "--root", str(root), "--uri", refusing])
    assert isinstance(dead.exception, TrackingError)
    assert "connection refused" in dead.output
    alive = runner.invoke(app, ["sync", "pfn-1", "--root", str(root), "--uri", store, "--json"])
    assert alive.exit_code == 0, alive.output
    (result,) = json.loads(alive.output)
    assert (result["problem"], result["run_dir"]) == (None, str(root / "toptag/pfn-1"))
    all_of_them = runner.invoke(app, ["sync", "--root", str(root)])
    assert all_of_them.output.count("tracking is off") == 3


def test_the_pages_are_opened_on_the_store(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    printed = runner.invoke(app, ["ui", "--print", "--port", "5001"]).output
    assert (
        printed == f"mlflow ui --backend-store-uri sqlite:///{Path.cwd()}/mlflow.db "
        "--host 127.0.0.1 --port 5001 --workers 1\n"
    )
    absent = runner.invoke(app, ["ui", "--uri", f"sqlite:///{tmp_path}/absent.db"])
    assert isinstance(absent.exception, TrackingError)
    assert "server with pages" in runner.invoke(app, ["ui", "--uri", "http://me:secret@host"]).output
