"""`hepml evaluate` prints paired tests of taggers on the same jets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hepml.cli.main import main
from hepml.evaluation.paired import compare


def _scores(path: Path, jets: int = 3000, classes: int = 2) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, classes, jets)
    if classes == 2:
        shared = labels + draw.normal(size=jets)
        columns = {name: shared + a * draw.normal(size=jets) for name, a in (("one", 0.2), ("two", 0.6))}
    else:
        shared = np.eye(classes)[labels] * 2 + draw.normal(size=(jets, classes))
        columns = {
            n: np.exp(shared + a * draw.normal(size=shared.shape)) for n, a in (("one", 0.2), ("two", 0.8))
        }
        columns = {n: p / p.sum(axis=1, keepdims=True) for n, p in columns.items()}
    np.savez(path, labels=labels, **columns)
    return {"labels": labels, **columns}


def test_taggers_of_one_file_are_compared_jet_by_jet(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = _scores(tmp_path / "s.npz")
    assert main(["evaluate", "--scores", str(tmp_path / "s.npz"), "--json", "--paired"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["one", "two"]
    expected = compare(made["labels"], made["one"], made["two"], thresholds=(0.0, 0.0))
    assert found["one"]["paired"]["two"] == json.loads(json.dumps(expected))
    assert found["one"]["paired"]["two"]["auc"]["p_value"] < 0.01
    assert main(["evaluate", "--scores", str(tmp_path / "s.npz")]) == 0
    assert "paired tests" in capsys.readouterr().out


def test_taggers_of_several_classes_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _scores(tmp_path / "s.npz", classes=3)
    assert main(["evaluate", "--scores", str(tmp_path / "s.npz"), "--json", "--paired"]) == 0
    tests = json.loads(capsys.readouterr().out)["one"]["paired"]["two"]
    assert tests["accuracy"]["difference"] > 0
    assert tests["auc"]["p_value"] < 0.01


def test_taggers_of_different_jets_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _scores(tmp_path / "a.npz")
    _scores(tmp_path / "b.npz", jets=2000)
    words = ["evaluate", "--scores", str(tmp_path / "a.npz"), "--scores", str(tmp_path / "b.npz")]
    words += ["--json", "--paired"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [list(report.get("paired", {})) for report in found.values()] == [["two"], [], ["b: two"], []]
