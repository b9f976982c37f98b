"""An event tree as flat columns: objects with their offsets by event, lists within lists with both offsets,
element links with their keys.

Floating-point lists go the quick way through `TreeReader`; integers keep their type, for a float32 would
round indices and event numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepml.data.reading.branches import kinds_of
from hepml.data.reading.links import starts_of
from hepml.data.reading.sources import _brief
from hepml.data.reading.tree_reader import Flat, TreeReader
from hepml.errors import FileError, LayoutError

_NUMBER = r"(?:float|double|bool|char|short|int|long|(?:unsigned|signed) (?:char|short|int|long)|u?int\d+_t)"
_QUICK = re.compile(rf"^(?:{_NUMBER}\[\]|(?:std::)?vector<{_NUMBER} ?>)$")


class Nested(NamedTuple):
    """Lists within lists: offsets [E + 1] of the objects, counts [J] of each object's list, and the
    content."""

    objects: np.ndarray
    counts: np.ndarray
    content: Any


class EventTree:
    """Columns of one tree of events.

    Args:
        tree: an uproot TTree or RNTuple.
        where: file and tree, for errors.
        path: the file, where it is local.
        kinds: its branches and types, where they are known.
    """

    def __init__(
        self, tree: Any, where: str, path: str | None = None, kinds: dict[str, str] | None = None
    ) -> None:
        self.tree, self.where = tree, where
        self.kinds = kinds_of(tree) if kinds is None else kinds
        self.entries = int(tree.num_entries)
        self._reader = TreeReader(tree, where, path, exact=True)

    def steps(self, name: str, start: int, stop: int, step: int) -> Iterable[tuple[int, int]]:
        """Ranges of about `step` events that cover start:stop, cut where the baskets of a branch end."""
        if hasattr(self.tree, "branches"):
            return self._reader.steps([name], start, stop, step)
        return ((low, min(low + step, stop)) for low in range(start, stop, step))

    def lists(self, names: Iterable[str], start: int, stop: int) -> dict[str, Flat]:
        """Branches with one list of numbers an event, or one number (offsets None then).

        Raises:
            FileError: damaged baskets. LayoutError: a branch of another kind.
        """
        names = list(dict.fromkeys(names))
        quick = [n for n in names if hasattr(self.tree, "branches") and _QUICK.match(self.kinds.get(n, ""))]
        columns = self._reader.read(quick, start, stop) if quick else {}
        for name in names:
            if name not in columns:
                columns[name] = self._list(name, start, stop)
        return {name: columns[name] for name in names}

    def nested(self, name: str, start: int, stop: int) -> Nested:
        """A branch with lists within lists.

        Raises:
            LayoutError: a branch of another kind.
        """
        array = self.array(name, start, stop)
        if "refs" in ak.fields(array):
            array = array["refs"]
        if array.ndim < 3:
            raise LayoutError(
                f"branch '{name}' holds {array.type}",
                where=self.where,
                mend="name a branch of lists of lists",
            )
        packed = ak.to_packed(ak.from_regular(array, axis=None))
        objects = np.asarray(ak.num(packed, axis=1))
        inner = ak.flatten(packed, axis=1)
        return Nested(
            starts_of(objects), np.asarray(ak.num(inner, axis=1), dtype=np.int64), ak.flatten(inner, axis=1)
        )

    def array(self, name: str, start: int, stop: int) -> ak.Array:
        """A branch as awkward array.

        Raises:
            FileError: it cannot be read.
        """
        try:
            return self.tree[name].array(entry_start=start, entry_stop=stop, library="ak")
        except Exception as problem:
            raise FileError(
                f"branch '{name}', entries {start} to {stop}, cannot be read ({_brief(problem)})",
                where=self.where,
                mend="the file is truncated or damaged; copy or generate it again",
            ) from problem

    def _list(self, name: str, start: int, stop: int) -> Flat:
        array = self.array(name, start, stop)
        if array.ndim == 1 and not ak.fields(array):
            return Flat(ak.to_numpy(array, allow_missing=False), None)
        if array.ndim != 2 or ak.fields(array):
            raise LayoutError(
                f"branch '{name}' holds {array.type}",
                where=self.where,
                mend="name a branch with one list of numbers an event",
            )
        packed = ak.to_packed(ak.from_regular(array))
        return Flat(
            ak.to_numpy(ak.flatten(packed, axis=1), allow_missing=False),
            np.asarray(packed.layout.offsets.data, dtype=np.int64),
        )
