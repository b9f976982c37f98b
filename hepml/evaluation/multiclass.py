"""Figures for more than two classes: one-vs-rest and one-vs-one AUC, the confusion matrix, and JetClass's
rejections.

Papers call different things "AUC" once there are more than two classes. Here each has its own name. JetClass
(arXiv:2202.03772) quotes the one-vs-one macro average, and for each class X the rejection of QCD by the score
s_X / (s_X + s_QCD), on jets of X and QCD only, at a signal efficiency of 50 %, but 99 % for H→qql and 99.5 %
for t→blν.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import ConfigError, DataError, did_you_mean
from hepml.evaluation.checks import check_binary, check_multiclass
from hepml.evaluation.roc import auc

JETCLASS_SIGNAL_EFFICIENCY = {"Hqql": 0.99, "Tbl": 0.995}
JETCLASS_DEFAULT = 0.5
_JETCLASS_SIGNALS = frozenset({"Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"})


GROUP = " + "
Which = str | int | Sequence[str | int]


def discriminant(
    scores: ArrayLike, signal: int | Sequence[int], background: int | Sequence[int]
) -> NDArray[np.float64]:
    """s_S / (s_S + s_B) for each jet, [N], from class scores [N, C], with the sums over the classes of signal
    and of background; the likelihood ratio of the two for calibrated scores.

    A jet to which all of these classes give exactly zero gets 0: nothing speaks for the signal.

    Examples:
        >>> hepml.evaluation.discriminant([[0.2, 0.6, 0.2]], signal=1, background=0).round(2).tolist()
        [0.75]
    """
    p = np.asarray(scores)
    wanted = p[:, np.atleast_1d(signal)].sum(axis=1, dtype=np.float64)
    against = p[:, np.atleast_1d(background)].sum(axis=1, dtype=np.float64)
    total = wanted + against
    out: NDArray[np.float64] = np.divide(wanted, total, out=np.zeros_like(total), where=total > 0)
    return out


def signal_against_background(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str] | None = None,
    signal: Which = 1,
    background: Which = 0,
) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64] | None]:
    """The two-class problem inside scores of any number of classes, as `evaluate` poses it: (is signal,
    signal score, weights).

    Scores [N] come back as they are, they belong to the signal class; of [N, 2] comes the signal's column, of
    [N, C] the discriminant s_S / (s_S + s_B) on jets of these classes alone; signal and background may be
    several classes each.

    Raises:
        DataError: as `evaluate`.
        ConfigError: no class of that name.
    """
    p = np.asarray(scores)
    if p.ndim == 1 or p.shape[1] < 3:
        names = [str(c) for c in classes] if classes is not None else ["0", "1"]
        chosen = class_indices(signal, names)[0]
        is_one, s, w = check_binary(labels, p[:, chosen] if p.ndim == 2 and p.shape[1] == 2 else p, weights)
        return is_one == bool(chosen), s, w
    y, p, w = check_multiclass(labels, p, weights)
    names = [str(c) for c in classes] if classes is not None else [str(i) for i in range(p.shape[1])]
    a, b = class_indices(signal, names), class_indices(background, names)
    both = np.flatnonzero(np.isin(y, [*a, *b]))
    return np.isin(y[both], a), discriminant(p[both], a, b), None if w is None else w[both]


def one_vs_rest_auc(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> dict[int, float]:
    """AUC of each class against all others together, by its own score: {class index: AUC} for the classes
    present.

    Args:
        labels: class indices [N].
        scores: class probabilities [N, C].
        weights: one a jet [N].

    Raises:
        DataError: as `hepml.evaluation.checks.check_multiclass`.

    Examples:
        >>> p = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]
        >>> hepml.evaluation.one_vs_rest_auc([0, 1, 2], p)
        {0: 1.0, 1: 1.0, 2: 1.0}
    """
    y, p, w = check_multiclass(labels, scores, weights)
    return {int(k): auc(y == k, p[:, k], w) for k in np.unique(y)}


def one_vs_one_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Macro average over pairs of classes of the AUC within the pair (Hand and Till, Machine Learning 45
    (2001) 171).

    For a pair (a, b), on jets of a and b only, the mean of the AUC of a by s_a and of b by s_b: what
    scikit-learn gives with `multi_class="ovo", average="macro"`, and what JetClass papers call AUC. Classes
    without jets are left out. Arguments as in `one_vs_rest_auc`.

    Examples:
        >>> p = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]
        >>> hepml.evaluation.one_vs_one_auc([0, 1, 2], p)
        1.0
    """
    y, p, w = check_multiclass(labels, scores, weights)
    rows = {int(k): np.flatnonzero(y == k) for k in np.unique(y)}
    values = []
    for a, b in combinations(rows, 2):
        both = np.concatenate((rows[a], rows[b]))
        is_a = np.arange(len(both)) < len(rows[a])
        pair_weights = None if w is None else w[both]
        values.append(auc(is_a, p[both, a], pair_weights))
        values.append(auc(~is_a, p[both, b], pair_weights))
    return float(np.mean(values))


def confusion_matrix(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, normalise: bool = True
) -> NDArray[np.float64]:
    """Sum of weights of jets of class i (row) whose highest score is class j (column), [C, C]; each row as
    shares of 1 if `normalise`.

    The row of a class without jets is zero.

    Examples:
        >>> p = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2]]
        >>> hepml.evaluation.confusion_matrix([0, 1, 2], p).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    y, p, w = check_multiclass(labels, scores, weights)
    classes = p.shape[1]
    counts = np.bincount(y * classes + p.argmax(axis=1), weights=w, minlength=classes**2).astype(np.float64)
    matrix = counts.reshape(classes, classes)
    if normalise:
        totals = matrix.sum(axis=1, keepdims=True)
        matrix = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals != 0)
    return matrix


def bare_name(name: str) -> str:
    """`label_Hbb` → `Hbb`: the class's own name, whatever the branch is called."""
    return name.removeprefix("label_")


def background_class(classes: Sequence[str]) -> int:
    """Index of the class that rejections are taken against: the one called QCD or background, otherwise the
    first."""
    lowered = [bare_name(name).lower() for name in classes]
    return next((lowered.index(name) for name in ("qcd", "background", "bkg") if name in lowered), 0)


def working_points(name: str, signal_efficiencies: Sequence[float], classes: Sequence[str]) -> list[float]:
    """Signal efficiencies at which a class is quoted: JetClass's own for its classes against QCD, otherwise
    those asked for."""
    if bare_name(name) in _JETCLASS_SIGNALS and "QCD" in {bare_name(c) for c in classes}:
        return [JETCLASS_SIGNAL_EFFICIENCY.get(bare_name(name), JETCLASS_DEFAULT)]
    return list(signal_efficiencies)


def class_indices(which: Which, classes: Sequence[str]) -> list[int]:
    """Indices of one class or of several, given by name or index, in order and each once.

    Raises:
        ConfigError, DataError: as `class_index`.
    """
    words = [which] if isinstance(which, str | int) else list(which)
    return list(dict.fromkeys(class_index(word, classes) for word in words))


def group_name(indices: Sequence[int], classes: Sequence[str]) -> str:
    """The classes of a group in words, as `c + uds + g`."""
    return GROUP.join(classes[i] for i in indices)


def group_members(name: str) -> list[str | int]:
    """The classes that `group_name` named."""
    return list(name.split(GROUP))


def class_index(which: str | int, classes: Sequence[str]) -> int:
    """Index of a class given by name (with or without `label_`) or index.

    Raises:
        ConfigError: no such class.
        DataError: an index outside the classes.
    """
    if isinstance(which, str):
        bare = [bare_name(name) for name in classes]
        if which in classes:
            return list(classes).index(which)
        if bare_name(which) in bare:
            return bare.index(bare_name(which))
        raise ConfigError(f"there is no class '{which}'", mend=did_you_mean(which, classes, noun="classes"))
    if not 0 <= which < len(classes):
        raise DataError(
            f"class {which} is outside 0 … {len(classes) - 1}", mend="classes are numbered from 0"
        )
    return int(which)
