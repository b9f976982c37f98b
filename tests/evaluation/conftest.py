"""Fixtures of the evaluation's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# a busy machine is no failure of ours
settings.register_profile("evaluation", deadline=None, max_examples=60)
settings.load_profile("evaluation")


@pytest.fixture(scope="session")
def reference_scores_path(shared: Path) -> Path:
    """Published scores of two taggers on the 404,000 reference test jets."""
    path = shared / "reference" / "scores" / "toptag_test_scores.npz"
    return path


@pytest.fixture(scope="session")
def reference_scores(reference_scores_path: Path) -> dict[str, np.ndarray]:
    """Their arrays: labels, particlenet, pfn."""
    with np.load(reference_scores_path) as arrays:
        return dict(arrays)
