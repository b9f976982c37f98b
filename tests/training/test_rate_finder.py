"""The learning-rate finder suggests a rate that learns, well below the one at which the loss blows up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hepml.training.rate_finder import draw, find_rate
from hepml.training.run import train
from hepml.training.run_config import RunConfig


def test_the_suggested_rate_learns_and_is_below_the_one_that_blows_up(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    words = ("training.optimizer=sgd",)
    found = find_rate(tiny(*words), high=100.0)
    assert found["rates"][0] == 1e-6
    assert np.all(np.diff(found["rates"]) > 0)
    assert found["suggested"] < found["least"] <= found["rates"][-1]
    assert found["losses"][-1] > 1.5 * min(found["smoothed"]), "the search goes on until the loss blows up"
    assert draw(found, tmp_path / "rate.png").stat().st_size > 5000
    config = tiny(*words, "training.epochs=8", f"training.learning_rate={found['suggested']}")
    assert train(config, tmp_path / "run")["test"]["auc"] > 0.9
