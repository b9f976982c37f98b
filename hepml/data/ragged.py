"""Jets of unequal length copied out of packed columns, each in one piece.

numpy and torch take rows one by one, some 10 ns each, and a jet has 50 of them. A sparse matrix in compressed
rows is ragged as well, and scipy (which scikit-learn and Lightning bring) takes its rows in compiled code, by
one `memcpy` each: here a row is a jet, its numbers stand where the matrix has the places of its columns, and
the matrix's own values are bytes that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np

LARGE = 100_000  # rows of a column; below, the import of scipy would take longer than all that it saves
_MOST = np.iinfo(np.int32).max


class Pieces:
    """Rows starts[i]:ends[i] of packed columns, for all i behind each other.

    Args:
        starts, ends: [B] int64.

    Attributes:
        offsets: where each piece begins among the rows taken, [B + 1] int64.
    """

    def __init__(self, starts: np.ndarray, ends: np.ndarray) -> None:
        self._starts, self._ends = starts, ends
        self.offsets = np.zeros(len(starts) + 1, dtype=np.int64)
        np.cumsum(ends - starts, out=self.offsets[1:])

    @cached_property
    def rows(self) -> np.ndarray:
        """All of them, [ΣN] int64."""
        rows = np.repeat(self._starts - self.offsets[:-1], self._ends - self._starts)
        rows += np.arange(len(rows))
        return rows

    def of(self, array: np.ndarray) -> np.ndarray:
        """These rows of a column, as a copy."""
        out = np.empty((self.offsets[-1], *array.shape[1:]), dtype=array.dtype)
        if not self._copied(array, out):
            np.take(array, self.rows, axis=0, out=out, mode="clip")
        return out

    def _copied(self, array: np.ndarray, out: np.ndarray) -> bool:
        """Whether the pieces could be copied whole."""
        row = array.nbytes // max(len(array), 1)
        whole, size = (np.int64, 8) if row % 8 == 0 else (np.int32, 4)
        if (
            len(array) < LARGE
            or row % 4
            or (size == 4 and array.nbytes // 4 > _MOST)
            or not array.flags.c_contiguous
            or array.__array_interface__["data"][0] % size
            or (take := _taker()) is None
        ):
            return False
        first, last = self._range
        if first < 0 or last > len(array):
            raise IndexError(f"offsets lead to rows {first} to {last} of {len(array)}")
        units = row // size  # numbers of that size in a row
        edges = np.multiply(self._edges, units, dtype=whole, casting="unsafe")
        pieces = np.arange(0, len(edges), 2, dtype=whole)
        unused = np.empty(len(out) * units, dtype=np.int8)
        numbers = array.reshape(-1).view(whole)
        take(len(pieces), pieces, edges, numbers, numbers.view(np.int8), out.reshape(-1).view(whole), unused)
        return True

    @cached_property
    def _edges(self) -> np.ndarray:
        """Start, end, start, end …: pointers of a matrix of which every other row is asked for."""
        edges = np.empty(2 * len(self._starts), dtype=np.int64)
        edges[::2], edges[1::2] = self._starts, self._ends
        return edges

    @cached_property
    def _range(self) -> tuple[int, int]:
        """The first and behind the last row: the compiled code does not look."""
        if not len(self._starts):
            return 0, 0
        if self.offsets[-1] < 0 or (self._ends < self._starts).any():
            return -1, 0
        return int(self._starts.min()), int(self._ends.max())


@cache
def _taker() -> Callable[..., Any] | None:
    """scipy's copying of rows: (rows, which, pointers, places, values, copies of both); None where this scipy
    has it no more."""
    try:
        from scipy.sparse import _sparsetools

        taker: Callable[..., Any] = _sparsetools.csr_row_index
        return taker
    except (ImportError, AttributeError):
        return None
