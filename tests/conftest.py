"""Fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

# Small tensors gain nothing from several threads, and pytest's workers would take each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from reference_data import FOLDER
from toys import write_toy_jets

REPOSITORY = Path(__file__).resolve().parents[1]

# Configs find further jets and weights on the data path; without such a folder the path stays empty.
os.environ["HEPML_DATA"] = os.pathsep.join(
    str(path) for name in ("data", "reference") if (path := Path(FOLDER, name)).is_dir()
)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data: a test that needs a file of it that is absent is skipped with the line
    that brings it (`reference_data.py`)."""
    return FOLDER


@pytest.fixture(scope="session")
def toptag(repository: Path) -> Path:
    """The folder of jets shipped with the repository."""
    return repository / "data" / "toptag"


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Toy jets of two classes: 400 to train on, 200 to validate, 240 to test."""
    folder = tmp_path_factory.mktemp("toys")
    sizes = {"train": 400, "val": 200, "test": 240}
    return {
        name: write_toy_jets(folder / f"{name}.root", n, seed=i) for i, (name, n) in enumerate(sizes.items())
    }
