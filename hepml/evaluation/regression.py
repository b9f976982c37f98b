"""The report of a regression under the Gaussian objective: is it right on average, how sharp, and does it
know how sharp it is?

Bias and resolution describe the mean, the pull (z - mean) / sigma and the negative log-likelihood describe
the claimed width: a pull of width 1 is a calibrated sigma, above 1 an overconfident one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import as_array, check_weights, finite, refuse_cancelling

_ONE_SIGMA = 0.6826894921370859


def evaluate_regression(
    targets: ArrayLike,
    mean: ArrayLike,
    sigma: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Bias, resolution, pulls and negative log-likelihood of predicted Gaussians, each with its standard
    error.

    For one target:

    - `bias`: mean of r = prediction - target, error s / sqrt(n).
    - `resolution`: standard deviation s of r about the bias, error sqrt((m4 / s^2 - s^2) / n) / 2 with the
      fourth central moment m4, which is s / sqrt(2 n) for a Gaussian and honest about tails.
      `resolution_68`: half the width of the central 68.27 % of r.
    - `rmse` and `mae`, about zero.
    - with `sigma`: `pull_mean` and `pull_width` of (target - mean) / sigma; `coverage_68`, the share of
      targets within one sigma (0.683 if calibrated); `nll`, the mean of ln sigma + pull^2 / 2 +
      ln(2 pi) / 2.

    n is W^2 / sum w^2 for weighted jets.

    Args:
        targets: the truth, [N] or [N, T], in its own unit.
        mean: predicted mean, as targets.
        sigma: predicted standard deviation, as targets; positive.
        weights: one a jet, of positive sum, [N].
        names: of the T targets.

    Returns:
        The figures and `jets`. For T > 1 targets {"jets", "nll", "targets": {name: figures}}, the nll being
        the sum over targets.

    Raises:
        DataError: wrong shapes, NaN or infinite values, a sigma that is not positive, fewer than two jets.

    Examples:
        >>> report = hepml.evaluation.evaluate_regression([1.0, 2.0, 3.0], [1.1, 2.0, 2.9], [0.1, 0.1, 0.1])
        >>> round(report['rmse'], 3)
        0.082
    """
    z, m = (finite(as_array(a, n), n) for a, n in ((targets, "targets"), (mean, "predicted means")))
    if z.shape != m.shape or z.ndim not in (1, 2):
        raise DataError(
            f"targets have shape {list(z.shape)}, predictions {list(m.shape)}",
            mend="give both as [jets] or [jets, T]",
        )
    s = None if sigma is None else finite(as_array(sigma, "predicted sigmas"), "predicted sigmas")
    if s is not None:
        if s.shape != z.shape:
            raise DataError(
                f"sigmas have shape {list(s.shape)}, targets {list(z.shape)}", mend="give one sigma a mean"
            )
        bad = np.flatnonzero((s <= 0).reshape(len(s), -1).any(axis=1))
        if len(bad):
            raise DataError(
                f"{len(bad)} of {len(s)} predicted sigmas are not positive, the first is of jet {bad[0]}",
                mend="give standard deviations, not their logarithms",
            )
    if len(z) < 2:
        raise DataError(f"{len(z)} jets are too few for a resolution", mend="give two or more")
    w = check_weights(weights, len(z))
    if w is None:
        w = np.ones(len(z))
    refuse_cancelling(w, "")
    if z.ndim == 1:
        return {"jets": len(z), **_one_target(z, m, s, w)}
    names = [f"target_{i}" for i in range(z.shape[1])] if names is None else list(names)
    if len(names) != z.shape[1]:
        raise DataError(f"{len(names)} names for {z.shape[1]} targets", mend="give one name a target")
    each = {n: _one_target(z[:, i], m[:, i], None if s is None else s[:, i], w) for i, n in enumerate(names)}
    report: dict[str, Any] = {"jets": len(z), "targets": each}
    if s is not None:
        report["nll"] = sum(figures["nll"] for figures in each.values())
    return report


def _one_target(
    target: NDArray[Any], mean: NDArray[Any], sigma: NDArray[Any] | None, w: NDArray[np.float64]
) -> dict[str, float]:
    residual = mean.astype(np.float64) - target.astype(np.float64)
    bias, bias_error, spread, spread_error = _moments(residual, w)
    low, high = _quantiles(residual, w, (0.5 - _ONE_SIGMA / 2, 0.5 + _ONE_SIGMA / 2))
    total = w.sum()
    figures = {
        "bias": bias,
        "bias_error": bias_error,
        "resolution": spread,
        "resolution_error": spread_error,
        "resolution_68": 0.5 * (high - low),
        "rmse": math.sqrt(max(float(w @ residual**2) / total, 0.0)),
        "mae": float(w @ np.abs(residual)) / total,
    }
    if sigma is not None:
        width = sigma.astype(np.float64)
        pull = -residual / width
        nll = np.log(width) + 0.5 * pull**2 + 0.5 * math.log(2 * math.pi)
        (
            figures["pull_mean"],
            figures["pull_mean_error"],
            figures["pull_width"],
            figures["pull_width_error"],
        ) = _moments(pull, w)
        figures["coverage_68"] = float(w[np.abs(pull) <= 1].sum() / total)
        figures["nll"], figures["nll_error"], _, _ = _moments(nll, w)
    return figures


def _moments(values: NDArray[np.float64], w: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Mean, its error, standard deviation (n_eff - 1 in the denominator), its error."""
    total = float(w.sum())
    effective = total**2 / float(w @ w)
    mean = float(w @ values) / total
    centred = values - mean
    biased = max(float(w @ centred**2) / total, 0.0)
    variance = biased * (effective / (effective - 1) if effective > 1 else 1.0)
    fourth = float(w @ centred**4) / total
    spread_error = (
        math.sqrt(max(fourth - biased**2, 0.0) / effective) / (2 * math.sqrt(biased)) if biased > 0 else 0.0
    )
    return mean, math.sqrt(variance / effective), math.sqrt(variance), spread_error


def _quantiles(values: NDArray[np.float64], w: NDArray[np.float64], shares: Sequence[float]) -> list[float]:
    """Weighted quantiles, each jet's weight centred on its value; jets of negative weight enter with weight
    0."""
    order = np.argsort(values)
    positive = np.clip(w[order], 0.0, None)
    middle = (np.cumsum(positive) - 0.5 * positive) / positive.sum()
    return [float(np.interp(share, middle, values[order])) for share in shares]
