"""Branches of a tree as flat numpy arrays: contents and offsets, never a list of lists.

This is the one place that knows how uproot hands over a TTree and an RNTuple. `hepml` keeps jets flat from here to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepml.data.sources import _brief
from hepml.errors import FileError, LayoutError


class Flat(NamedTuple):
    """One branch: `content` of all entries, and `offsets` [entries + 1] where an entry is a list (None for one value an entry)."""

    content: np.ndarray
    offsets: np.ndarray | None


def branches_of(tree: Any) -> dict[str, str]:
    """Top-level branches (fields of an RNTuple) and their types, in the file's order."""
    names = [b.name for b in tree.branches] if hasattr(tree, "branches") else list(tree.field_names)
    out = {}
    for name in names:
        try:
            out[name] = str(tree[name].typename)
        except Exception:
            out[name] = "unknown"
    return out


def read_flat(tree: Any, names: Sequence[str], start: int, stop: int, where: str) -> dict[str, Flat]:
    """Branches of the entries start:stop.

    Raises:
        FileError: the file ends early or its baskets are damaged; names branch and entries.
        LayoutError: a branch that is neither numbers nor lists of numbers.
    """
    try:
        arrays = tree.arrays(list(names), entry_start=start, entry_stop=stop, library="ak") if names else None
    except Exception as problem:
        raise FileError(
            f"entries {start} to {stop} cannot be read ({_brief(problem)})",
            where=where,
            mend="the file is truncated or damaged; copy or generate it again",
        ) from problem
    out = {}
    for name in names:
        assert arrays is not None
        array = arrays[name]
        if array.ndim == 1:
            out[name] = Flat(_numbers(array, name, where), None)
        elif array.ndim == 2:
            packed = ak.to_packed(ak.from_regular(array))
            offsets = np.asarray(packed.layout.offsets.data, dtype=np.int64)
            out[name] = Flat(_numbers(ak.flatten(packed, axis=1), name, where), offsets)
        else:
            raise _unusable(name, where, f"lists within lists ({array.type})")
    return out


def steps(entries: int, start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `step` entries that cover start:stop."""
    for first in range(start, min(stop, entries), step):
        yield first, min(first + step, stop, entries)


def _numbers(array: ak.Array, name: str, where: str) -> np.ndarray:
    try:
        return ak.to_numpy(array, allow_missing=False)
    except Exception as problem:
        raise _unusable(name, where, str(array.type)) from problem


def _unusable(name: str, where: str, kind: str) -> LayoutError:
    return LayoutError(
        f"branch '{name}' holds {kind}", where=where, mend="map a branch of numbers, or of one list of numbers an entry"
    )
