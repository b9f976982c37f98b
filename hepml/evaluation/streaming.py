"""ROC figures in bounded memory: counts in bins of the score, for samples that do not fit and for adding up
what several processes saw.

Binning is nothing but making near scores equal, and ties are handled exactly, so the same formulas apply to
the bins; `auc_uncertainty` bounds what the binning can have changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import as_array, check_weights, finite, same_length
from hepml.evaluation.rejection import Rejection, rejection_of
from hepml.evaluation.roc import Cuts, RocCurve, auc_with_error_of, curve_of


class StreamingRoc:
    """Accumulates labels and probabilities batch by batch; `+` joins what several processes saw.

    Bins are equal in the log-odds ln(p / (1 - p)) between ±`reach`, because the working points of a good
    tagger lie where p is within 1e-3 of 1 and bins in p itself would merge them.

    Args:
        bins: number of bins; 32 bytes each.
        reach: largest |log-odds|; scores beyond share the outermost bins.

    Examples:
        >>> roc = hepml.evaluation.StreamingRoc()
        >>> for _ in range(3):
        ...     roc.update([0, 1], [0.2, 0.8])
        >>> round(roc.auc()[0], 3)
        1.0
    """

    def __init__(self, bins: int = 65_536, reach: float = 20.0) -> None:
        self.bins, self.reach = bins, reach
        self._sums = np.zeros((4, bins))  # weights of signal and background, squares of each

    def update(self, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> None:
        """Adds jets: labels 0 or 1 [N], signal probabilities in [0, 1] [N], weights [N].

        Raises:
            DataError: wrong lengths, other labels, or scores that are no probabilities.
        """
        y, s = as_array(labels, "labels"), finite(as_array(scores, "scores"), "scores").astype(np.float64)
        same_length(y, s, ("labels", "scores"))
        w = check_weights(weights, len(y))
        if not np.isin(y, (0, 1)).all():
            raise DataError("labels are neither 0 nor 1", mend="1 is signal, 0 background")
        if len(s) and (s.min() < 0 or s.max() > 1):
            raise DataError("scores leave [0, 1]", mend="give probabilities to a streaming ROC")
        with np.errstate(divide="ignore"):
            odds = np.clip(np.log(s) - np.log1p(-s), -self.reach, self.reach)
        index = np.minimum(
            ((odds + self.reach) * (self.bins / (2 * self.reach))).astype(np.int64), self.bins - 1
        )
        for row, selected in ((0, y == 1), (1, y == 0)):
            at, picked = index[selected], None if w is None else w[selected]
            self._sums[row] += np.bincount(at, picked, minlength=self.bins)
            self._sums[row + 2] += np.bincount(at, None if picked is None else picked**2, minlength=self.bins)

    def __add__(self, other: StreamingRoc) -> StreamingRoc:
        if (self.bins, self.reach) != (other.bins, other.reach):
            raise DataError("streaming ROCs have different bins", mend="make both with the same arguments")
        joined = StreamingRoc(self.bins, self.reach)
        joined._sums = self._sums + other._sums
        return joined

    def curve(self) -> RocCurve:
        """The binned ROC; its thresholds are the lower edges of the bins, as probabilities."""
        return curve_of(self._cuts())

    def auc(self) -> tuple[float, float]:
        """AUC and its statistical error."""
        return auc_with_error_of(self._cuts())

    def auc_uncertainty(self) -> float:
        """Largest change that the binning can have made to the AUC (weights of one sign): half the pairs that
        share a bin."""
        cuts = self._cuts()
        signal, background = self._sums[0], self._sums[1]
        return 0.5 * float(np.abs(signal) @ np.abs(background)) / float(cuts.signal[-1] * cuts.background[-1])

    def background_rejection(self, signal_efficiency: float = 0.3) -> Rejection:
        """1/eps_B of the tightest bin edge whose signal efficiency is at least the one asked for."""
        return rejection_of(self._cuts(), signal_efficiency)

    def _cuts(self) -> Cuts:
        filled = np.flatnonzero(self._sums.any(axis=0))[::-1]
        sums: NDArray[np.float64] = np.cumsum(self._sums[:, filled], axis=1)
        for row, kind in ((0, "signal"), (1, "background")):
            if not len(filled) or not sums[row + 2, -1] > 0:
                raise DataError(f"no {kind} jets so far, one class only", mend="a ROC needs both classes")
            if not sums[row, -1] > 1e-4 * np.abs(self._sums[row]).sum():
                raise DataError(
                    f"the weights of the {kind} jets sum to {sums[row, -1]:g} ± "
                    f"{sums[row + 2, -1] ** 0.5:.3g}",
                    mend="shares and means need a positive sum of weights",
                )
        odds = filled * (2 * self.reach / self.bins) - self.reach
        return Cuts(1 / (1 + np.exp(-odds)), sums[0], sums[1], sums[2], sums[3])
