"""The binned ROC: near the exact one, in bounded memory, and additive."""

from __future__ import annotations

import numpy as np
import pytest

from hepml.errors import DataError
from hepml.evaluation import StreamingRoc, auc, auc_with_error, background_rejection


@pytest.fixture
def jets() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and weights of 20,000 jets."""
    generator = np.random.default_rng(14)
    labels = generator.integers(0, 2, 20_000)
    scores = 1 / (1 + np.exp(-generator.normal(4 * labels - 2, 2)))
    return labels, scores, generator.exponential(size=20_000)


def test_batches_give_the_exact_figures_within_the_stated_bound(
    jets: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels, scores, weights = jets
    roc = StreamingRoc()
    for part in np.array_split(np.arange(20_000), 7):
        roc.update(labels[part], scores[part], weights[part])
    exact = auc_with_error(labels, scores, weights)
    assert abs(roc.auc()[0] - exact[0]) <= roc.auc_uncertainty() + 1e-12
    assert roc.auc_uncertainty() < 1e-3 * exact[1] + 1e-4
    assert roc.auc()[1] == pytest.approx(exact[1], rel=1e-3)
    rejection = background_rejection(labels, scores, 0.3, weights)
    assert roc.background_rejection(0.3).value == pytest.approx(rejection.value, rel=0.02)
    assert roc.background_rejection(0.3).error == pytest.approx(rejection.error, rel=0.05)


def test_scores_that_share_no_bin_give_the_exact_figures() -> None:
    labels, scores = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    roc = StreamingRoc(bins=1000)
    roc.update(labels, scores)
    assert roc.auc()[0] == pytest.approx(auc(labels, scores), abs=1e-15)
    assert roc.auc_uncertainty() == 0
    np.testing.assert_allclose(roc.curve().signal_efficiency, [0, 1 / 3, 2 / 3, 2 / 3, 1, 1])


def test_what_processes_saw_adds_up(jets: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, scores, weights = jets
    whole, first, second = StreamingRoc(), StreamingRoc(), StreamingRoc()
    whole.update(labels, scores, weights)
    first.update(labels[:5000], scores[:5000], weights[:5000])
    second.update(labels[5000:], scores[5000:], weights[5000:])
    assert (first + second).auc() == pytest.approx(whole.auc(), rel=1e-12)


def test_scores_of_exactly_zero_and_one_are_counted() -> None:
    roc = StreamingRoc()
    roc.update([0, 1, 1, 0], [0.0, 1.0, 0.0, 1.0])
    assert roc.auc()[0] == 0.5


def test_bad_batches_are_refused() -> None:
    roc = StreamingRoc()
    with pytest.raises(DataError, match="scores leave"):
        roc.update([0, 1], [0.5, 1.5])
    with pytest.raises(DataError, match="labels are neither"):
        roc.update([0, 2], [0.5, 0.5])
    with pytest.raises(DataError, match="NaN"):
        roc.update([0, 1], [0.5, np.nan])
    with pytest.raises(DataError, match="no signal jets so far"):
        roc.auc()
    roc.update([0, 0], [0.5, 0.1])
    with pytest.raises(DataError, match="no signal jets so far"):
        roc.auc()
    with pytest.raises(DataError, match="different bins"):
        _ = roc + StreamingRoc(bins=10)
