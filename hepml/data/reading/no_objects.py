"""Pickles in data files are data or nothing: plain values are let through, and no object that could run code.

pandas and PyTables keep names of columns as pickles in attributes of an HDF5 file, and columns of Python
objects as pickled arrays; both unpickle whatever a file brings. While the block below is open, they get plain
values only, and the file is refused if it held anything else.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hepml.errors import DataError, MissingExtraError

# how a number or its type of numpy is pickled: it builds values and calls nothing of the file's choice
_PLAIN = {
    (module, name)
    for module, names in {
        "numpy": ("dtype",),
        "numpy.core.multiarray": ("scalar",),
        "numpy._core.multiarray": ("scalar",),
    }.items()
    for name in names
}
_GUARD = threading.RLock()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def plain(raw: bytes, **options: Any) -> Any:
    """The plain value (numbers, text, lists, dictionaries of those) that is pickled.

    Raises:
        pickle.UnpicklingError: it is anything else; names it.
    """
    return _PlainUnpickler(io.BytesIO(raw), **options).load()


class _Pickle:
    """Stands in for the module `pickle` inside PyTables."""

    HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL
    dumps = staticmethod(pickle.dumps)
    UnpicklingError = pickle.UnpicklingError

    def __init__(self) -> None:
        self.refused: list[str] = []

    def loads(self, raw: bytes, **options: Any) -> Any:
        try:
            return plain(raw, **options)
        except pickle.UnpicklingError as problem:
            self.refused.append(str(problem))
            raise


@contextlib.contextmanager
def no_objects(path: Path | str, *, alone: bool = False) -> Iterator[None]:
    """Lets PyTables unpickle nothing but plain values.

    Args:
        path: of the file.
        alone: no other thread can be in here, as in a child process (where nobody would open a lock that
            another thread held at the fork).

    Raises:
        DataError: the file holds something else; names it.
    """
    try:
        import tables.atom
        import tables.attributeset
    except ImportError:
        raise MissingExtraError("tables", "data") from None
    mine = _Pickle()
    held: Any = contextlib.nullcontext() if alone else _GUARD
    with held, patch.object(tables.atom, "pickle", mine), patch.object(tables.attributeset, "pickle", mine):
        try:
            yield
        except Exception:
            if not mine.refused:
                raise
        if mine.refused:
            raise DataError(
                f"the file holds a Python object ({mine.refused[0][:80]}), which is not loaded: it could "
                "run code",
                where=str(path),
                mend="save tables of numbers (h5py, Parquet, npz)",
            )
