"""Ranges of constituent columns: what automatic standardisation subtracts and divides by, and the
extremes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MOST = 2_000_000  # values of a column that are looked at


@dataclass(frozen=True)
class Range:
    """Where the values of a column lie.

    Args:
        lowest, highest: over finite values.
        low, median, high: quantiles at 16, 50 and 84 %.
        not_finite: values that are NaN or infinite.
    """

    lowest: float
    low: float
    median: float
    high: float
    highest: float
    not_finite: int = 0

    @classmethod
    def of(cls, values: np.ndarray) -> Range | None:
        """That of these values; None where none is finite."""
        good = values[:MOST].astype(np.float64)
        finite = np.isfinite(good)
        if not finite.any():
            return None
        a, b, c, d, e = (float(q) for q in np.percentile(good[finite], [0, 16, 50, 84, 100]))
        return cls(a, b, c, d, e, not_finite=int((~finite).sum()))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ranges_of(columns: Mapping[str, np.ndarray]) -> dict[str, Range]:
    """The range of each column that has numbers."""
    ranges = {name: Range.of(np.asarray(values)) for name, values in columns.items()}
    return {name: each for name, each in ranges.items() if each is not None}
