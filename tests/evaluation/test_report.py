"""`hepml.evaluate`: one shape for everything, ready for JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn import metrics

import hepml
from hepml.errors import DataError
from hepml.evaluation import auc_with_error, background_rejection


@pytest.fixture
def tagger() -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and probabilities [N] of 2,000 jets."""
    generator = np.random.default_rng(8)
    labels = generator.integers(0, 2, 2000)
    return labels, 1 / (1 + np.exp(-generator.normal(3 * labels - 1.5, 1.5)))


def test_the_report_has_the_promised_shape_and_survives_json(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = tagger
    report = json.loads(json.dumps(hepml.evaluate(labels, scores), allow_nan=False))
    assert report["jets"] == 2000
    assert report["signal_jets"] + report["background_jets"] == 2000
    assert report["accuracy"] == pytest.approx(metrics.accuracy_score(labels, scores > 0.5))
    assert report["accuracy_error"] == pytest.approx(
        np.sqrt(report["accuracy"] * (1 - report["accuracy"]) / 2000)
    )
    assert (report["auc"], report["auc_error"]) == pytest.approx(auc_with_error(labels, scores))
    assert set(report["rejection"]) == {"0.3", "0.5"}
    expected = background_rejection(labels, scores, 0.3)
    assert (report["rejection"]["0.3"]["value"], report["rejection"]["0.3"]["error"]) == (
        expected.value,
        expected.error,
    )
    assert "lower_limit" not in report["rejection"]["0.3"]


def test_a_limit_is_marked_and_survives_json() -> None:
    report = json.loads(
        json.dumps(hepml.evaluate([0] * 50 + [1] * 50, [0.1] * 50 + [0.9] * 50), allow_nan=False)
    )
    entry = report["rejection"]["0.3"]
    assert entry["lower_limit"] is True
    assert entry["error"] is None
    assert entry["value"] == pytest.approx(50 / 2.303, rel=0.03)


def test_one_column_two_columns_and_a_flat_array_are_the_same(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = tagger
    flat = hepml.evaluate(labels, scores)
    assert hepml.evaluate(labels, scores[:, None]) == flat
    assert hepml.evaluate(labels, np.stack((1 - scores, scores), axis=1)) == flat
    assert hepml.evaluate(torch.from_numpy(labels), torch.from_numpy(scores)) == flat
    assert hepml.evaluate(labels.tolist(), scores.tolist()) == flat


def test_any_class_of_two_can_be_the_signal(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = tagger
    both = np.stack((scores, 1 - scores), axis=1)
    expected = hepml.evaluate(labels, scores)
    swapped = hepml.evaluate(1 - labels, both, classes=["top", "QCD"], signal="top")
    assert swapped["rejection"] == expected["rejection"]
    assert (swapped["signal"], swapped["background"]) == ("top", "QCD")
    assert swapped["auc"] == expected["auc"]


def test_log_odds_are_cut_at_zero_and_the_report_says_so(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = tagger
    odds = np.log(scores / (1 - scores))
    found, expected = hepml.evaluate(labels, odds), hepml.evaluate(labels, scores)
    assert (found["accuracy_threshold"], expected["accuracy_threshold"]) == (0.0, 0.5)
    assert found["accuracy"] == expected["accuracy"]


def test_weights_change_the_report_as_repeated_jets_do(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = tagger
    n = np.random.default_rng(9).integers(1, 4, 2000)
    weighted = hepml.evaluate(labels, scores, n)
    repeated = hepml.evaluate(np.repeat(labels, n), np.repeat(scores, n))
    for key in ("accuracy", "auc"):
        assert weighted[key] == pytest.approx(repeated[key], abs=1e-12)
    for point in ("0.3", "0.5"):
        assert weighted["rejection"][point]["value"] == pytest.approx(repeated["rejection"][point]["value"])
        assert (
            weighted["rejection"][point]["error"] > repeated["rejection"][point]["error"]
        )  # copies are not jets


def test_the_working_points_are_those_asked_for(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    report = hepml.evaluate(*tagger, signal_efficiencies=(0.7, 0.995))
    assert list(report["rejection"]) == ["0.7", "0.995"]


def test_names_that_do_not_fit_are_refused(tagger: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(DataError, match="3 class names for two classes"):
        hepml.evaluate(*tagger, classes=["a", "b", "c"])
    with pytest.raises(DataError, match="both signal and background"):
        hepml.evaluate(*tagger, signal=1, background=1)
