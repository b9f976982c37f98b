"""Jets of unequal length copied out of packed columns, each in one piece.

numpy and torch take rows one by one, some 10 ns each, and a jet has 50 of them. A sparse matrix in compressed
rows is ragged as well, and scipy (which scikit-learn and Lightning bring) takes its rows in compiled code, by
one `memcpy` each: here a row is a jet, its numbers stand where the matrix has the places of its columns, and
the matrix's own values are bytes that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

LARGE = 100_000  # rows of a column; below, the import of scipy would take longer than all that it saves
_MOST = np.iinfo(np.int32).max
_KEPT = 1 << 22  # bytes
_unused = np.empty(0, dtype=np.int8)


class Pieces:
    """The rows of chosen pieces of packed columns, behind each other.

    Args:
        offsets: where each piece begins, and the last one ends, [N + 1] int64.
        which: the pieces, [B] int64.

    Attributes:
        offsets: where each chosen piece begins among the rows taken, [B + 1] int64.

    Raises:
        IndexError: a piece that is not there.
    """

    def __init__(self, offsets: np.ndarray, which: np.ndarray) -> None:
        offsets = np.ascontiguousarray(offsets, dtype=np.int64)
        # Start and end stand side by side, and are taken as one number of 16 bytes: one access a piece
        both = np.ndarray((len(offsets) - 1,), np.complex128, offsets, strides=(8,))[which]
        self._edges = both.view(np.int64)  # start, end, start, end …
        self._starts = self._edges[::2]
        self._counts = self._edges[1::2] - self._starts
        self.offsets = np.zeros(len(both) + 1, dtype=np.int64)
        self._counts.cumsum(out=self.offsets[1:])

    @cached_property
    def rows(self) -> np.ndarray:
        """All of them, [ΣN] int64."""
        rows = np.repeat(self._starts - self.offsets[:-1], self._counts)
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
        if len(array) < LARGE or not array.flags.c_contiguous or (take := _taker()) is None:
            return False
        row = array.nbytes // len(array)
        whole, size = (np.int64, 8) if row % 8 == 0 else (np.int32, 4)
        if row % 4 or (size == 4 and array.nbytes // 4 > _MOST):
            return False
        numbers = array.reshape(-1).view(whole)
        if not numbers.flags.aligned:
            return False
        first, last = self._range
        if first < 0 or last > len(array):
            raise IndexError(f"offsets lead to rows {first} to {last} of {len(array)}")
        units = row // size  # numbers of that size in a row
        # The edges are the pointers of a matrix of which every other row is asked for
        edges = np.multiply(self._edges, units, dtype=whole, casting="unsafe")
        every_other = _evens(len(self._counts), whole)
        to = out.reshape(-1).view(whole)
        take(len(every_other), every_other, edges, numbers, numbers.view(np.int8), to, _scratch(len(to)))
        return True

    @cached_property
    def _range(self) -> tuple[int, int]:
        """The first and behind the last row: the compiled code does not look."""
        if not len(self._counts):
            return 0, 0
        if self._counts.min() < 0:
            return -1, 0
        return int(self._edges.min()), int(self._edges.max())


@lru_cache(maxsize=8)  # batches are of one size
def _evens(number: int, dtype: Any) -> np.ndarray:
    return np.arange(0, 2 * number, 2, dtype=dtype)


def _scratch(size: int) -> np.ndarray:
    """Memory for bytes that nobody looks at, so that threads may share it; kept, to stay in the cache."""
    global _unused
    if size > _KEPT:
        return np.empty(size, dtype=np.int8)
    scratch = _unused
    if len(scratch) < size:
        scratch = _unused = np.empty(size, dtype=np.int8)
    return scratch[:size]


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
