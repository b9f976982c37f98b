"""Regression: bias, resolution, pulls and likelihood of predicted Gaussians."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hepml import objectives
from hepml.errors import DataError
from hepml.evaluation import evaluate_regression


def masses(
    count: int = 20_000, bias: float = 3.0, claimed: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True masses in GeV, predictions off by `bias` with a resolution between 5 and 15 GeV, of which
    `claimed` is owned up to."""
    generator = np.random.default_rng(10)
    truth, sigma = generator.uniform(50, 250, count), generator.uniform(5, 15, count)
    return truth, truth + bias + sigma * generator.normal(size=count), claimed * sigma


def test_bias_and_resolution_are_found_within_their_errors() -> None:
    report = evaluate_regression(*masses())
    spread = np.sqrt(np.mean(np.random.default_rng(0).uniform(5, 15, 10**6) ** 2))
    assert abs(report["bias"] - 3.0) < 4 * report["bias_error"]
    assert abs(report["resolution"] - spread) < 4 * report["resolution_error"]
    assert report["rmse"] == pytest.approx(np.hypot(report["bias"], report["resolution"]), rel=1e-3)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(("claimed", "coverage"), [(1.0, 0.6827), (0.5, 0.3829)])
def test_an_overconfident_sigma_shows_in_the_pull_width(claimed: float, coverage: float) -> None:
    report = evaluate_regression(*masses(bias=0.0, claimed=claimed))
    assert abs(report["pull_width"] - 1 / claimed) < 4 * report["pull_width_error"]
    assert abs(report["pull_mean"]) < 4 * report["pull_mean_error"]
    assert report["coverage_68"] == pytest.approx(coverage, abs=0.015)


def test_the_likelihood_is_least_for_the_honest_sigma() -> None:
    nll = [evaluate_regression(*masses(bias=0.0, claimed=c))["nll"] for c in (0.7, 1.0, 1.4)]
    assert nll[1] < min(nll[0], nll[2])


def test_the_likelihood_is_that_of_the_gaussian_objective() -> None:
    truth, mean, sigma = masses(100)
    head = objectives.Gaussian(centre=0.0, width=1.0, bound=1e6)
    outputs = torch.from_numpy(np.stack((mean, np.log(sigma)), axis=1))
    expected = float(head.loss(outputs, torch.from_numpy(truth)))
    assert evaluate_regression(truth, mean, sigma)["nll"] == pytest.approx(expected, rel=1e-6)


def test_the_errors_are_the_spread_over_samples() -> None:
    generator = np.random.default_rng(11)
    reports = [
        evaluate_regression(np.zeros(300), generator.standard_t(8, 300), np.ones(300)) for _ in range(400)
    ]
    for key in ("bias", "resolution", "pull_width", "nll"):
        spread = np.std([r[key] for r in reports])
        assert np.mean([r[f"{key}_error"] for r in reports]) == pytest.approx(spread, rel=0.15), key


def test_a_jet_of_weight_n_counts_as_n_jets() -> None:
    truth, mean, sigma = masses(500)
    n = np.random.default_rng(12).integers(1, 4, 500)
    weighted = evaluate_regression(truth, mean, sigma, n)
    repeated = evaluate_regression(*(np.repeat(a, n) for a in (truth, mean, sigma)))
    for key in ("bias", "rmse", "mae", "coverage_68", "nll", "pull_mean"):
        assert weighted[key] == pytest.approx(repeated[key], rel=1e-9), key
    assert weighted["resolution_68"] == pytest.approx(repeated["resolution_68"], rel=0.02)


def test_half_the_central_68_percent_ignores_a_far_outlier() -> None:
    generator = np.random.default_rng(13)
    residual = generator.normal(size=10_000)
    residual[0] = 1e5
    report = evaluate_regression(np.zeros(10_000), residual)
    assert report["resolution_68"] == pytest.approx(1.0, abs=0.03)
    assert report["resolution"] > 100
    assert "nll" not in report


def test_several_targets_have_a_report_each_and_their_likelihoods_add() -> None:
    truth, mean, sigma = masses(400)
    pair = [np.stack((a, 2 * a), axis=1) for a in (truth, mean, sigma)]
    report = evaluate_regression(*pair, names=["mass", "twice"])
    assert report["targets"]["mass"] == pytest.approx(
        {k: v for k, v in evaluate_regression(truth, mean, sigma).items() if k != "jets"}
    )
    assert report["targets"]["twice"]["bias"] == pytest.approx(2 * report["targets"]["mass"]["bias"])
    assert report["nll"] == pytest.approx(sum(t["nll"] for t in report["targets"].values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), "targets have shape [2], predictions [1]"),
        (([1.0, np.nan], [1.0, 2.0]), "1 of 2 targets are NaN or infinite, the first is of jet 1"),
        (
            ([1.0, 2.0], [1.0, 2.0], [1.0, 0.0]),
            "1 of 2 predicted sigmas are not positive, the first is of jet 1",
        ),
        (([1.0, 2.0], [1.0, 2.0], [1.0]), "sigmas have shape [1], targets [2]"),
        (([1.0], [1.0]), "too few for a resolution"),
        (([1.0, 2.0], [1.0, 2.0], None, [1.0, -1.0]), "the weights sum to 0"),
    ],
)
def test_what_is_no_prediction_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(DataError) as error:
        evaluate_regression(*arguments)
    assert message in str(error.value)
