"""What labels, scores and weights must be before a figure is computed from them.

A metric of NaN scores, of one class alone or of arrays that do not belong together is a number without
meaning, so each of these is refused here, with how many jets are affected and which is the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError

_LEAST = 1e-4  # of a sum of weights, in parts of the sum of their absolute values


def as_array(values: Any, name: str) -> NDArray[Any]:
    """A NumPy array from a list, an array, an awkward array or a torch tensor on any device.

    Raises:
        DataError: not numeric, or ragged.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} are ragged", mend="give one row a jet, all of one length") from error
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} are {array.dtype}, not numbers", mend=f"give {name} as integers or floats")
    return array


def finite(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array, if no entry is NaN or infinite.

    Raises:
        DataError: with how many jets are affected and the index of the first.
    """
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            rows = np.flatnonzero(bad.any(axis=1) if bad.ndim > 1 else bad)
            raise DataError(
                f"{len(rows)} of {len(array)} {name} are NaN or infinite, the first is of jet {rows[0]}",
                mend="look at that jet with hepml inspect, or drop these jets before evaluating",
            )
    return array


def same_length(first: NDArray[Any], second: NDArray[Any], names: tuple[str, str]) -> None:
    """Refuses arrays of different numbers of jets."""
    if len(first) != len(second):
        raise DataError(
            f"{len(first)} {names[0]} but {len(second)} {names[1]}", mend="give one of each a jet"
        )


def check_weights(weights: ArrayLike | None, jets: int) -> NDArray[np.float64] | None:
    """Weights as float64 [N], or None where none were given. Negative weights pass: generators make them.

    Raises:
        DataError: wrong length, or not finite.
    """
    if weights is None:
        return None
    array = finite(as_array(weights, "weights"), "weights")
    if array.shape != (jets,):
        raise DataError(
            f"weights have shape {list(array.shape)}, there are {jets} jets", mend="give one weight a jet"
        )
    return array.astype(np.float64, copy=False)


def adds_up(weights: NDArray[np.float64]) -> bool:
    """Whether a sum of weights is more than its own scatter: W > 0 and W^2 >= sum w^2, as always for positive
    weights. A share of what cancels to less is no share."""
    total = float(weights.sum())
    return total > 0 and total**2 >= (1 - 1e-9) * float(weights @ weights)


def refuse_cancelling(weights: NDArray[np.float64], whose: str) -> None:
    """Refuses weights that cancel to nothing; where they nearly do, the errors of what is computed say so.

    Raises:
        DataError: with their sum and its scatter.
    """
    if not weights.sum() > _LEAST * np.abs(weights).sum():
        raise DataError(
            f"the weights{f' of {whose}' if whose else ''} sum to {weights.sum():g} ± "
            f"{np.sqrt(weights @ weights):.3g}",
            mend="shares and means need a positive sum of weights: add jets, or leave weights out",
        )


def check_binary(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64] | None]:
    """Labels as booleans [N] (true: signal), finite scores [N] (higher: more signal-like) and weights [N] or
    None.

    Raises:
        DataError: lengths differ, labels other than 0 and 1, one class only, NaN or infinite scores, a class
            whose weights do not sum to something positive.
    """
    y = as_array(labels, "labels")
    s = as_array(scores, "scores")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if s.ndim == 2 and s.shape[1] == 1:
        s = s[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"labels have shape {list(y.shape)}",
            mend="give one class index a jet (one-hot: labels.argmax(axis=1))",
        )
    if s.ndim != 1:
        raise DataError(
            f"scores have shape {list(s.shape)}", mend="give one signal score a jet, or use hepml.evaluate"
        )
    same_length(y, s, ("labels", "scores"))
    if len(y) == 0:
        raise DataError("there are no jets to evaluate", mend="check the file and its selection")
    signal = y.astype(np.bool_) if y.dtype.kind == "b" else y == 1
    other = np.flatnonzero(~(signal | (y == 0)))
    if len(other):
        raise DataError(
            f"{len(other)} of {len(y)} labels are neither 0 nor 1, the first is {y[other[0]]} of jet "
            f"{other[0]}",
            mend="1 is signal, 0 background; for more classes give scores [N, C] to hepml.evaluate",
        )
    finite(s, "scores")
    w = check_weights(weights, len(y))
    for kind, selected in (("signal", signal), ("background", ~signal)):
        count = int(np.count_nonzero(selected))
        if count == 0:
            other_kind = "background" if kind == "signal" else "signal"
            raise DataError(
                f"all {len(y)} jets are {other_kind}, one class only",
                mend=f"add {kind} jets: a ROC needs both classes",
            )
        if w is not None:
            refuse_cancelling(w[selected], f"the {count} {kind} jets")
    if s.dtype.kind in "bu" or s.dtype == np.float16:
        s = s.astype(np.float64)
    return signal, s, w


def check_multiclass(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64] | None]:
    """Labels as class indices [N], finite non-negative scores [N, C] and weights [N] or None.

    Raises:
        DataError: lengths differ, labels outside 0 … C-1 or not integers, fewer than two classes present,
            NaN, infinite or negative scores.
    """
    y = as_array(labels, "labels")
    p = as_array(scores, "scores")
    if p.ndim != 2 or p.shape[1] < 2:
        raise DataError(f"scores have shape {list(p.shape)}", mend="give [jets, classes] probabilities")
    if y.ndim != 1:
        raise DataError(
            f"labels have shape {list(y.shape)}",
            mend="give one class index a jet (one-hot: labels.argmax(axis=1))",
        )
    same_length(y, p, ("labels", "scores"))
    if len(y) == 0:
        raise DataError("there are no jets to evaluate", mend="check the file and its selection")
    finite(y, "labels")
    other = np.flatnonzero((y != np.floor(y)) if y.dtype.kind == "f" else np.zeros(len(y), bool))
    if not len(other):
        other = np.flatnonzero((y < 0) | (y >= p.shape[1]))
    if len(other):
        raise DataError(
            f"{len(other)} of {len(y)} labels are not a class index 0 … {p.shape[1] - 1}, "
            f"the first is {y[other[0]]} of jet {other[0]}",
            mend="labels number the columns of the scores",
        )
    finite(p, "scores")
    negative = np.flatnonzero((p < 0).any(axis=1))
    if len(negative):
        raise DataError(
            f"{len(negative)} of {len(p)} jets have negative class scores, the first is jet {negative[0]}",
            mend="give probabilities: apply a softmax to logits",
        )
    w = check_weights(weights, len(y))
    indices = y.astype(np.int64)
    present = np.bincount(indices, minlength=p.shape[1]) > 0
    if present.sum() < 2:
        raise DataError(
            f"all {len(y)} jets are of class {indices[0]}, one class only", mend="a ROC needs two classes"
        )
    if w is not None:
        for k in np.flatnonzero(present):
            refuse_cancelling(w[indices == k], f"class {k}")
    return indices, p, w
