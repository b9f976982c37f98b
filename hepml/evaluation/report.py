"""`evaluate`: every figure of a tagger as one JSON-ready dictionary, the same shape in summaries, `--json`
output and MLflow.

Two classes give accuracy, AUC and rejections with their uncertainties. More classes give the same keys (so
that readers need one rule), with the AUC as one-vs-one macro average and the rejections those of one signal
class, and a table of all classes under `classes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import as_array, check_binary, check_multiclass
from hepml.evaluation.multiclass import (
    Which,
    background_class,
    class_indices,
    confusion_matrix,
    group_name,
    one_vs_one_auc,
    signal_against_background,
    working_points,
)
from hepml.evaluation.rejection import Rejection, rejection_of
from hepml.evaluation.roc import auc, auc_with_error_of, make_cuts, weighted_share


def evaluate(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str] | None = None,
    signal: Which | None = None,
    background: Which | None = None,
    signal_efficiencies: Sequence[float] = (0.3, 0.5),
) -> dict[str, Any]:
    """Accuracy, AUC and background rejection of a tagger, with statistical uncertainties.

    Two classes: `accuracy` counts `score > 0.5`; where scores leave [0, 1] they are taken for log-odds
    and cut at 0 (`accuracy_threshold` says which). More classes: `accuracy` counts the highest score,
    `auc` is the one-vs-one macro average (`auc_error` is None), `rejection` is that of class `signal`
    against class `background` with the score s_S / (s_S + s_B), and `classes` holds, for each class
    present, jets, recall as `accuracy`, `auc_one_vs_rest`, and `rejection` against the background, for
    JetClass's classes at JetClass's working points.

    Args:
        labels: class index of each jet, [N]; for two classes 1 is signal.
        scores: signal score [N], or class probabilities [N, C].
        weights: one a jet, of any sign, [N].
        classes: names of the C classes in the order of the labels.
        signal: name or index of the signal class, or several; default 1 for two classes, otherwise the first
            that is not the background.
        background: name or index of the class that is rejected, or several; default the one called QCD or
            background, otherwise 0.
        signal_efficiencies: working points, in (0, 1].

    Returns:
        {"jets", "weighted" (whether weights counted), "accuracy", "accuracy_error", "auc", "auc_error",
        "rejection": {"0.3": {"value", "error", "signal_efficiency"}, …}, …}. Where no background passes, a
        rejection has "lower_limit": True, the value is a lower limit at 90 % confidence and the error None.

    Raises:
        DataError: wrong lengths or labels, one class only, NaN or infinite scores.
        ConfigError: no class of that name.

    Examples:
        >>> report = hepml.evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> report["auc"], report["weighted"]
        (0.75, False)
    """
    p = as_array(scores, "scores")
    if p.ndim == 2 and p.shape[1] > 2:
        return _multiclass(labels, p, weights, classes, signal, background, signal_efficiencies)
    names = [str(c) for c in classes] if classes is not None else ["0", "1"]
    if len(names) != 2:
        raise DataError(f"{len(names)} class names for two classes", mend="give one name a class")
    chosen = 1 if signal is None else class_indices(signal, names)[0]
    if background is not None and chosen in class_indices(background, names):
        raise DataError(f"class {names[chosen]} is both signal and background", mend="name two classes")
    if p.ndim == 2 and p.shape[1] == 2:
        y, p, _ = check_multiclass(labels, p, weights)
        report = _binary(y == chosen, p[:, chosen], weights, signal_efficiencies)
    else:
        y = as_array(labels, "labels")
        report = _binary(1 - y if chosen == 0 and y.dtype.kind != "b" else y, p, weights, signal_efficiencies)
    if classes is not None:
        report |= {"signal": names[chosen], "background": names[1 - chosen]}
    return report


def rejection_entry(rejection: Rejection) -> dict[str, Any]:
    """One entry of a report's `rejection`."""
    entry: dict[str, Any] = {
        "value": rejection.value,
        "error": rejection.error,
        "signal_efficiency": rejection.signal_efficiency,
        "threshold": rejection.threshold,
    }
    return entry | {"lower_limit": True} if rejection.lower_limit else entry


def _binary(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, signal_efficiencies: Sequence[float]
) -> dict[str, Any]:
    y, s, w = check_binary(labels, scores, weights)
    threshold = 0.5 if s.min() >= 0 and s.max() <= 1 else 0.0
    share, share_error = weighted_share((s > threshold) == y, w)
    cuts = make_cuts(y, s, w)
    area, area_error = auc_with_error_of(cuts)
    return {
        "jets": len(y),
        "signal_jets": int(np.count_nonzero(y)),
        "background_jets": int(np.count_nonzero(~y)),
        "weighted": w is not None,
        "accuracy": share,
        "accuracy_error": share_error,
        "accuracy_threshold": threshold,
        "auc": area,
        "auc_error": area_error,
        "rejection": {f"{e:g}": rejection_entry(rejection_of(cuts, e)) for e in signal_efficiencies},
    }


def _multiclass(
    labels: ArrayLike,
    scores: NDArray[Any],
    weights: ArrayLike | None,
    classes: Sequence[str] | None,
    signal: Which | None,
    background: Which | None,
    signal_efficiencies: Sequence[float],
) -> dict[str, Any]:
    y, p, w = check_multiclass(labels, scores, weights)
    names = [str(c) for c in classes] if classes is not None else [str(i) for i in range(p.shape[1])]
    if len(names) != p.shape[1]:
        raise DataError(
            f"{len(names)} class names for scores of {p.shape[1]} classes", mend="give one name a class"
        )
    present = [int(k) for k in np.unique(y)]
    against = [background_class(names)] if background is None else class_indices(background, names)
    rest = [k for k in present if k not in against]
    chosen = (rest[:1] or against[:1]) if signal is None else class_indices(signal, names)
    if twice := [names[k] for k in chosen if k in against]:
        raise DataError(f"class {twice[0]} is both signal and background", mend="name two classes")

    share, share_error = weighted_share(p.argmax(axis=1) == y, w)
    matrix = confusion_matrix(y, p, w)
    report: dict[str, Any] = {
        "jets": len(y),
        "weighted": w is not None,
        "accuracy": share,
        "accuracy_error": share_error,
        "auc": one_vs_one_auc(y, p, w),
        "auc_error": None,
        "auc_kind": "one-vs-one macro average",
        "signal": group_name(chosen, names),
        "background": group_name(against, names),
        "rejection": _rejections(y, p, w, chosen, against, signal_efficiencies),
    }
    table: dict[str, Any] = {}
    for k in present:
        table[names[k]] = {
            "jets": int(np.count_nonzero(y == k)),
            "accuracy": float(matrix[k, k]),
            "auc_one_vs_rest": auc(y == k, p[:, k], w),
        }
        if k not in against:
            points = working_points(names[k], signal_efficiencies, names)
            table[names[k]]["rejection"] = _rejections(y, p, w, [k], against, points)
        elif len(against) > 1:  # how well the signal is told from this part of the background
            table[names[k]]["rejection"] = _rejections(y, p, w, chosen, [k], signal_efficiencies)
    report["auc_one_vs_rest"] = float(np.mean([row["auc_one_vs_rest"] for row in table.values()]))
    report["classes"] = table
    absent = [name for k, name in enumerate(names) if k not in present]
    if absent:
        report["absent_classes"] = absent
    return report


def _rejections(
    y: NDArray[np.int64],
    p: NDArray[Any],
    w: NDArray[np.float64] | None,
    signal: Sequence[int],
    background: Sequence[int],
    signal_efficiencies: Sequence[float],
) -> dict[str, Any]:
    """Rejection of a group of classes by another on jets of these; empty where either has no jets."""
    is_signal, s, pair_weights = signal_against_background(y, p, w, signal=signal, background=background)
    if not is_signal.any() or is_signal.all():
        return {}
    cuts = make_cuts(is_signal, s, pair_weights)
    return {f"{e:g}": rejection_entry(rejection_of(cuts, e)) for e in signal_efficiencies}
