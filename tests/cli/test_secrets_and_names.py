"""A run leaves no secret in any file or on the screen, writes nowhere but into its folder, and runs no code
unannounced."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Hepml = Callable[..., Any]
SECRET = "s3cr3tPa55"


def test_no_file_of_a_run_holds_the_password_of_its_store(
    hepml: Hepml, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://ann:{SECRET}@127.0.0.1:9/mlflow"
    monkeypatch.setattr("sys.argv", ["hepml", "train", str(config), f"tracking.uri={address}"])
    words = ["training.epochs=1", "tracking.enabled=true"]
    result = hepml("train", config, *words, f"tracking.uri={address}", "-o", "run")
    assert result.code == 0, result.err
    assert SECRET not in result.out + result.err
    held = [
        path for path in Path("run").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert not held
    assert "http://***@127.0.0.1:9/mlflow" in Path("run/config.yaml").read_text()

    monkeypatch.delenv("HEPML_HIDDEN")
    monkeypatch.setattr("hepml.redaction._real", {})
    result = hepml("train", "run", "--resume")
    assert result.code == 2
    assert "kept in no file" in result.err
    assert hepml("train", "run", "--resume", f"tracking.uri={address}").code == 0


@pytest.mark.parametrize(
    "name", ["../../evil", "/abs", "a/b", "..", ".hidden", " ", "a\\b", "x" * 200, "a\nb"]
)
def test_a_test_set_is_named_by_a_name(hepml: Hepml, config: Path, name: str) -> None:
    for key in ("test", "further_tests"):
        result = hepml("train", config, f"data.{key}={json.dumps({name: 'jets.root'})}", "-o", "run")
        assert result.code == 2
        assert "is no name" in result.err
        assert len(result.err.splitlines()) == 1
        assert not Path("run").exists()


def test_plugins_are_named_before_they_run_and_those_of_others_runs_are_not_run(
    hepml: Hepml, config: Path
) -> None:
    Path("mine.py").write_text("open('ran', 'a').write('x')\n")
    result = hepml("train", config, "training.epochs=1", "plugins=[mine.py]", "-o", "run")
    assert result.code == 0, result.err
    assert f"plugin {Path('mine.py').absolute()}: its code runs now" in result.err
    Path("ran").unlink()
    if os.geteuid() != 0:
        pytest.skip("only root gives a file to another user")
    os.chown("run/config.yaml", 12345, 12345)
    result = hepml("train", "run", "-o", "again")
    assert result.code == 2
    assert "another user wrote" in result.err
    assert "--trust" in result.err
    assert not Path("ran").exists()
    assert hepml("train", "run", "--trust", "-o", "again").code == 0


def test_git_json_describes_the_repository_of_the_working_folder(tmp_path: Path, monkeypatch) -> None:
    from hepml.tracking import capture_source

    monkeypatch.chdir(tmp_path)
    assert capture_source()["commit"] is None
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = capture_source()
    assert found["commit"] == commit
    assert found["hepml"]["commit"] != commit
