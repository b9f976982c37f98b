"""ROC, AUC and accuracy against scikit-learn and against the definition, jet pair by jet pair."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_samples import Sample, samples
from sklearn import metrics

from hepml.errors import DataError
from hepml.evaluation import accuracy, auc, auc_with_error, roc_curve
from hepml.evaluation.roc import make_cuts


def brute_force_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    s, b = labels == 1, labels == 0
    wins = (scores[s][:, None] > scores[b]) + 0.5 * (scores[s][:, None] == scores[b])
    return float(weights[s] @ wins @ weights[b] / (weights[s].sum() * weights[b].sum()))


@given(samples())
def test_auc_is_the_probability_that_signal_beats_background_ties_counting_half(sample: Sample) -> None:
    labels, scores, _ = sample
    assert auc(labels, scores) == pytest.approx(
        brute_force_auc(labels, scores, np.ones(len(labels))), abs=1e-12
    )
    assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)


@given(samples())
def test_a_jet_of_weight_n_counts_as_n_jets(sample: Sample) -> None:
    labels, scores, weights = sample
    n = weights.astype(int)
    repeated = np.repeat(labels, n), np.repeat(scores, n)
    assert auc(labels, scores, weights) == pytest.approx(auc(*repeated), abs=1e-12)
    assert accuracy(labels, scores, weights)[0] == pytest.approx(accuracy(*repeated)[0], abs=1e-12)
    for ours, theirs in zip(roc_curve(labels, scores, weights), roc_curve(*repeated), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@given(samples(negative_weights=True))
def test_auc_with_negative_weights_is_the_weighted_sum_over_pairs(sample: Sample) -> None:
    labels, scores, weights = sample
    assert auc(labels, scores, weights) == pytest.approx(
        brute_force_auc(labels, scores, weights), rel=1e-9, abs=1e-9
    )


@given(samples())
def test_roc_curve_equals_scikit_learn(sample: Sample) -> None:
    labels, scores, weights = sample
    curve = roc_curve(labels, scores, weights)
    fpr, tpr, thresholds = metrics.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose(curve.background_efficiency, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.signal_efficiency, tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_jets_changes_nothing(sample: Sample, random: object) -> None:
    labels, scores, _ = sample
    order = np.random.default_rng(random.randint(0, 2**31)).permutation(len(labels))  # type: ignore[attr-defined]
    for ours, shuffled in zip(
        roc_curve(labels, scores), roc_curve(labels[order], scores[order]), strict=True
    ):
        np.testing.assert_array_equal(ours, shuffled)


@given(samples())
def test_auc_error_is_that_of_delong(sample: Sample) -> None:
    labels, scores, _ = sample
    s, b = scores[labels == 1], scores[labels == 0]
    if len(s) < 2 or len(b) < 2:
        return
    wins = (s[:, None] > b) + 0.5 * (s[:, None] == b)
    variance = wins.mean(axis=1).var(ddof=1) / len(s) + wins.mean(axis=0).var(ddof=1) / len(b)
    assert auc_with_error(labels, scores)[1] == pytest.approx(np.sqrt(variance), abs=1e-9)


def test_auc_error_is_the_spread_over_samples() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 400)
    drawn = [auc_with_error(labels, generator.normal(labels * 1.5)) for _ in range(400)]
    values, errors = np.array(drawn).T
    assert np.mean(errors) == pytest.approx(values.std(), rel=0.12)


def test_weights_of_any_common_scale_give_the_same_errors() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 500)
    scores = generator.normal(labels)
    ones = np.full(500, 7.5)
    assert auc_with_error(labels, scores, ones) == pytest.approx(auc_with_error(labels, scores), rel=1e-12)
    assert accuracy(labels, scores, ones) == pytest.approx(accuracy(labels, scores), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, bool])
def test_any_numeric_type_of_score_ranks_alike(dtype: type) -> None:
    labels = np.array([0, 1, 0, 1, 1])
    scores = np.array([0, 1, 1, 1, 0]).astype(dtype)
    assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores.astype(float)))


def test_tensors_are_accepted() -> None:
    labels, scores = torch.tensor([0, 1, 1, 0]), torch.tensor([0.1, 0.9, 0.4, 0.5], requires_grad=True)
    assert auc(labels, scores) == 0.75
    assert auc(labels, scores.bfloat16()) == 0.75


def test_accuracy_agrees_with_the_argmax_at_exactly_one_half() -> None:
    assert accuracy([0, 1], [0.5, 0.5])[0] == 0.5
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert (probabilities.argmax(axis=1) == [0, 1]).mean() == accuracy([0, 1], probabilities[:, 1])[0]


def test_404000_jets_take_far_less_than_a_second() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 404_000)
    scores = generator.normal(labels).astype(np.float32)
    auc(labels, scores)
    best = min(_seconds(labels, scores) for _ in range(3))
    assert best < 0.6


def _seconds(labels: np.ndarray, scores: np.ndarray) -> float:
    start = time.process_time()
    auc(labels, scores)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([1, 1], [0.1, 0.2], None, "all 2 jets are signal, one class only"),
        ([0, 0, 0], [0.1, 0.2, 0.3], None, "all 3 jets are background, one class only"),
        ([0, 1, 0], [0.1, np.nan, np.nan], None, "2 of 3 scores are NaN or infinite, the first is of jet 1"),
        ([0, 1], [0.1, np.inf], None, "1 of 2 scores are NaN or infinite, the first is of jet 1"),
        ([0, 1, 1], [0.1, 0.2], None, "3 labels but 2 scores"),
        ([0, 1, 2], [0.1, 0.2, 0.3], None, "1 of 3 labels are neither 0 nor 1, the first is 2 of jet 2"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], None, "1 of 3 labels are neither 0 nor 1"),
        ([-1, 1], [0.1, 0.2], None, "the first is -1 of jet 0"),
        ([0, 1], [0.1, 0.2], [1.0], "weights have shape [1], there are 2 jets"),
        ([0, 1], [0.1, 0.2], [1.0, np.nan], "1 of 2 weights are NaN"),
        ([0, 1], [0.1, 0.2], [1.0, 0.0], "the weights of the 1 signal jets sum to 0"),
        ([0, 1], [0.1, 0.2], [-1.0, 1.0], "the weights of the 1 background jets sum to -1"),
        ([], [], None, "there are no jets"),
        ([0, 1], ["a", "b"], None, "not numbers"),
        ([0, 1], [[0.1, 0.2], [0.3, 0.4]], None, "scores have shape [2, 2]"),
        ([[0, 1], [1, 0]], [0.1, 0.2], None, "labels have shape [2, 2]"),
    ],
)
def test_what_has_no_roc_is_refused_with_count_and_index(
    labels: list, scores: list, weights: list | None, message: str
) -> None:
    with pytest.raises(DataError) as error:
        roc_curve(labels, scores, weights)
    assert message in str(error.value)
    assert error.value.mend


@pytest.mark.parametrize(
    ("tagger", "expected"), [("particlenet", (0.93839, 0.98477)), ("pfn", (0.93209, 0.98208))]
)
def test_published_accuracy_and_auc_are_reproduced(
    reference_scores: dict[str, np.ndarray], tagger: str, expected: tuple[float, float]
) -> None:
    arrays = reference_scores
    assert round(accuracy(arrays["labels"], arrays[tagger])[0], 5) == expected[0]
    assert round(auc(arrays["labels"], arrays[tagger]), 5) == expected[1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_type_of_score_gives_the_same_table_with_ties_signs_and_zeros(dtype: type) -> None:
    generator = np.random.default_rng(5)
    scores = np.round(generator.normal(size=3000), 2).astype(dtype)
    scores[:4] = [0.0, -0.0, -1e-3, 1e-3]
    labels = generator.integers(0, 2, 3000)
    table = make_cuts(labels, scores)
    values = np.unique(scores)[::-1]
    assert np.array_equal(table.thresholds, values)
    assert np.array_equal(table.signal, [(scores[labels == 1] >= v).sum() for v in values])
    assert np.array_equal(table.background, [(scores[labels == 0] >= v).sum() for v in values])
