"""Mass sculpting and calibration of scores whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from hepml.errors import DataError
from hepml.evaluation.calibration import fit_temperature, reliability, with_temperature
from hepml.evaluation.plots.analysis import plot_reliability, plot_sculpting
from hepml.evaluation.plots.style import save
from hepml.evaluation.sculpting import jensen_shannon, mass_sculpting, score_threshold

RNG = np.random.default_rng(5)
N = 20_000
LABELS = RNG.integers(0, 2, N)
MASSES = np.where(LABELS == 1, RNG.normal(170, 15, N), RNG.gamma(4, 25, N))


def test_a_score_that_knows_nothing_of_the_mass_sculpts_no_more_than_chance() -> None:
    scores = RNG.normal(LABELS, 1.0)
    for found in mass_sculpting(LABELS, scores, MASSES).values():
        assert found["divergence"] < found["by_chance"] + 5 * found["by_chance_error"]
        assert found["passing"] > 100


def test_a_cut_on_the_mass_itself_sculpts_far_beyond_chance_and_the_tighter_the_more() -> None:
    found = mass_sculpting(LABELS, -np.abs(MASSES - 170), MASSES)
    assert found["0.3"]["divergence"] > found["0.5"]["divergence"] > 0.5
    assert all(each["divergence"] > 20 * each["by_chance"] for each in found.values())


def test_the_divergence_is_scipys_squared_and_between_zero_and_one() -> None:
    p, q = RNG.random(12), RNG.random(12)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)


def test_thresholds_let_the_asked_share_of_signal_weight_pass() -> None:
    scores, weights = RNG.normal(LABELS, 1.0), RNG.random(N)
    for point, found in mass_sculpting(LABELS, scores, MASSES, weights).items():
        signal = LABELS == 1
        passed = weights[signal & (scores >= found["threshold"])].sum() / weights[signal].sum()
        assert passed == pytest.approx(float(point), abs=1e-3)


def test_calibrated_probabilities_have_no_error_and_overconfident_ones_are_mended_by_their_temperature() -> (
    None
):
    p = RNG.random(100_000)
    labels = (RNG.random(len(p)) < p).astype(int)
    assert reliability(labels, p)["ece"] < 0.01
    sure = with_temperature(p, 1 / 3)
    assert reliability(labels, sure)["ece"] > 0.1
    temperature = fit_temperature(labels, sure)
    assert temperature == pytest.approx(3, rel=0.03)
    mended = with_temperature(sure, temperature)
    assert reliability(labels, mended)["ece"] < 0.01
    assert (np.argsort(mended) == np.argsort(sure)).mean() > 0.99


def test_jets_of_equal_scores_pass_a_threshold_together_whatever_their_weights() -> None:
    scores, weights = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 3.0, -2.5, 2.5])
    # the share that reaches 0.5 is 1.5 of 4, not the 4 of 4 after the first of the two
    assert score_threshold(scores, weights, 0.3) == 0.5
    assert score_threshold(scores, weights, 0.5) == 0.1


def test_temperatures_that_do_not_exist_are_refused() -> None:
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="temperature is"):
            with_temperature([0.2, 0.8], temperature)
    labels, scores = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.9, 0.9, 0.8, 0.7]
    assert np.log(fit_temperature(labels, scores, [1, 1, 0.1, 1, 1, 1])) > -3.9
    with pytest.raises(DataError, match="1 negative weights"):
        fit_temperature(labels, scores, [1, 1, -0.1, 1, 1, 1])


def test_the_temperature_of_three_classes_is_found_and_leaves_rows_that_add_up_to_one() -> None:
    z = RNG.normal(size=(30_000, 3))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = (RNG.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)  # drawn from p: calibrated
    sure = with_temperature(p, 1 / 3)
    np.testing.assert_allclose(sure.sum(axis=1), 1)
    assert fit_temperature(labels, sure) == pytest.approx(3, rel=0.03)
    np.testing.assert_allclose(with_temperature(sure, 3.0), p, atol=1e-9)
    assert max(reliability(labels == k, p[:, k])["ece"] for k in range(3)) < 0.015
    seen = labels < 2  # a class without jets, weights, and a probability of exactly zero
    rows, weights = sure[seen].round(2), RNG.random(int(seen.sum()))
    rows[:, 2] = 1 - rows[:, 0] - rows[:, 1]
    rows = np.clip(rows, 0, 1)
    assert (rows == 0).any()
    assert 1 < fit_temperature(labels[seen], rows, weights) < 10


def test_two_columns_have_the_temperature_of_the_signal_alone() -> None:
    p = RNG.random(2_000)
    labels, both = (RNG.random(len(p)) < p).astype(int), np.stack((1 - p, p), axis=1)
    assert fit_temperature(labels, both) == pytest.approx(fit_temperature(labels, p), rel=1e-4)
    np.testing.assert_allclose(with_temperature(both, 2.0)[:, 1], with_temperature(p, 2.0), rtol=1e-9)


def test_a_jet_without_a_score_has_none_after_the_temperature() -> None:
    rows = with_temperature([[0.2, 0.3, 0.5], [np.nan] * 3], 2.0)
    assert np.isnan(rows).any(axis=1).tolist() == [False, True]
    assert np.isnan(with_temperature([np.nan, 0.5], 2.0)).tolist() == [True, False]


def test_what_is_no_probability_or_no_mass_is_refused() -> None:
    with pytest.raises(DataError, match="no probabilities"):
        with_temperature([-3.0, 2.0], 2.0)
    for scores in ([[0.2, 0.3, 0.4]], [[0.9, 0.9, 0.9]]):
        with pytest.raises(DataError, match="1 of 1 jets do not add up to one"):
            with_temperature(scores, 2.0)
    with pytest.raises(DataError, match="of one class"):
        reliability([0, 1], [[0.2, 0.8], [0.8, 0.2]])
    for bins in (0, -1, 2.5):
        with pytest.raises(DataError, match="whole number of bins"):
            reliability([0, 1], [0.2, 0.8], bins=bins)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no probabilities"):
        reliability([0, 1], [-3.0, 2.0])
    with pytest.raises(DataError, match="for 2 jets"):
        mass_sculpting([0, 1], [0.1, 0.2], [3.0])
    with pytest.raises(DataError, match="not finite"):
        mass_sculpting([0, 1], [0.1, 0.2], [3.0, np.nan])


def test_both_are_drawn(tmp_path: Path) -> None:
    scores = 1 / (1 + np.exp(-RNG.normal(2 * LABELS - 1, 1.0)))
    save(plot_sculpting(LABELS, scores, MASSES), tmp_path / "sculpting.png")
    save(plot_reliability({"tagger": (LABELS, scores, None)}), tmp_path / "reliability.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("sculpting", "reliability"))
