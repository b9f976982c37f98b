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
from hepml.evaluation.checks import adds_up, as_array, check_binary, check_multiclass

_EDGE = 1e-12  # probabilities nearer to 0 or 1 have no finite logit
_WIDEST = 4.0  # |ln T| that a temperature may have
_SUM = 1e-2  # how far the probabilities of a jet may be from adding up to one, as those of half precision are


def reliability(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 15
) -> dict[str, Any]:
    """The reliability diagram of a binary tagger and its expected calibration error. Of more classes each has
    its own, against all others: `reliability(labels == k, scores[:, k])`.

    Args:
        labels: [N], 1 is signal.
        scores: probabilities of signal, [N].
        weights: one a jet, of any sign, [N].
        bins: of equal width in the score, at least one.

    Returns:
        {"ece", "largest", "bins": [{"low", "high", "score", "signal_share", "error", "jets"}, …],
        "cancelled"} of the bins that have jets; `error` is the binomial one. Jets of bins whose weights
        cancel are in none of these, and counted as `cancelled`.

    Raises:
        DataError: as `evaluate`; scores outside [0, 1]; no bins.

    Examples:
        >>> table = hepml.evaluation.reliability([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], bins=2)
        >>> table['ece']
        0.25
    """
    number: object = bins
    if not isinstance(number, int | np.integer) or number < 1:
        raise DataError(f"bins is {bins!r}", mend="give a whole number of bins, 15 say")
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
    """The temperature T that makes sigmoid(logit / T) of these (validation) jets most likely; of more classes
    softmax(ln p / T).

    Scores that tell the jets apart without an error ask for ever smaller temperatures, scores that say
    nothing, or the contrary, for ever larger ones: the smallest and the largest one looked at, exp(-4) and
    exp(4), are returned.

    Args:
        labels: [N], 1 is signal; class indices where scores are [N, C].
        scores: probabilities of signal, [N], or of all classes, [N, C].
        weights: one a jet, [N].

    Raises:
        DataError: as `evaluate`; scores that are no probabilities; negative weights that leave no best
            temperature.

    Examples:
        >>> labels, scores = [0, 0, 0, 1, 1, 1], [0.01, 0.02, 0.99, 0.98, 0.99, 0.01]
        >>> hepml.evaluation.fit_temperature(labels, scores) > 1
        True
    """
    from scipy.optimize import minimize_scalar  # takes longer to import than all else here
    from scipy.special import logsumexp

    if _has_classes(scores):
        classes, p, given = check_multiclass(labels, scores, weights)
        w, z = np.ones(len(p)) if given is None else given, _log_rows(p)

        def losses(temperature: float) -> NDArray[np.float64]:
            of_label = np.take_along_axis(z, classes[:, None], axis=1)[:, 0]
            return np.asarray(logsumexp(z / temperature, axis=1) - of_label / temperature)
    else:
        y, s, w = _probabilities(labels, scores, weights)
        against = np.where(y == 1, -1.0, 1.0) * _logit(s)

        def losses(temperature: float) -> NDArray[np.float64]:
            return np.asarray(np.logaddexp(0, against / temperature))

    def loss(log_temperature: float) -> float:
        return float((w * losses(np.exp(log_temperature))).sum() / w.sum())

    found = float(minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x)
    if (w < 0).any() and abs(found) > _WIDEST - 0.1:  # the search ended at one of its bounds
        raise DataError(
            f"with {int((w < 0).sum())} negative weights the likelihood has no best temperature",
            mend="leave weights out, or add jets",
        )
    return float(np.exp(found))


def with_temperature(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities softened (T > 1) or sharpened by a temperature: of signal, [N], or of all classes,
    [N, C], which add up to one before and after. A jet without a score (NaN) has none after.

    Raises:
        DataError: a temperature that is not positive; scores that are no probabilities.

    Examples:
        >>> hepml.evaluation.with_temperature([0.5, 0.9], 2.0).round(2).tolist()
        [0.5, 0.75]
        >>> hepml.evaluation.with_temperature([[0.1, 0.1, 0.8]], 2.0).round(2).tolist()
        [[0.21, 0.21, 0.59]]
    """
    if not 0 < temperature < np.inf:
        raise DataError(f"the temperature is {temperature:g}", mend="give a positive number")
    s = as_array(scores, "scores").astype(np.float64)
    _refuse_outside(s)
    if _has_classes(s):
        from scipy.special import softmax

        return np.asarray(softmax(_log_rows(s) / temperature, axis=1), dtype=np.float64)
    z = _logit(s) / temperature
    z = np.clip(z, -700.0, 700.0)  # beyond, the exponential has no double
    return np.asarray(1 / (1 + np.exp(-z)), dtype=np.float64)


def _has_classes(scores: ArrayLike) -> bool:
    """Whether scores are of all classes, [N, C], and not of signal alone, [N] or [N, 1]."""
    shape = as_array(scores, "scores").shape
    return len(shape) == 2 and shape[1] > 1


def _log_rows(p: NDArray[Any]) -> NDArray[np.float64]:
    """Logarithms of the probabilities of all classes, [N, C].

    Raises:
        DataError: rows that do not add up to one.
    """
    total = p.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(np.abs(total - 1) > _SUM)
    if len(wrong):
        raise DataError(
            f"the class scores of {len(wrong)} of {len(p)} jets do not add up to one, jet {wrong[0]}'s "
            f"to {total[wrong[0]]:.3g}",
            mend="give what `hepml predict` writes, a column for each class",
        )
    return np.asarray(np.log(np.clip(p.astype(np.float64), _EDGE, None)), dtype=np.float64)


def _logit(s: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(s, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)


def _refuse_outside(s: NDArray[Any]) -> None:
    """Raises DataError for scores outside [0, 1]; NaN passes."""
    known = s[~np.isnan(s)]
    if len(known) and (known.min() < 0 or known.max() > 1):
        raise DataError(
            f"scores from {known.min():.3g} to {known.max():.3g} are no probabilities",
            mend="give what `hepml predict` writes",
        )


def _probabilities(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    if _has_classes(scores):
        raise DataError(
            f"scores have shape {list(as_array(scores, 'scores').shape)}, this is of one class",
            mend="one class against the others: labels == k and scores[:, k]",
        )
    y, s, w = check_binary(labels, scores, weights)
    _refuse_outside(s)
    return (
        y,
        np.asarray(s, dtype=np.float64),
        np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64),
    )
