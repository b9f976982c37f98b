"""Paired tests against the bootstrap and against formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hepml.evaluation import auc, auc_with_error, background_rejection
from hepml.evaluation.paired import compare, compare_accuracy, compare_auc, compare_rejection, mcnemar


def _two_taggers(
    seed: int, jets: int = 4000, better: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and the scores of two taggers that share most of their noise."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, jets)
    shared = labels * 1.5 + draw.normal(size=jets)
    return (
        labels,
        shared + better * labels + 0.5 * draw.normal(size=jets),
        shared + 0.5 * draw.normal(size=jets),
    )


def _bootstrap(labels, a, b, figure, seed=3, replicas=300) -> float:
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == k) for k in (0, 1)]
    found = []
    for _ in range(replicas):
        rows = np.concatenate([draw.choice(group, len(group)) for group in groups])
        found.append(figure(labels[rows], a[rows]) - figure(labels[rows], b[rows]))
    return float(np.std(found))


@pytest.mark.parametrize(
    ("first", "second", "p"), [(0, 0, 1.0), (0, 5, 2 / 32), (3, 3, 1.0), (1, 9, 22 / 1024)]
)
def test_mcnemar_is_the_binomial_test(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p)
    assert mcnemar(second, first) == pytest.approx(p)


def test_mcnemar_of_many_jets_is_that_of_a_gaussian() -> None:
    z = (5200 - 4800 - 1) / math.sqrt(10_000)
    assert mcnemar(5200, 4800) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_the_error_of_a_difference_of_aucs_is_that_of_the_bootstrap() -> None:
    labels, a, b = _two_taggers(1)
    found = compare_auc(labels, a, b)
    assert found.difference == pytest.approx(auc(labels, a) - auc(labels, b), abs=1e-12)
    assert found.error == pytest.approx(_bootstrap(labels, a, b, auc), rel=0.15)
    assert found.error < auc_with_error(labels, a)[1]  # the taggers' errors are correlated


def test_against_a_constant_tagger_the_error_is_that_of_one_auc() -> None:
    labels, a, _ = _two_taggers(2)
    found = compare_auc(labels, a, np.zeros(len(a)))
    assert (found.difference + 0.5, found.error) == pytest.approx(auc_with_error(labels, a), rel=1e-6)


@pytest.mark.parametrize("point", [0.3, 0.5])
def test_the_error_of_a_ratio_of_rejections_is_that_of_the_bootstrap(point: float) -> None:
    labels, a, b = _two_taggers(4, 12_000, better=0.2)
    found = compare_rejection(labels, a, b, point)

    def logarithm(y: np.ndarray, s: np.ndarray) -> float:
        return math.log(background_rejection(y, s, point).value)

    assert found.difference == pytest.approx(logarithm(labels, a) - logarithm(labels, b))
    assert found.error == pytest.approx(_bootstrap(labels, a, b, logarithm, replicas=200), rel=0.25)


def test_weights_of_one_change_nothing_and_weights_of_two_are_two_jets() -> None:
    labels, a, b = _two_taggers(5, 1000)
    plain = compare(labels, a, b)
    ones = compare(labels, a, b, np.ones(1000))
    assert ones["auc"] == pytest.approx(plain["auc"])
    assert ones["rejection"]["0.3"] == pytest.approx(plain["rejection"]["0.3"])
    assert ones["accuracy"]["difference"] == pytest.approx(plain["accuracy"]["difference"])
    assert ones["accuracy"]["error"] == pytest.approx(plain["accuracy"]["error"], rel=1e-3)
    double = compare(labels, a, b, np.full(1000, 2.0))
    assert double["auc"] == pytest.approx(plain["auc"])


def test_taggers_that_are_the_same_do_not_differ_and_p_values_are_uniform_where_there_is_no_difference() -> (
    None
):
    labels, a, _ = _two_taggers(6)
    same = compare(labels, a, a)
    assert [same["auc"]["p_value"], same["accuracy"]["p_value"], same["rejection"]["0.3"]["p_value"]] == [
        1,
        1,
        1,
    ]
    small = {"accuracy": 0, "auc": 0, "rejection": 0}
    for seed in range(200):
        labels, a, b = _two_taggers(100 + seed, 1500)
        found = compare(labels, a, b, thresholds=(0.75, 0.75))
        small["accuracy"] += found["accuracy"]["p_value"] < 0.1
        small["auc"] += found["auc"]["p_value"] < 0.1
        small["rejection"] += found["rejection"]["0.3"]["p_value"] < 0.1
    assert all(5 <= number <= 38 for number in small.values()), small  # 20 +- 4.2 expected, McNemar fewer


def test_a_better_tagger_is_found_where_its_own_error_would_hide_it() -> None:
    labels, a, b = _two_taggers(8, 12_000, better=0.06)
    found = compare_auc(labels, a, b)
    (_, one), (_, other) = auc_with_error(labels, a), auc_with_error(labels, b)
    assert found.p_value < 1e-3
    assert found.difference < 3.5 * math.hypot(one, other)


def test_where_no_background_passes_nothing_is_claimed() -> None:
    labels = np.array([0] * 50 + [1] * 50)
    found = compare(labels, labels + 0.0, labels + np.linspace(0, 0.1, 100))
    assert found["rejection"]["0.3"] == {"difference": None, "error": None, "p_value": None, "ratio": None}


def test_weighted_accuracies_are_compared_by_their_weighted_mean() -> None:
    first, second = np.array([1, 1, 0, 1], bool), np.array([1, 0, 0, 0], bool)
    found = compare_accuracy(first, second, np.array([1.0, 2.0, 1.0, 4.0]))
    assert found.difference == pytest.approx(6 / 8)
