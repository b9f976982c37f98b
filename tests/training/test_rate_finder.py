"""The learning-rate finder suggests a rate that learns, well below the one at which the loss blows up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hepml
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


@pytest.mark.parametrize(
    "words",
    [
        ("data.class_weights={QCD: 1, Tbqq: 9}", "decorrelate.strength=3"),
        ("auxiliary.mass={target: jet_mass, weight: 5}", "training.accumulate=3"),
        ("pretraining={masked: 0.3}",),
    ],
)
def test_the_loss_is_that_of_the_run(
    tiny: Callable[..., RunConfig], tmp_path: Path, words: tuple[str, ...]
) -> None:
    config = tiny(*words, "training.batch_size=130", "training.learning_rate=1e-12", "training.epochs=1")
    steps = 4 // config.training.accumulate if config.training.accumulate == 1 else 2
    found = find_rate(config, low=1e-12, high=1e-12, steps=4)
    train(config, tmp_path / "run")
    sizes = np.array([130, 130, 130, 10] if steps == 4 else [390, 10])
    losses = np.array(found["losses"][:steps])
    expected = hepml.open_run(tmp_path / "run").history()["train_loss"].iloc[0]
    random = 0.1 if "pretraining" in words[0] else 1e-4  # of what is hidden
    assert (losses * sizes).sum() / 400 == pytest.approx(expected, rel=random)
