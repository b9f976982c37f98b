"""The names of collections in podio's metadata (EDM4hep): collection id -> name.

Each version of podio keeps them in another place:

| Tree | Ids and names | Written by |
|---|---|---|
| `podio_metadata` | `events___CollectionTypeInfo.collectionID`, `….name` | podio 1.3 and later |
| `podio_metadata` | `events___idTable/m_collectionIDs`, `m_names` | TTree up to 1.2 |
| `podio_metadata` | `events___idTable` and `events_collectionNames` | RNTuple up to 1.2 |
| `metadata` | `CollectionIDs/m_collectionIDs`, `m_names` | TTree up to 0.15 |

The ids are 32-bit hashes from version 0.17 on, signed or unsigned as the writer had it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import awkward as ak

from hepml.errors import DataError

BITS = 0xFFFFFFFF


def podio_ids(directory: Any, where: str, category: str = "events") -> dict[int, str]:
    """Collection id (unsigned) -> name from the metadata of an EDM4hep file; empty where it has none.

    Args:
        directory: the opened file.
        where: the file, for errors.
        category: the tree of events.

    Raises:
        DataError: ids and names that differ in number, or an id of two collections.
    """
    for tree, *branches in _places(category.rpartition("/")[2].partition(";")[0]):
        ids, names = (_first(directory, tree, branch) for branch in branches)
        if ids is None or names is None:
            continue
        if len(ids) != len(names):
            raise DataError(
                f"{len(ids)} collection ids and {len(names)} names", where=f"{where}:{tree}", mend=_DAMAGED
            )
        out: dict[int, str] = {}
        for key, name in zip(ids, names, strict=True):
            if out.setdefault(int(key) & BITS, str(name)) != str(name):
                raise DataError(
                    f"collection id {int(key) & BITS} is of '{out[int(key) & BITS]}' and of '{name}'",
                    where=f"{where}:{tree}",
                    mend=_DAMAGED,
                )
        if out:
            return out
    return {}


def _places(category: str) -> Iterator[tuple[str, str, str]]:
    """Tree, branch of ids and branch of names, newest first; `events` after the tree's own name."""
    for name in dict.fromkeys((category, "events")):
        table, info = f"{name}___idTable", f"{name}___CollectionTypeInfo"
        yield "podio_metadata", f"{info}.collectionID", f"{info}.name"
        yield "podio_metadata", f"{table}.m_collectionIDs", f"{table}.m_names"
        yield "podio_metadata", table, f"{name}_collectionNames"
    yield "metadata", "CollectionIDs.m_collectionIDs", "CollectionIDs.m_names"


_DAMAGED = "the file is damaged; write it again"


def _first(directory: Any, tree: str, branch: str) -> list[Any] | None:
    """The list in the first entry of a branch, spelt `a.b`, `a/b` or `a/a.b`; None where there is no such
    list."""
    stem, _, part = branch.partition(".")
    for name in (branch, *((f"{stem}/{part}", f"{stem}/{branch}") if part else ())):
        try:
            array = directory[tree][name].array(entry_stop=1)
        except Exception:  # no such tree or branch, or a class of another version: names are not known here
            continue
        if len(array) and array.ndim == 2 and not ak.fields(array):
            return list(array[0].tolist())
    return None
