"""Toy jets and a tiny run that trains in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hepml.training.run_config import RunConfig, check, compose


@pytest.fixture(scope="session")
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
        return check(compose(values, overrides))

    return make


@pytest.fixture(autouse=True)
def _few_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than a tiny run; only the test that looks for `everything` draws them."""
    if "everything" not in request.node.name:
        monkeypatch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
