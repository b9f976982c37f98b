"""Weights that cancel are refused wherever something is divided by it, or what it belongs to
is counted; negative weights that do add up are normal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from toys import write_toy_jets

import hepml
from hepml import evaluation
from hepml.data.sampling.reweighting import Reweighting
from hepml.errors import DataError
from hepml.evaluation.binned import in_bins
from hepml.evaluation.calibration import fit_temperature, reliability
from hepml.evaluation.paired import compare, compare_accuracy
from hepml.evaluation.regression import evaluate_regression
from hepml.evaluation.sculpting import mass_sculpting
from hepml.evaluation.streaming import StreamingRoc

DRAW = np.random.default_rng(1)
N = 400
LABELS = np.arange(N) % 2
SCORES = np.clip(0.5 + 0.2 * (LABELS - 0.5) + DRAW.normal(0, 0.2, N), 0, 1)
MASSES = DRAW.exponential(50, N)
NEARLY = np.where(np.arange(N) % 4 < 2, 1.0, -1.0)  # in each class, +1 and -1 in turn
NEARLY[:2] += 1e-3
SIGNED = np.where(DRAW.random(N) < 0.3, -1.0, 1.0)

FIGURES: dict[str, Callable[[Any], Any]] = {
    "evaluate": lambda w: evaluation.evaluate(LABELS, SCORES, w),
    "multiclass": lambda w: evaluation.evaluate(LABELS, np.stack([1 - SCORES, SCORES, SCORES], 1), w),
    "reliability": lambda w: reliability(LABELS, SCORES, w),
    "temperature": lambda w: fit_temperature(LABELS, SCORES, w),
    "bins": lambda w: in_bins(LABELS, SCORES, MASSES, 0.5, w),
    "paired": lambda w: compare(LABELS, SCORES, SCORES**2, w),
    "accuracy": lambda w: compare_accuracy(SCORES > 0.5, SCORES > 0.4, w),
    "sculpting": lambda w: mass_sculpting(LABELS, SCORES, MASSES, w),
    "regression": lambda w: evaluate_regression(MASSES, MASSES + 1, np.ones(N), w),
    "streaming": lambda w: _streamed(w).auc(),
}


def _streamed(w: Any) -> StreamingRoc:
    roc = StreamingRoc(bins=1000)
    roc.update(LABELS, SCORES, w)
    return roc


@pytest.mark.parametrize("figure", FIGURES)
def test_weights_that_cancel_are_refused_with_their_scatter(figure: str) -> None:
    with pytest.raises(DataError, match="±"):
        FIGURES[figure](NEARLY)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("figure", FIGURES)
def test_negative_weights_that_add_up_give_finite_figures(figure: str) -> None:
    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [n for v in value.values() for n in numbers(v)]
        if isinstance(value, list | tuple):
            return [n for v in value for n in numbers(v)]
        return [float(value)] if isinstance(value, float | int) else []

    found = numbers(FIGURES[figure](SIGNED))
    assert found
    assert np.isfinite(found).all()


def test_bins_of_the_reliability_whose_weights_cancel_are_counted() -> None:
    w = np.ones(N)
    inside = (SCORES > 0.6) & (SCORES < 0.66)
    w[inside] = -0.5
    found = reliability(LABELS, SCORES, w)
    assert found["cancelled"] + sum(row["jets"] for row in found["bins"]) == N
    assert found["cancelled"] > 0


def test_reweighting_names_a_bin_whose_weights_cancel() -> None:
    how = Reweighting({"jet_pt": (0.0, 50.0, 100.0), "jet_eta": (-1.0, 0.0, 1.0)})
    columns = {"jet_pt": np.array([10.0, 60.0, 60.0, 10.0, 60.0, 60.0]), "jet_eta": np.array([0.5] * 6)}
    weights, labels = np.array([1.0, 1.0, -0.999, 1.0, 1.0, 1.0]), np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(DataError, match=r"class a cancel in 1 bins .* jet_pt 50 to 100, jet_eta 0 to 1"):
        how.factors(columns, labels, ("a", "b"), weights)


def test_the_classifier_learns_from_negative_weights_in_small_batches(tmp_path: Path) -> None:
    write_toy_jets(tmp_path / "jets.root", 400)
    jets = hepml.read_jets(tmp_path / "jets.root")
    labels = np.asarray(jets.label)
    weights = np.where(np.random.default_rng(2).random(400) < 0.35, -1.0, 1.0)
    tagger = hepml.HepmlClassifier(
        "pfn", {"phi": [16], "f": [16]}, epochs=4, batch_size=4, learning_rate=3e-3
    )
    found = clone(tagger).fit(jets, labels, sample_weight=weights).predict_proba(jets)[:, 1]
    assert evaluation.auc(labels, found) > 0.9
    with pytest.raises(DataError, match="±"):
        clone(tagger).fit(jets, labels, sample_weight=np.where(np.arange(400) % 4 < 2, 1.0, -1.0))
