"""Background rejection: the working point, its uncertainty, and the answer when nothing passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_samples import Sample, samples

from hepml.errors import DataError
from hepml.evaluation import background_rejection, bootstrap_rejection, rejection_by_convention


def brute_force_first_above(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, target: float
) -> tuple[float, float]:
    """(eps_B, threshold): tries every score as a cut, tightest first."""
    s, b = labels == 1, labels == 0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        passing = scores >= threshold
        if weights[s & passing].sum() >= target * weights[s].sum() * (1 - 1e-9):
            return weights[b & passing].sum() / weights[b].sum(), threshold
    raise AssertionError("the loosest cut passes everything")


@given(samples(), st.floats(0.01, 1.0))
def test_the_cut_is_the_tightest_that_reaches_the_efficiency(sample: Sample, target: float) -> None:
    labels, scores, weights = sample
    rejection = background_rejection(labels, scores, target, weights)
    eps_b, threshold = brute_force_first_above(labels, scores, weights, target)
    assert rejection.threshold == threshold
    assert rejection.signal_efficiency >= target * (1 - 1e-9)
    assert rejection.lower_limit == (eps_b == 0)
    if eps_b > 0:
        assert float(rejection) == pytest.approx(1 / eps_b, rel=1e-12)
    assert math.isfinite(float(rejection))
    assert float(rejection) >= 1


@given(samples(negative_weights=True), st.floats(0.01, 1.0))
def test_negative_weights_give_a_value_or_a_limit_never_infinity(sample: Sample, target: float) -> None:
    labels, scores, weights = sample
    rejection = background_rejection(labels, scores, target, weights)
    assert math.isfinite(rejection.value)
    assert rejection.value > 0
    assert rejection.lower_limit or (rejection.error is not None and math.isfinite(rejection.error))


@given(samples(), st.floats(0.01, 1.0))
def test_a_jet_of_weight_n_is_rejected_as_n_jets(sample: Sample, target: float) -> None:
    labels, scores, weights = sample
    n = weights.astype(int)
    weighted = background_rejection(labels, scores, target, weights)
    repeated = background_rejection(np.repeat(labels, n), np.repeat(scores, n), target)
    assert weighted.threshold == repeated.threshold
    if not weighted.lower_limit:
        assert weighted.value == pytest.approx(repeated.value, rel=1e-12)


def test_equal_scores_are_never_split() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1])
    rejection = background_rejection(labels, scores, 0.5)
    assert (rejection.signal_efficiency, rejection.value, rejection.threshold) == (1.0, 2.0, 0.5)


def test_three_of_ten_signal_jets_are_an_efficiency_of_0_3() -> None:
    """0.1 + 0.2 != 0.3 must not move the working point by a jet."""
    labels = np.repeat([1, 0], 10)
    scores = np.concatenate((np.arange(10), np.arange(10) - 0.5))
    for weights in (None, np.full(20, 0.1), np.full(20, 1 / 3)):
        assert background_rejection(labels, scores, 0.3, weights).threshold == 7


def test_the_error_is_binomial_when_the_cut_is_known_well() -> None:
    """A signal sample far larger than the background leaves the background's counting error alone."""
    generator = np.random.default_rng(4)
    labels = np.concatenate((np.ones(200_000), np.zeros(2_000)))
    scores = generator.normal(labels * 2)
    rejection = background_rejection(labels, scores, 0.5)
    eps = 1 / rejection.value
    assert rejection.error == pytest.approx(math.sqrt(eps * (1 - eps) / 2000) / eps**2, rel=0.05)


@pytest.mark.parametrize(("signal", "background"), [(8_000, 8_000), (300, 20_000), (8_000, 1_500)])
def test_the_error_is_the_spread_over_samples(signal: int, background: int) -> None:
    """Whether signal or background jets limit it."""
    generator = np.random.default_rng(5)
    labels = np.concatenate((np.ones(signal), np.zeros(background)))
    drawn = [background_rejection(labels, generator.normal(labels * 2), 0.5) for _ in range(300)]
    spread = np.std([r.value for r in drawn])
    assert np.mean([r.error for r in drawn]) == pytest.approx(spread, rel=0.15)


def test_the_error_of_weighted_jets_is_the_spread_over_samples() -> None:
    generator = np.random.default_rng(6)
    labels = np.repeat([1, 0], 8_000)
    drawn = [
        background_rejection(labels, generator.normal(labels * 2), 0.5, generator.exponential(size=16_000))
        for _ in range(300)
    ]
    spread = np.std([r.value for r in drawn])
    assert np.mean([r.error for r in drawn]) == pytest.approx(spread, rel=0.15)


def test_the_bootstrap_agrees_with_the_formula() -> None:
    generator = np.random.default_rng(7)
    labels = np.repeat([1, 0], 10_000)
    scores = generator.normal(labels * 2)
    rejection = background_rejection(labels, scores, 0.3)
    low, high = bootstrap_rejection(labels, scores, 0.3, replicas=300)
    assert low < rejection.value < high
    assert (high - low) / 2 == pytest.approx(rejection.error, rel=0.25)
    assert (low, high) == bootstrap_rejection(labels, scores, 0.3, replicas=300)


def test_when_no_background_passes_there_is_a_lower_limit_with_the_stated_coverage() -> None:
    labels = np.array([1] * 10 + [0] * 1000)
    scores = labels.astype(float)
    rejection = background_rejection(labels, scores, 0.3)
    assert rejection.lower_limit
    assert rejection.error is None
    assert rejection.value == pytest.approx(1000 / 2.303, rel=2e-3)
    # At the limit itself, an empty selection happens in exactly 10 % of experiments.
    assert (1 - 1 / rejection.value) ** 1000 == pytest.approx(0.10, rel=1e-9)


def test_the_limit_of_weighted_jets_uses_the_effective_count() -> None:
    labels = np.array([1] * 10 + [0] * 1000)
    scaled = background_rejection(labels, labels, 0.3, np.where(labels == 0, 0.01, 1.0))
    assert scaled.value == pytest.approx(background_rejection(labels, labels, 0.3).value, rel=1e-9)
    uneven = np.where(np.arange(1010) % 2, 1.0, 3.0)
    effective = uneven[10:].sum() ** 2 / (uneven[10:] ** 2).sum()
    assert background_rejection(labels, labels, 0.3, uneven).value == pytest.approx(
        effective / 2.303, rel=3e-3
    )


def test_weights_that_cancel_give_a_limit() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    scores = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    weights = np.array([1, 1, 0.1, -0.1, 1, 1, 1, 1])
    rejection = background_rejection(labels, scores, 0.5, weights)
    assert rejection.lower_limit
    assert math.isfinite(rejection.value)


@pytest.mark.parametrize("efficiency", [0.0, -0.1, 1.1, math.nan])
def test_an_efficiency_outside_0_to_1_is_refused(efficiency: float) -> None:
    with pytest.raises(DataError, match="signal efficiency"):
        background_rejection([0, 1], [0.1, 0.9], efficiency)


def test_the_four_conventions_differ_where_points_are_sparse() -> None:
    labels = np.array([1, 0, 1, 0, 0, 1, 0, 1, 0, 0])
    scores = np.linspace(1, 0, 10)
    found = rejection_by_convention(labels, scores, 0.6)
    # Points (eps_S, eps_B): (.25, 0) (.5, 1/6) (.5, 1/2) (.75, 1/2) …; 0.6 lies between .5 and .75.
    assert found["first_above"] == pytest.approx(2)
    assert found["nearest"] == pytest.approx(6)
    assert found["interpolated"] == pytest.approx(2)
    none = rejection_by_convention(labels, scores, 0.2)
    assert none["first_above"] is None
    assert none["zero_when_none"] == 0


@pytest.mark.parametrize(
    ("tagger", "efficiency", "published"),
    [("particlenet", 0.3, 1294), ("particlenet", 0.5, 329), ("pfn", 0.3, 889), ("pfn", 0.5, 257)],
)
def test_published_rejections_are_reproduced(
    reference_scores: dict[str, np.ndarray], tagger: str, efficiency: float, published: int
) -> None:
    arrays = reference_scores
    rejection = background_rejection(arrays["labels"], arrays[tagger], efficiency)
    assert round(rejection.value) == published
    conventions = rejection_by_convention(arrays["labels"], arrays[tagger], efficiency)
    assert {round(value or 0) for value in conventions.values()} == {published}
