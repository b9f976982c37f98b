"""What the training jets weigh: factors by class, and the mean weight that the loss is normalised by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepml.errors import ConfigError, DataError, did_you_mean

_LEAST_SUM = 0.01  # of the weights, in parts of the sum of their absolute values


def class_scale(
    dataset: Any, names: Sequence[str], balance: str | Mapping[str, float] | None = None
) -> Tensor | None:
    """Factors on the weights of each class, [C] or None: they bring its mean weight to one, so that
    cross-sections do not decide between classes, and then the sums of classes to what is asked for.

    Args:
        dataset: the training jets.
        names: of the classes.
        balance: `equal`, or class -> its share of the sum of weights, in any unit.

    Raises:
        ConfigError: `balance` names other classes than these.
    """
    classes = len(names)
    weights, labels = dataset.weights, dataset.labels
    shares = _shares(balance, names)
    if labels is None or (weights is None and shares is None):
        return None
    y = np.asarray(labels)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    w, y = w[y >= 0], y[y >= 0]  # jets that a teacher labels have no class
    totals = np.bincount(y, weights=w, minlength=classes)
    counts = np.bincount(y, minlength=classes)
    sizes = np.bincount(y, weights=np.abs(w), minlength=classes)
    for c in np.flatnonzero(counts > 0):
        _refuse_vanishing(totals[c], sizes[c], f"of class {c}")
    scale = np.divide(counts, totals, out=np.ones(classes), where=totals > 0)
    if shares is not None:
        there = counts > 0
        shares = shares * there / (shares * there).sum()
        scale *= np.divide(shares * counts.sum(), counts, out=np.ones(classes), where=there)
    return torch.from_numpy(scale).float()


def _shares(balance: str | Mapping[str, float] | None, names: Sequence[str]) -> np.ndarray | None:
    if balance is None:
        return None
    if balance == "equal":
        return np.ones(len(names))
    assert isinstance(balance, Mapping)
    for name in balance:
        if name not in names:
            raise ConfigError(
                f"no class '{name}'", where="data.class_weights", mend=did_you_mean(str(name), names)
            )
    absent = [name for name in names if name not in balance]
    if absent:
        raise ConfigError(
            f"no weight of class {', '.join(absent)}", where="data.class_weights", mend="name every class"
        )
    return np.array([balance[name] for name in names])


def mean_weight(dataset: Any, scale: Tensor | None) -> float:
    """The mean weight of a training jet, class factors included: what the loss is normalised by. A batch's
    own sum of weights would not do, since negative weights bring it near zero; 1 without weights."""
    if dataset.weights is None and scale is None:
        return 1.0
    own = dataset.weights
    w = np.ones(len(dataset.labels)) if own is None else np.asarray(own, dtype=np.float64)
    if scale is not None and dataset.labels is not None:
        y = np.asarray(dataset.labels)
        w = w * np.where(y >= 0, scale.double().numpy()[y.clip(0)], 1.0)  # jets without a label: as they are
    _refuse_vanishing(w.sum(), np.abs(w).sum(), "of the training jets")
    return float(w.mean())


def _refuse_vanishing(total: float, size: float, whose: str) -> None:
    """Refuses weights whose sum is lost among its own terms: nothing can be learnt of a sample of no size.

    Raises:
        DataError: says how far the weights cancel.
    """
    if not total > _LEAST_SUM * size:
        raise DataError(
            f"the weights {whose} add up to {total:.3g}, their absolute values to {size:.3g}: they cancel",
            mend="add jets of positive weight; data.weights=false trains without weights",
        )
