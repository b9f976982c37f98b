"""Columns that alone tell a class: truth that slipped among what a network may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LIMIT = 0.99


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
    for name, values in columns.items():
        if values.dtype.kind not in "fiub":
            continue
        x = values.astype(np.float64)
        good = np.isfinite(x) & (labels >= 0)
        best: tuple[float, str] | None = None
        for c, label in enumerate(classes):
            auc = _auc(x[good], labels[good] == c)
            if auc is not None and (best is None or max(auc, 1 - auc) > best[0]):
                best = max(auc, 1 - auc), label
        if best is not None and best[0] > LIMIT:
            rows.append({"column": name, "class": best[1], "auc": round(best[0], 6)})
    return rows


def _auc(x: np.ndarray, positive: np.ndarray) -> float | None:
    """The area under the ROC curve, ties counted half; None with fewer than five jets on one side."""
    n, m = int(positive.sum()), int((~positive).sum())
    if min(n, m) < 5:
        return None
    _, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
