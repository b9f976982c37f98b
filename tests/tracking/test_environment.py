"""Where a run took place is captured, and can be written as JSON."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from hepml.tracking import capture_environment, capture_git
from hepml.tracking import environment as module


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "work")
    (tmp_path / "a file.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit(tree: Path) -> None:
    state = capture_git(tree / "a file.py")
    assert state == {
        "commit": git(tree, "rev-parse", "HEAD"),
        "branch": "work",
        "dirty": False,
        "changed": [],
        "untracked": [],
        "diff": "",
        "diff_cut": False,
    }


def test_a_changed_tree_comes_with_its_diff(tree: Path) -> None:
    (tree / "a file.py").write_text("x = 2\n")
    (tree / "new.py").write_text("y = 1\n")
    state = capture_git(tree)
    assert state is not None
    assert (state["dirty"], state["changed"], state["untracked"]) == (True, ["a file.py"], ["new.py"])
    assert "-x = 1\n+x = 2\n" in state["diff"]


def test_a_long_diff_is_cut_and_says_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIFF_LIMIT", 200)
    (tree / "a file.py").write_text("é" * 1000)
    state = capture_git(tree)
    assert state is not None
    assert state["diff_cut"]
    assert 190 <= len(state["diff"].encode()) <= 200


def test_there_is_no_state_outside_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert capture_git(tmp_path) is None


def test_the_environment_names_versions_processor_and_batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    environment = json.loads(json.dumps(capture_environment()))
    assert environment["python"] == platform.python_version()
    assert environment["torch"]["version"] == torch.__version__
    assert environment["packages"]["mlflow"]
    assert environment["processor"]["cores"] >= environment["processor"]["usable"] >= 1
    assert environment["batch"]["SLURM_JOB_ID"] == "4711"
    tags = module.provenance_tags(environment, {"commit": "abc", "branch": "work", "dirty": True})
    assert tags["mlflow.source.git.commit"] == "abc"
    assert tags["git.dirty"] == "true"
    assert tags["batch.SLURM_JOB_ID"] == "4711"
    assert tags["environment.torch"] == torch.__version__
