"""Whether two taggers differ on the same jets: paired tests of accuracy, AUC and background rejection.

Two taggers that are tested on the same jets make many of the same mistakes, so that the errors of their two
figures say little about their difference. Each test here takes the jets' correlation into account:

- accuracy: McNemar's test (Psychometrika 12 (1947) 153), exact, on the jets that one tagger has right and
  the other wrong; with weights the weighted mean of the differences against its own error;
- AUC: the covariance of DeLong, DeLong and Clarke-Pearson (Biometrics 44 (1988) 837);
- rejection at a signal efficiency: the logarithm of the ratio, with the error that follows from each jet's
  influence on eps_B: directly for background jets, by moving the cut for signal jets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import check_binary, check_weights, refuse_cancelling
from hepml.evaluation.rejection import rejection_of
from hepml.evaluation.roc import make_cuts

Floats = NDArray[np.float64]


class Paired(NamedTuple):
    """A difference of two figures on the same jets.

    Attributes:
        difference: first minus second; of rejections, the logarithm of first over second.
        error: its standard error; None where it is not known.
        p_value: probability of a difference at least as large where there is none, two-sided; None where it
            is not known.
    """

    difference: float
    error: float | None
    p_value: float | None


def compare_accuracy(first: ArrayLike, second: ArrayLike, weights: ArrayLike | None = None) -> Paired:
    """The difference in the share of jets that are classified rightly.

    Args:
        first, second: whether each tagger has the jet right, [N].
        weights: one a jet, [N].
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    difference = a.astype(np.float64) - b.astype(np.float64)
    if weights is None:
        only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
        mean = (only_first - only_second) / len(a)
        error = math.sqrt(max((only_first + only_second) / len(a) - mean**2, 0.0) / len(a))
        return Paired(mean, error, mcnemar(only_first, only_second))
    w = check_weights(weights, len(a))
    assert w is not None
    refuse_cancelling(w, f"the {len(a)} jets")
    mean = float(w @ difference / w.sum())
    error = math.sqrt(float(w**2 @ (difference - mean) ** 2)) / abs(float(w.sum()))
    return Paired(mean, error, _two_sided(mean, error))


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact p-value: that of so uneven a split of the jets on which the taggers disagree, if each
    were as likely to be right."""
    total, least = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0
    k = np.arange(least + 1)
    steps = np.log((total - k[:-1]) / (k[:-1] + 1))  # of the logarithm of the binomial coefficient
    terms = np.concatenate([[0.0], np.cumsum(steps)]) - total * math.log(2)
    return min(1.0, 2 * float(np.exp(terms).sum()))


def compare_auc(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, weights: ArrayLike | None = None
) -> Paired:
    """The difference of two AUCs on the same jets, with DeLong's covariance.

    Args:
        labels: 1 for signal, [N].
        first, second: scores of the two taggers, [N].
        weights: one a jet, of any sign, [N].
    """
    signal, a, w = check_binary(labels, first, weights)
    _, b, _ = check_binary(labels, second, weights)
    w = np.ones(len(a)) if w is None else w
    placed = _placements(signal, a, w) - _placements(signal, b, w)
    difference = float(w[signal] @ placed[signal] / w[signal].sum())
    return _normal(difference, _variance(placed, signal, w, difference))


def compare_rejection(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    signal_efficiency: float,
    weights: ArrayLike | None = None,
) -> Paired:
    """The logarithm of the ratio of two background rejections on the same jets; unknown where no background
    passes either cut. Arguments as in `compare_auc`."""
    signal, a, w = check_binary(labels, first, weights)
    _, b, _ = check_binary(labels, second, weights)
    w = np.ones(len(a)) if w is None else w
    one, other = (_influence(signal, s, w, signal_efficiency) for s in (a, b))
    if one is None or other is None:
        return Paired(math.nan, None, None)
    difference = math.log(other[0] / one[0])
    effect = other[1] / other[0] - one[1] / one[0]
    return _normal(difference, _variance(effect, signal, w, 0.0))


def compare(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    thresholds: tuple[float, float] = (0.5, 0.5),
    signal_efficiencies: Sequence[float] = (0.3, 0.5),
) -> dict[str, Any]:
    """All paired tests of two taggers, JSON-ready: {"accuracy", "auc", "rejection": {"0.3": …}}, each
    {"difference", "error", "p_value"}; of rejections also the `ratio`, first over second.

    Args:
        labels: 1 for signal, [N].
        first, second: scores of the two taggers, [N].
        weights: one a jet, of any sign, [N].
        thresholds: the two cuts of the accuracy.
        signal_efficiencies: working points.

    Raises:
        DataError: as `evaluate`.
    """
    signal, a, w = check_binary(labels, first, weights)
    _, b, _ = check_binary(labels, second, weights)
    right = [(s > cut) == signal for s, cut in zip((a, b), thresholds, strict=True)]
    tests: dict[str, Any] = {
        "accuracy": compare_accuracy(right[0], right[1], w)._asdict(),
        "auc": compare_auc(signal, a, b, w)._asdict(),
        "rejection": {},
    }
    for point in signal_efficiencies:
        paired = compare_rejection(signal, a, b, point, w)
        ratio = None if math.isnan(paired.difference) else math.exp(paired.difference)
        difference = None if ratio is None else paired.difference
        tests["rejection"][f"{point:g}"] = {**paired._asdict(), "difference": difference, "ratio": ratio}
    return tests


def same_jets(*labels: ArrayLike) -> None:
    """Raises DataError where these are not the labels of the same jets."""
    arrays = [np.asarray(given) for given in labels]
    if any(not np.array_equal(arrays[0], other) for other in arrays[1:]):
        raise DataError("the taggers were tested on different jets", mend="score the same files with both")


# ------------------------------------------------------------------------------------------------------------
# helpers


def _placements(signal: NDArray[np.bool_], scores: Floats, w: Floats) -> Floats:
    """For each signal jet the share of background that it beats; for each background jet the share of signal
    that beats it."""
    placed = np.empty(len(scores))
    for of, against, higher in ((signal, ~signal, True), (~signal, signal, False)):
        order = np.argsort(scores[against], kind="stable")
        ranked = scores[against][order]
        below = np.concatenate([[0.0], np.cumsum(w[against][order])])
        left = below[np.searchsorted(ranked, scores[of], side="left")]
        right = below[np.searchsorted(ranked, scores[of], side="right")]
        share = (left + right) / 2 / below[-1]
        placed[of] = share if higher else 1 - share
    return placed


def _influence(
    signal: NDArray[np.bool_], scores: Floats, w: Floats, signal_efficiency: float
) -> tuple[float, Floats] | None:
    """eps_B at the working point, and each jet's influence on it; None where no background passes."""
    cuts = make_cuts(signal, scores, w)
    rejection = rejection_of(cuts, signal_efficiency)
    if rejection.lower_limit:
        return None
    passes = scores >= rejection.threshold
    eps_b, eps_s = 1 / rejection.value, rejection.signal_efficiency
    # the slope of the ROC there, over the width that the signal sample leaves open
    ws = w[signal]
    width = math.sqrt(float(ws**2 @ (passes[signal] - eps_s) ** 2)) / abs(float(ws.sum()))
    s, b = cuts.signal / cuts.signal[-1], cuts.background / cuts.background[-1]
    low, high = (
        float(b[min(np.searchsorted(s, point), len(s) - 1)]) for point in (eps_s - width, eps_s + width)
    )
    slope = (high - low) / (2 * width) if width > 0 else 0.0
    return eps_b, np.where(signal, -slope * (passes - eps_s), passes - eps_b)


def _variance(values: Floats, signal: NDArray[np.bool_], w: Floats, centre: float) -> float:
    """Variance of the sum of the means over signal and over background."""
    total = 0.0
    for part in (signal, ~signal):
        own, weight = values[part], w[part]
        mean = float(weight @ own / weight.sum()) if centre == 0.0 else centre
        effective = float(weight.sum()) ** 2 / float(weight @ weight)
        correction = effective / (effective - 1) if effective > 1 else 1.0
        total += correction * float(weight**2 @ (own - mean) ** 2) / float(weight.sum()) ** 2
    return total


def _normal(difference: float, variance: float) -> Paired:
    error = math.sqrt(max(variance, 0.0))
    return Paired(difference, error, _two_sided(difference, error))


def _two_sided(difference: float, error: float) -> float:
    if error == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))
