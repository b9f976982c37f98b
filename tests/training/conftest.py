"""Toy jets and a tiny run that trains in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import write_toy_jets

from hepml import config as configs
from hepml.training.run_config import RunConfig, check


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Toy jets of two classes: 400 to train on, 200 to validate, 240 to test."""
    folder = tmp_path_factory.mktemp("toys")
    sizes = {"train": 400, "val": 200, "test": 240}
    return {name: write_toy_jets(folder / f"{name}.root", n, seed=i) for i, (name, n) in enumerate(sizes.items())}


@pytest.fixture
def tiny(toy_files: dict[str, Path]) -> Callable[..., RunConfig]:
    """Makes the config of a tiny run; overrides as on the command line."""

    def make(*overrides: str) -> RunConfig:
        values: dict[str, Any] = {
            "data": {name: str(path) for name, path in toy_files.items()},
            "model": {"name": "pfn", "phi": [16, 16], "f": [16]},
            "training": {"epochs": 3, "batch_size": 50, "learning_rate": 5e-3, "device": "cpu", "threads": 1},
            "tracking": {"enabled": False},
            "name": "tiny",
        }
        return check(configs.from_mapping(values, overrides))

    return make


@pytest.fixture(autouse=True)
def _few_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than a tiny run; only the test that looks for `everything` draws them."""
    if "everything" not in request.node.name:
        monkeypatch.setattr("hepml.training.run._Run._figures", lambda *anything: None)
