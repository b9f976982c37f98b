"""What belongs to a jet is one number a jet: weights, labels, targets, jet columns. The one place that says
so, for whichever file or array they come from.

A list of numbers a jet (LHE weights), text or a record can never stand for one number: flattened, it would
give each jet another jet's. A value that is missing becomes NaN, which is screened like any other NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hepml.errors import DataError, LayoutError

_NUMBERS = ("bool", "float32", "float64", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))
NONE, SEVERAL, NO_INDEX = -1, -2, -3  # labels of jets of no class, of several, and what is no class index
BEYOND = -1000  # less a class index that has no class
SENTINELS = (-99.0, -999.0, -9999.0, -99999.0, -999999.0)  # numbers that often stand for "there is none"


def number_type(kind: str) -> np.dtype | None:
    """The type of a branch of one number an entry, from how uproot or numpy names it; None for all others."""
    plain = kind.replace("std::", "").removesuffix("_t")
    plain = {"float": "float32", "double": "float64"}.get(plain, plain)
    return np.dtype(plain) if plain in _NUMBERS else None


def common_type(*kinds: np.dtype[Any]) -> np.dtype[Any]:
    """The type that holds numbers of all of these, as numpy has it; but integers stay integers: int64 beside
    uint64, where numpy takes float64, which would round event numbers."""
    common = np.result_type(*kinds)
    whole = all(kind.kind in "biu" for kind in kinds)
    return np.dtype(np.int64) if whole and common.kind == "f" else common


def in_type(values: np.ndarray, kind: np.dtype[Any]) -> np.ndarray:
    """The values in a `common_type`.

    Raises:
        DataError: a number above 2^63 beside a column that may have negative ones.
    """
    if kind == np.int64 and values.dtype == np.uint64 and values.size and int(values.max()) >= 2**63:
        raise DataError(
            f"the number {int(values.max())} in one file, where another has signed integers in that column",
            mend="write the column in one type in all files",
        )
    return values.astype(kind, copy=False)


def one_each(values: Any, jets: int, what: str, where: str) -> np.ndarray:
    """The values as [B] numbers of their own type, if they are one number a jet.

    Args:
        values: an array.
        jets: B.
        what: `weight branch 'w'`, for the error.
        where: file and tree.

    Raises:
        LayoutError: a list a jet, text, records, or another number of values.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise LayoutError(f"{what} holds {_kind(array)}", where=where, mend="give one number a jet")
    if array.ndim != 1:
        raise LayoutError(
            f"{what} holds {int(np.prod(array.shape[1:]))} numbers a jet, not one",
            where=where,
            mend="give one number a jet",
        )
    if len(array) != jets:
        raise LayoutError(
            f"{what} holds {len(array)} numbers for {jets} jets", where=where, mend="give one number a jet"
        )
    return array


def a_list(name: str, what: str, where: str, index: str = "0") -> LayoutError:
    """The error for a branch that holds a list of numbers where one number a jet belongs."""
    return LayoutError(
        f"{what} '{name}' is a list of numbers an entry, not one number a jet",
        where=where,
        mend=f"take one of them, as layout.columns: {{NAME: {{branch: {name}, element: {index}}}}}",
    )


def element(content: np.ndarray, offsets: np.ndarray, index: int) -> np.ndarray:
    """One element of each jet's list, [B] float; NaN where a list is too short. Negative indices count from
    the end."""
    counts = np.diff(offsets)
    at = index if index >= 0 else counts + index
    there = (counts > at) & (np.asarray(at) >= 0)
    out = np.full(len(counts), np.nan, dtype=np.result_type(content.dtype, np.float32))
    out[there] = content[(offsets[:-1] + at)[there]]
    return out


def one_hot_labels(columns: list[np.ndarray], jets: int) -> np.ndarray:
    """Class index [B] of one-hot labels: `NONE` where none is 1, `SEVERAL` where several are, or where one is
    neither 0 nor 1."""
    total, index = np.zeros(jets, dtype=np.int64), np.zeros(jets, dtype=np.int64)
    strange = np.zeros(jets, dtype=bool)
    for i, column in enumerate(columns):
        is_one = column == 1
        strange |= ~is_one & (column != 0)  # 0.5, NaN, -99 …
        total += is_one
        index[is_one] = i
    index[total == 0] = NONE
    index[(total > 1) | strange] = SEVERAL
    return index


def class_indices(values: np.ndarray, classes: int) -> np.ndarray:
    """Class index [B] from integers of any type, or floats that are whole numbers: `NONE` for NaN and what is
    below zero (-99), `NO_INDEX` for fractions, `BEYOND` - label for what is not below the number of
    classes."""
    out = np.full(len(values), NONE, dtype=np.int64)
    inside = (values >= 0) & (values < classes)
    out[inside] = values[inside].astype(np.int64)
    beyond = values >= classes
    out[beyond] = BEYOND - np.minimum(values[beyond].astype(float), 2.0**62).astype(np.int64)
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            out[np.isfinite(values) & (values != np.floor(values))] = NO_INDEX
    return out


def sentinels(values: np.ndarray) -> tuple[float, int] | None:
    """A number that often stands for "there is none", where it lies alone below everything else in a column:
    the number, and of how many jets."""
    if not len(values) or values.dtype.kind not in "fi":
        return None
    low = float(values.min())
    if low not in SENTINELS:
        return None
    rest = values[values != low]
    return (low, int(len(values) - len(rest))) if not len(rest) or float(rest.min()) > 0.5 * low else None


def _kind(array: np.ndarray) -> str:
    kinds: dict[str, Callable[[], str]] = {
        "U": lambda: "text",
        "S": lambda: "text",
        "O": lambda: "no numbers",
        "V": lambda: f"records of {', '.join(array.dtype.names or ())}",
        "c": lambda: "complex numbers",
    }
    return kinds.get(array.dtype.kind, lambda: str(array.dtype))()
