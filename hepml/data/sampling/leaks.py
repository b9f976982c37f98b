"""Columns that alone tell a class: truth that slipped among what a network may see.

Truth is told by more than a threshold: a flavour of -5 to 21 is of a class at neither end, and a number that
only one class has is NaN for the others. So two measures are taken, the AUC of the column itself, and that of
the share of a class in each of its values (or of 64 ranges; NaN is a value too), learnt from one half of the
jets and measured on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepml.data.batch import JetBatch
from hepml.data.features import FEATURES, RAW, RAW_COLUMNS
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED
from hepml.data.reading.chunk import Chunk

LIMIT = 0.99
CORRELATED = 0.999  # an input that is the target
RANGES = 64  # into which a column of many values is cut
_FEW, _ENOUGH = 5, 20  # jets on either side that an AUC, and one learnt from half of them, needs


def leaks(
    columns: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Every single column whose AUC for one class against the rest is above `LIMIT` (or below 1 - `LIMIT`).

    Args:
        columns: jet columns [N].
        labels: [N] class of each jet, negative for none.
        classes: their names.

    Returns:
        `{"column", "class", "auc"}`, the strongest class of each column.
    """
    rows = []
    known = labels >= 0
    y, first = labels[known], _half(labels[known])
    for name, values in columns.items():
        if values.dtype.kind not in "fiub":
            continue
        x = values[known].astype(np.float64)
        found = np.stack([_aucs(x, y, len(classes)), _aucs_by_value(x, y, len(classes), first)])
        told = np.nan_to_num(np.maximum(found, 1 - found)).max(axis=0, initial=0)
        if len(classes) and told.max() > LIMIT:
            c = int(told.argmax())
            rows.append({"column": name, "class": classes[c], "auc": round(float(told[c]), 6)})
    return rows


def told_by_inputs(
    batch: JetBatch, inputs: Inputs, classes: Sequence[str], target: str | None = None
) -> list[str]:
    """A line for each input column of these training jets that alone tells a class, or is the target.

    Features that follow from the constituents' kinematics and tracks are no truth and are not looked at; of a
    column of the constituents the mean and the largest of each jet are.

    Args:
        batch: training jets, with labels.
        inputs: what the model reads.
        classes: their names.
        target: the jet column that is regressed.
    """
    columns = _own_columns(batch, inputs, target)
    if batch.labels is None or not columns:
        return []
    labels = batch.labels.numpy()
    if labels.dtype.kind == "f":
        of_target = labels.reshape(len(labels), -1).T
        told = dict.fromkeys(n for n, c in columns.items() if any(_is(c, t) for t in of_target))
        return [
            f"input {name.partition(' (')[0]} is the target '{target}': it must not become an input"
            for name in told
        ]
    return [
        f"input {leak['column']} alone tells {leak['class']} (AUC {leak['auc']:.4f}): "
        "truth must not become an input"
        for leak in strongest(leaks(columns, labels, classes))
    ]


def looked_at(inputs: Inputs, target: str | None = None) -> bool:
    """Whether there are inputs that `told_by_inputs` looks at."""
    own = any(not _computed(n) for n in inputs.features)
    beside = any(not _computed(n) for _, names in inputs.collections for n in names)
    return own or beside or any(_may_tell(n, target) for n in inputs.jet_features if n not in inputs.targets)


def _own_columns(batch: JetBatch, inputs: Inputs, target: str | None) -> dict[str, np.ndarray]:
    names = [n for n in inputs.jet_features if _may_tell(n, target) and n not in inputs.targets]
    columns = dict(zip(names, batch.select_jets(names).numpy().T, strict=True)) if names else {}
    for place, asked in {"": inputs.features, **dict(inputs.collections)}.items():
        own = [n for n in asked if not _computed(n)]
        if not own:
            continue
        part = batch.collections[place] if place else batch
        values, offsets = part.select(own).numpy(), part.offsets.numpy()
        for name, rows in zip(own, values.T, strict=True):
            columns |= _of_each_jet(f"{place}.{name}" if place else name, rows, offsets)
    return columns


def of_constituents(chunk: Chunk) -> dict[str, np.ndarray]:
    """Mean and largest value in each jet of the constituents' columns that do not follow from kinematics,
    tracks and particle types, [B] each; those of further collections under `COLLECTION.NAME`."""
    columns: dict[str, np.ndarray] = {}
    for place, part in {"": chunk, **chunk.collections}.items():
        for name, rows in part.constituents.items():
            if name not in RAW_COLUMNS:
                columns |= _of_each_jet(f"{place}.{name}" if place else name, rows, part.offsets)
    return columns


def strongest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a column, the stronger of its mean and its largest value."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["column"].partition(" (")[0]
        if name not in best or row["auc"] > best[name]["auc"]:
            best[name] = {**row, "column": name}
    return list(best.values())


def _of_each_jet(name: str, rows: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
    counts = np.diff(offsets)
    has = counts > 0
    mean, largest = np.full(len(has), np.nan), np.full(len(has), np.nan)
    if has.any():
        starts = offsets[:-1][has]
        mean[has] = np.add.reduceat(rows.astype(np.float64), starts) / counts[has]
        largest[has] = np.maximum.reduceat(rows, starts)
    return {f"{name} (mean)": mean, f"{name} (largest)": largest}


def _computed(name: str) -> bool:
    return name in FEATURES and not name.startswith(RAW)


def _may_tell(name: str, target: str | None) -> bool:
    return name not in DERIVED or name == target


def _is(column: np.ndarray, target: np.ndarray) -> bool:
    """Whether a column is a target, up to a factor and a shift."""
    good = np.isfinite(column) & np.isfinite(target)
    x, t = column[good].astype(np.float64), target[good].astype(np.float64)
    if len(x) < _ENOUGH or x.std() == 0 or t.std() == 0:
        return False
    return bool(abs(np.corrcoef(x, t)[0, 1]) > CORRELATED)


def _aucs(x: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The area under the ROC curve of a column for each class against the rest, ties counted half, NaN with
    fewer than five jets on one side; [classes]."""
    finite = np.isfinite(x)
    _, at, counts = np.unique(x[finite], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    n = np.bincount(labels[finite], minlength=classes).astype(np.float64)
    m = n.sum() - n
    with np.errstate(divide="ignore", invalid="ignore"):
        aucs = (np.bincount(labels[finite], ranks, minlength=classes) - n * (n + 1) / 2) / (n * m)
    return np.where(np.minimum(n, m) < _FEW, np.nan, aucs)


def _half(labels: np.ndarray) -> np.ndarray:
    """Half of the jets of each class, drawn at random, the same each time, [N] booleans."""
    first = np.zeros(len(labels), dtype=bool)
    first[np.lexsort((np.random.default_rng(0).random(len(labels)), labels))[::2]] = True
    return first


def _aucs_by_value(x: np.ndarray, labels: np.ndarray, classes: int, first: np.ndarray) -> np.ndarray:
    """The same of the share of a class among jets of like value, learnt from the first half of the jets and
    measured on the second; NaN with fewer than twenty on one side."""
    finite = np.isfinite(x)
    values = np.unique(x[finite])
    if len(values) <= RANGES:
        at = np.searchsorted(values, x)
    else:
        inner = np.linspace(0, 1, min(RANGES, len(x) // 8) + 1)[1:-1]
        at = np.searchsorted(np.quantile(x[finite], inner), x, side="right")
    at[~finite] = RANGES
    wide = RANGES + 1
    learnt, measured = (
        np.bincount(labels[half] * wide + at[half], minlength=classes * wide).reshape(classes, wide)
        for half in (first, ~first)
    )
    number = (learnt + measured).sum(axis=1)
    out = np.full(classes, np.nan)
    for c in np.nonzero(np.minimum(number, len(x) - number) >= _ENOUGH)[0]:
        share = (learnt[c] + number[c] / len(x)) / (learnt.sum(axis=0) + 1)
        _, place = np.unique(share, return_inverse=True)
        own = np.bincount(place, measured[c])
        rest = np.bincount(place, measured.sum(axis=0) - measured[c])
        below = np.cumsum(rest) - rest / 2
        out[c] = (own * below).sum() / (own.sum() * rest.sum())
    return out
