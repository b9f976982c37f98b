"""Calibration: whether a probability of 0.8 means that 80 % of such jets are signal.

The reliability diagram compares the mean score of a bin with the share of signal in it; the expected
calibration error is their mean difference (arXiv:1706.04599). A temperature, fitted on validation jets, makes
scores less or more sure of themselves and changes no order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import adds_up, check_binary

_EDGE = 1e-12  # probabilities nearer to 0 or 1 have no finite logit
_WIDEST = 4.0  # |ln T| that a temperature may have


def reliability(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 15
) -> dict[str, Any]:
    """The reliability diagram of a binary tagger and its expected calibration error.

    Args:
        labels: [N], 1 is signal.
        scores: probabilities of signal, [N].
        weights: one a jet, of any sign, [N].
        bins: of equal width in the score.

    Returns:
        {"ece", "largest", "bins": [{"low", "high", "score", "signal_share", "error", "jets"}, …],
        "cancelled"} of the bins that have jets; `error` is the binomial one. Jets of bins whose weights
        cancel are in none of these, and counted as `cancelled`.

    Raises:
        DataError: as `evaluate`; scores outside [0, 1].

    Examples:
        >>> table = hepml.evaluation.reliability([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], bins=2)
        >>> table['ece']
        0.25
    """
    y, s, w = _probabilities(labels, scores, weights)
    edges = np.linspace(0, 1, bins + 1)
    at = np.clip(np.digitize(s, edges) - 1, 0, bins - 1)
    rows, error, largest, cancelled = [], 0.0, 0.0, 0
    for k in range(bins):
        inside = at == k
        if not inside.any():
            continue
        if not adds_up(w[inside]):
            cancelled += int(inside.sum())
            continue
        total = w[inside].sum()
        mean = float(np.average(s[inside], weights=w[inside]))
        share = float(w[inside & (y == 1)].sum() / total)
        scatter = (w[inside] ** 2 * (y[inside] - share) ** 2).sum()
        difference = abs(mean - share)
        error += total / w.sum() * difference
        largest = max(largest, difference)
        rows.append(
            {
                "low": float(edges[k]), "high": float(edges[k + 1]), "score": mean, "signal_share": share,
                "error": float(np.sqrt(scatter) / total), "jets": int(inside.sum()),
            }
        )  # fmt: skip
    return {"ece": float(error), "largest": float(largest), "bins": rows, "cancelled": cancelled}


def fit_temperature(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The temperature T that makes sigmoid(logit / T) of these (validation) jets most likely.

    Scores that tell the jets apart without an error ask for ever smaller temperatures: the smallest one
    looked at, exp(-4), is returned.

    Raises:
        DataError: as `evaluate`; scores outside [0, 1]; negative weights that leave no best temperature.

    Examples:
        >>> labels, scores = [0, 0, 0, 1, 1, 1], [0.01, 0.02, 0.99, 0.98, 0.99, 0.01]
        >>> hepml.evaluation.fit_temperature(labels, scores) > 1
        True
    """
    from scipy.optimize import minimize_scalar  # takes longer to import than all else here

    y, s, w = _probabilities(labels, scores, weights)
    z, sign = _logit(s), np.where(y == 1, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float((w * np.logaddexp(0, -sign * z / np.exp(log_temperature))).sum() / w.sum())

    found = float(minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x)
    if (w < 0).any() and abs(found) > _WIDEST - 0.1:  # the search ended at one of its bounds
        raise DataError(
            f"with {int((w < 0).sum())} negative weights the likelihood has no best temperature",
            mend="leave weights out, or add jets",
        )
    return float(np.exp(found))


def with_temperature(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities softened (T > 1) or sharpened by a temperature, [N].

    Raises:
        DataError: a temperature that is not positive.

    Examples:
        >>> hepml.evaluation.with_temperature([0.5, 0.9], 2.0).round(2).tolist()
        [0.5, 0.75]
    """
    if not 0 < temperature < np.inf:
        raise DataError(f"the temperature is {temperature:g}", mend="give a positive number")
    z = _logit(np.asarray(scores, dtype=np.float64)) / temperature
    z = np.clip(z, -700.0, 700.0)  # beyond, the exponential has no double
    return np.asarray(1 / (1 + np.exp(-z)), dtype=np.float64)


def _logit(s: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(s, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)


def _probabilities(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    y, s, w = check_binary(labels, scores, weights)
    if s.min() < 0 or s.max() > 1:
        raise DataError(
            f"scores from {s.min():.3g} to {s.max():.3g} are no probabilities",
            mend="give what `hepml predict` writes",
        )
    return (
        y,
        np.asarray(s, dtype=np.float64),
        np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64),
    )
