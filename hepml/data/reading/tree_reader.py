"""Branches of a tree as flat numpy arrays: contents and offsets, never a list of lists.

This is the one place that knows how uproot hands over a TTree and an RNTuple. `hepml` keeps jets flat from
here to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepml.data.reading.baskets import BasketReader, NotPlainError
from hepml.data.reading.branches import kinds_of
from hepml.data.reading.remote import tried_twice
from hepml.data.reading.sources import _brief
from hepml.errors import FileError, HepmlError, LayoutError

STEP = 20_000  # entries that are read together
# Where baskets are kept from one range to the next, fewer: what is computed of so many jets fits the
# processor's cache, and the memory it takes is used again for the next.
IN_CACHE = 5_000


class Flat(NamedTuple):
    """One branch: `content` of all entries, and `offsets` [entries + 1] where an entry is a list (None for
    one value an entry)."""

    content: np.ndarray
    offsets: np.ndarray | None


def branches_of(tree: Any) -> dict[str, str]:
    """Branches and sub-branches (fields and subfields of an RNTuple) and their types, in the file's order."""
    return kinds_of(tree)


class TreeReader:
    """Reads branches of one tree as flat columns.

    Args:
        tree: an uproot TTree or RNTuple.
        where: file and tree, for errors.
        path: the file, where it is local: plain branches of a TTree are then read basket by basket
            (`hepml.data.reading.baskets`).
        exact: whether lists keep the file's kind of number, as indices must.
    """

    def __init__(self, tree: Any, where: str, path: str | None = None, exact: bool = False) -> None:
        self.tree, self.where = tree, where
        self._baskets: BasketReader | None = None
        if path and hasattr(tree, "branches"):
            self._baskets = BasketReader(tree, path, exact=exact)

    def steps(
        self, names: Sequence[str], start: int, stop: int, step: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Ranges of about `step` entries that cover start:stop, cut where baskets end if these are not much
        larger. Left out, as many as are quickest to work on."""
        step = step or (IN_CACHE if self._baskets is not None else STEP)
        edges = np.array([start, stop])
        if self._baskets is not None and (lists := [n for n in names if self._is_quick(n)]):
            starts = self._baskets.edges(lists[0])
            edges = np.concatenate([[start], starts[(starts > start) & (starts < stop)], [stop]])
        first = start
        while first < stop:
            reach = edges[(edges > first) & (edges <= first + step)]
            if len(reach):
                last = int(reach[-1])
            else:
                following = int(edges[edges > first][0])
                last = following if following - first <= 2 * step else first + step
            yield first, last
            first = last

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Flat]:
        """Branches of the entries start:stop; lists as float32, or as they are where that is asked for
        or they came through uproot.

        Raises:
            DataError: missing values in a Parquet or Arrow column.
            FileError: the file ends early or its baskets are damaged; names branch and entries.
            LayoutError: a branch that is neither numbers nor lists of numbers.
        """
        quick = [name for name in names if self._is_quick(name)]
        columns: dict[str, Flat] = {}
        try:
            if self._baskets is not None and quick:
                try:
                    columns = {n: Flat(*f) for n, f in self._baskets.read(quick, start, stop).items()}
                except NotPlainError:
                    self._baskets = None
            rest = [name for name in names if name not in columns]
            arrays = self._arrays_again(rest, start, stop) if rest else None
        except HepmlError:
            raise
        except Exception as problem:
            raise FileError(
                f"entries {start} to {stop} cannot be read ({_brief(problem)})",
                where=self.where,
                mend="the file is truncated or damaged; copy or generate it again",
            ) from problem
        for name in rest:
            assert arrays is not None
            columns[name] = self._flat(arrays[name], name)
        return {name: columns[name] for name in names}

    def _arrays_again(self, names: Sequence[str], start: int, stop: int) -> Any:
        """Branches by uproot; over a network it is tried once more."""
        if "://" not in self.where:
            return self._arrays(names, start, stop)
        return tried_twice(self.where, lambda: self._arrays(names, start, stop))

    def _arrays(self, names: Sequence[str], start: int, stop: int) -> Any:
        """Branches by uproot. A name is taken as it stands: a list of them would be read as patterns in an
        RNTuple, where `e[GeV]` matches nothing."""
        if hasattr(self.tree, "branches"):  # one by one: `arrays` walks over all branches at each call
            return {n: self.tree[n].array(entry_start=start, entry_stop=stop, library="ak") for n in names}
        chosen = set(names)
        return self.tree.arrays(filter_name=chosen.__contains__, entry_start=start, entry_stop=stop)

    def _is_quick(self, name: str) -> bool:
        return self._baskets is not None and self._baskets.can_read(name)

    def _flat(self, array: ak.Array, name: str) -> Flat:
        if array.ndim == 1:
            return Flat(_numbers(array, name, self.where), None)
        if array.ndim != 2:
            raise _unusable(name, self.where, f"lists within lists ({array.type})")
        try:
            # a list that is missing is a jet without constituents
            lists = ak.to_packed(ak.fill_none(ak.from_regular(array), [], axis=0))
            offsets = np.asarray(lists.layout.offsets.data, dtype=np.int64)
        except (AttributeError, TypeError, ValueError) as problem:
            raise _unusable(name, self.where, str(array.type)) from problem
        return Flat(_numbers(ak.flatten(lists, axis=1), name, self.where), offsets)


def _numbers(array: ak.Array, name: str, where: str) -> np.ndarray:
    """A flat array of numbers; a number that is missing is NaN."""
    try:
        if array.layout.is_option:
            array = ak.fill_none(ak.values_astype(array, np.float64), np.nan)
        numbers = np.asarray(ak.to_numpy(array, allow_missing=False))
    except Exception as problem:
        raise _unusable(name, where, str(array.type)) from problem
    if numbers.ndim != 1 or numbers.dtype.kind not in "biuf":
        raise _unusable(name, where, str(array.type))
    return numbers


def _unusable(name: str, where: str, kind: str) -> LayoutError:
    return LayoutError(
        f"branch '{name}' holds {kind}",
        where=where,
        mend="map a branch of numbers, or of one list of numbers an entry",
    )
