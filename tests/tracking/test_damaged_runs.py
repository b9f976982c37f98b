"""Runs whose files are damaged are shown as far as they can be read, and the damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hepml.cli.main import main
from hepml.tracking.journal import read_journal
from hepml.tracking.runs import compare_runs, list_runs, open_run

ENTRIES = [
    {"kind": "start", "time": 1764000000000, "key": "k", "name": "mine", "experiment": "e", "uri": "sqlite:///m.db"},
    {"kind": "parameters", "time": 1764000000001, "values": {"model.name": "pfn"}},
    {"kind": "dataset", "time": 1764000000001, "name": "train", "digest": "d", "files": ["a"], "jets": 5},
    {"kind": "metrics", "time": 1764000000002, "step": 0, "values": {"val_loss": 0.5}},
    {"kind": "note", "time": 1764000000003, "text": "hello"},
    {"kind": "end", "time": 1764000000004, "status": "FINISHED"},
]  # fmt: skip
SUMMARY = {"model": "pfn", "seconds": 3.0, "test": {"accuracy": 0.9, "auc": 0.95, "auc_error": 0.01,
           "rejection": {"0.3": {"value": 100.0, "error": 5.0}}}}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    (folder / "tracking.json").write_text(json.dumps({"format": 1, "stores": {"sqlite:///m.db": {
        "run_id": "r", "experiment_id": "1", "sent": 10, "models": {}}}}))  # fmt: skip
    return folder


def test_lines_of_a_journal_that_lack_something_are_left_out_and_counted(run: Path) -> None:
    odd: list[object] = [
        {"kind": "metrics", "time": 1},
        {"kind": "metrics", "time": 1, "values": {"a": "b"}},
        {"kind": "end"},
        {"kind": "note", "time": "x", "text": "t"},
        {"kind": "start", "time": 1},
        [1],
        5,
    ]
    with open(run / "journal.jsonl", "a") as file:
        file.write("".join(json.dumps(entry) + "\n" for entry in odd) + "[" * 100_000 + "\n")
    record = read_journal(run)
    assert [entry["kind"] for entry in record.entries] == [entry["kind"] for entry in ENTRIES]
    assert record.torn == len(odd) + 1
    assert open_run(run).torn == len(odd) + 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"test": 5}', '{"test": {"auc": "high"}}', '{"test": {"rejection": [1]}}'],
)
def test_a_damaged_summary_is_named(run: Path, text: str) -> None:
    (run / "summary.json").write_text(text)
    found = open_run(run)
    assert found.notes[-1] == "summary.json is damaged and left out"
    assert found.test == {}


def test_runs_are_shown_whatever_bytes_of_them_are_damaged(run: Path, capsys: pytest.CaptureFixture) -> None:
    draw = np.random.default_rng(2)
    for number in range(60):
        path = run / ("journal.jsonl", "summary.json", "tracking.json")[number % 3]
        whole = path.read_bytes()
        data = bytearray(whole)
        if number % 2:
            data = data[: int(draw.integers(len(data)))]
        for _ in range(0 if number % 2 else 3):
            data[int(draw.integers(len(data)))] = int(draw.integers(256))
        path.write_bytes(data)
        runs = list_runs(run.parent)
        compare_runs([*runs, *runs])
        code = main(["runs", "show", str(run)])
        assert code in (0, 2)
        assert main(["runs", "list", str(run.parent), *(["--json"] if number % 4 else [])]) == 0
        assert "defect" not in capsys.readouterr().err
        path.write_bytes(whole)
