"""HDF5 files opened by h5py, and the rows of a pandas frame in one, in either of its two forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hepml.data.reading.sources import _brief, _missing
from hepml.errors import FileError, MissingExtraError


def open_h5py(path: str) -> Any:
    """The opened file.

    Raises:
        FileError: missing, or not HDF5. MissingExtraError: h5py is absent.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "data") from None
    if not Path(path).is_file():
        raise _missing(path)
    try:
        return h5py.File(path, "r")
    except Exception as problem:
        raise FileError(
            f"the HDF5 file cannot be read ({_brief(problem)})",
            where=path,
            mend="it is damaged or not HDF5; copy it again",
        ) from problem


def rows_of(path: str) -> int:
    """How many rows the frame has."""
    with open_h5py(path) as file:
        group = _group(file)
        return int((group["axis1"] if "axis1" in group else group["table"]).shape[0])


def frame_rows(path: str, start: int, stop: int) -> np.ndarray:
    """[rows, columns] float64 of the rows start:stop.

    Raises:
        FileError: damaged.
    """
    try:
        with open_h5py(path) as file:
            group = _group(file)
            if "axis1" in group:
                blocks = [n for n in group if n.endswith("_values")]
                names = group["axis0"][:].tolist()
                out = np.zeros((stop - start, len(names)))
                place = {n: i for i, n in enumerate(names)}
                for block in blocks:
                    items = group[block.replace("_values", "_items")][:].tolist()
                    out[:, [place[i] for i in items]] = group[block][start:stop]
                return out
            table = group["table"][start:stop]
            parts = [table[n] for n in table.dtype.names if n != "index"]
            return np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1).astype(np.float64)
    except FileError:
        raise
    except Exception as problem:
        raise FileError(
            f"rows {start} to {stop} cannot be read ({problem})", where=path, mend="copy it again"
        ) from problem


def _group(file: Any) -> Any:
    return next(file[n] for n in file if "block0_values" in file[n] or "table" in file[n])
