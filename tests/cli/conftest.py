"""A tiny config file on toy jets, and a way to run the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hepml.cli.main import main


class Result(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def hepml(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs `hepml WORDS…` in this process."""

    def run(*words: object) -> Result:
        capfd.readouterr()
        code = main([str(word) for word in words])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def config(toy_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config that trains in a second, in an otherwise empty current folder; without MLflow and figures,
    which have tests of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
    path = tmp_path / "tiny.yaml"
    data = "".join(f"  {name}: {file}\n" for name, file in toy_files.items())
    path.write_text(
        f"data:\n{data}model: {{name: pfn, phi: [16, 16], f: [16]}}\n"
        "training: {epochs: 2, batch_size: 50, learning_rate: 5e-3, device: cpu, threads: 1}\n"
        "tracking: {enabled: false}\n"
    )
    return path
