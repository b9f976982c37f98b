"""Arrays that grow at their end without being copied: what is read in small chunks is written directly to its
final place.

Memory is reserved for what the chunks so far foretell, in large pages. Pages that nothing was written to cost
nothing, and the system moves a mapping by its page table, so neither a reserve that is too large nor one that
is too small costs memory. (`ndarray.resize` would: what numpy has asked large pages for grows by a copy in
small ones.)
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from hepml.data.reading.per_jet import common_type, in_type

_SLACK = 1.05  # a reserve that just falls short would be moved for the last chunk
_LARGE = 1 << 22  # bytes; from here on a mapping of its own, as numpy and malloc have it too

# (name, rows, numbers a row, dtype) -> where the next rows of that column belong, to be filled
Room = Callable[[str, int, int, Any], np.ndarray]


class GrowingArray:
    """Rows behind each other.

    Args:
        row: shape of a row.
        dtype: of the numbers.
    """

    def __init__(self, row: tuple[int, ...], dtype: Any) -> None:
        self.rows = 0
        self._array = np.empty((0, *row), dtype=dtype)
        self._memory: mmap.mmap | None = None  # of the array, where it is a mapping

    def room(self, rows: int, expected: int = 0) -> np.ndarray:
        """Where the next rows belong. They count once they are appended.

        Args:
            rows: how many.
            expected: how many there will be in all, as far as one can tell.
        """
        end = self.rows + rows
        if end > len(self._array):
            self._grow(max(end, int(expected * _SLACK)))
        return self._array[self.rows : end]

    def append(self, rows: np.ndarray, expected: int = 0) -> None:
        """Adds rows; those that were filled in the last `room` are there already. Of two dtypes the one that
        holds both is taken (`per_jet.common_type`)."""
        common = common_type(rows.dtype, self._array.dtype)
        if common != self._array.dtype:
            self._memory, self._array = None, in_type(self._array[: self.rows], common)
        rows = in_type(rows, common)
        place = self.room(len(rows), expected)
        if place.__array_interface__["data"] != rows.__array_interface__["data"]:
            place[:] = rows
        self.rows += len(rows)

    @property
    def bytes(self) -> int:
        """What the rows take."""
        return self._array[: self.rows].nbytes

    def finish(self) -> np.ndarray:
        """The rows, without the rest of the reserve; nothing can be added afterwards."""
        self._resize(self.rows)
        return self._array[: self.rows]

    def _grow(self, rows: int) -> None:
        if not self._resize(rows):
            old = self._array
            self._memory, self._array = _reserve(rows, old)
            self._array[: self.rows] = old[: self.rows]

    def _resize(self, rows: int) -> bool:
        """Whether the array could be resized where it is: not while somebody views it."""
        row, dtype = self._array.shape[1:], self._array.dtype
        size = rows * int(np.prod(row)) * dtype.itemsize
        if self._memory is None:
            if self._array.nbytes < size and size >= _LARGE:
                return False
            try:
                self._array.resize((rows, *row))
            except ValueError:
                return False
            return True
        self._array = np.empty((0, *row), dtype=dtype)  # no view of ours
        try:
            self._memory.resize(max(size, 1))
        except (BufferError, OSError, SystemError, ValueError):  # viewed; or a system that cannot
            resized = False
        else:
            resized = True
        self._array = _view(self._memory, row, dtype)
        return resized


def _reserve(rows: int, like: np.ndarray) -> tuple[mmap.mmap | None, np.ndarray]:
    """Memory for so many rows, and the array in it; a mapping where it is large and the system has them."""
    row, dtype = like.shape[1:], like.dtype
    size = rows * int(np.prod(row)) * dtype.itemsize
    if size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None, np.empty((rows, *row), dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory, _view(memory, row, dtype)


def _view(memory: mmap.mmap, row: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    size = int(np.prod(row)) * dtype.itemsize
    return np.frombuffer(memory, dtype=dtype, count=len(memory) // size * int(np.prod(row))).reshape(-1, *row)


class GrowingColumns:
    """Columns by name, of which each chunk brings some rows. A column that some chunk lacks is left out.

    Args:
        expected: entries that will be read in all.

    Attributes:
        reached: how many of them were read, the next rows included; whoever adds rows says so.
    """

    def __init__(self, expected: int) -> None:
        self.expected, self.reached = expected, 0
        self._columns: dict[str, GrowingArray | None] = {}
        self._begun = False

    def room(self, name: str, rows: int, width: int, dtype: Any) -> np.ndarray:
        """Where the next rows of a column belong, [rows, width]."""
        column = self._columns.setdefault(name, GrowingArray((width,), dtype))
        if column is None:
            return np.empty((rows, width), dtype=dtype)
        return column.room(rows, self._foretold(column.rows + rows))

    def append(self, columns: dict[str, np.ndarray | None]) -> None:
        """Adds the rows of a chunk."""
        later: dict[str, np.ndarray | None] = {name: None for name in self._columns if name not in columns}
        for name, rows in (columns | later).items():
            if rows is None or (self._begun and name not in self._columns):
                self._columns[name] = None
                continue
            column = self._columns.setdefault(name, GrowingArray(rows.shape[1:], rows.dtype))
            if column is not None:
                column.append(rows, self._foretold(column.rows + len(rows)))
        self._begun = True

    @property
    def bytes_foretold(self) -> int:
        """What all columns will take, as far as the rows so far tell."""
        return sum(self._foretold(c.bytes) for c in self._columns.values() if c is not None)

    def finish(self) -> dict[str, Any]:
        """The columns, None for those left out."""
        return {n: None if c is None else c.finish() for n, c in self._columns.items()}

    def _foretold(self, rows: int) -> int:
        share = min(1.0, max(self.reached, 1) / max(self.expected, 1))
        return int(rows / share) + 1
