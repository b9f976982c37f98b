"""Links from jets to their constituents, reduced to three arrays: jets an event, constituents a jet, and the
flat index of each constituent among the candidates.

Experiments store a jet's constituents in five ways: an index table (CMS NanoAOD, PFNano), element links
(ATLAS PHYSLITE), TRefs (Delphes), object ids (EDM4hep), and lists within lists. Each function here resolves
one of them with numpy alone, without a loop over jets, and counts the links that lead nowhere; none is
dropped without being counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

T = TypeVar("T")
BEYOND = "numbers beyond the end of "  # where a link leads whose number is too large for its collection
UNIQUE_ID = 0xFFFFFF  # a TRef keeps its process in the upper bits of the id, the object in these


@dataclass(frozen=True)
class Links:
    """What a link resolves to.

    Args:
        counts: [J] constituents of each jet.
        index: [sum of counts] flat index into the candidates, jet by jet.
        lost: links that lead to no candidate in the file.
        null: links that are empty by the format's own rules (a null element link, an index of -1).
        towards: where the lost links lead, with their number, as the format names it.
    """

    counts: np.ndarray
    index: np.ndarray
    lost: int = 0
    null: int = 0
    towards: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All links: resolved, lost and null."""
        return len(self.index) + self.lost + self.null


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Offsets [n + 1] of consecutive groups of these sizes."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def events_of(offsets: np.ndarray) -> np.ndarray:
    """The event of each object, from the objects' offsets [E + 1]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def from_table(
    jet_offsets: np.ndarray,
    candidate_offsets: np.ndarray,
    row_offsets: np.ndarray,
    jet: np.ndarray,
    index: np.ndarray,
    into: str | None = None,
) -> Links:
    """Links of an index table: one row a link, with the jet's and the candidate's number in the event.

    Args:
        jet_offsets, candidate_offsets, row_offsets: [E + 1] of jets, candidates and rows of the table.
        jet, index: [rows] numbers in the event; negative for none.
        into: what the candidates are called, where the file does not keep them.
    """
    event = events_of(row_offsets)
    jet, index = jet.astype(np.int64), index.astype(np.int64)
    null = (jet < 0) | (index < 0)
    there = ~null & (jet < np.diff(jet_offsets)[event]) & (index < np.diff(candidate_offsets)[event])
    at, flat = jet_offsets[event] + jet, candidate_offsets[event] + index
    if not there.all():
        at, flat = at[there], flat[there]
    if (at[1:] < at[:-1]).any():  # rows are in the jets' order in most files
        flat = flat[np.argsort(at, kind="stable")]
    lost = int((~null & ~there).sum())
    return Links(
        np.bincount(at, minlength=int(jet_offsets[-1])),
        flat,
        lost,
        int(null.sum()),
        {into or "rows beyond the collections": lost} if lost else {},
    )


def from_elements(
    jet_offsets: np.ndarray,
    counts: np.ndarray,
    keys: np.ndarray,
    index: np.ndarray,
    containers: Mapping[int, tuple[int, np.ndarray]],
    names: Mapping[int, str] | None = None,
) -> Links:
    """Element links: the key of a container and the number in it; key 0 is a null link.

    Args:
        jet_offsets: offsets [E + 1] of the jets.
        counts: [J] links of each jet.
        keys, index: [links].
        containers: key -> (position of the container's first candidate, offsets [E + 1]).
        names: key -> name of a container, also of those that the file does not keep, for the report.
    """
    jet = np.repeat(np.arange(len(counts)), counts)
    event = events_of(jet_offsets)[jet]
    flat = np.full(len(keys), -1, dtype=np.int64)
    index = index.astype(np.int64)
    for key, (base, offsets) in containers.items():
        rows = np.nonzero((keys == key) & (index >= 0))[0]
        rows = rows[index[rows] < np.diff(offsets)[event[rows]]]
        flat[rows] = base + offsets[event[rows]] + index[rows]
    null = keys == 0
    there = flat >= 0
    lost = ~there & ~null
    towards: dict[str, int] = {}
    for key, number in zip(*np.unique(keys[lost], return_counts=True), strict=True):
        name = (names or {}).get(int(key)) or f"container key {int(key)}"
        towards[f"{BEYOND}{name}" if int(key) in containers else name] = int(number)
    return Links(
        np.bincount(jet[there], minlength=len(counts)),
        flat[there],
        int(lost.sum()),
        int(null.sum()),
        towards,
    )


def from_references(
    jet_offsets: np.ndarray, counts: np.ndarray, refs: np.ndarray, events: np.ndarray, ids: np.ndarray
) -> Links:
    """TRefs, matched by event and the lower 24 bits of the unique id.

    Args:
        jet_offsets: offsets [E + 1] of the jets.
        counts: [J] references of each jet.
        refs: [links] unique ids that are referred to; 0 for none.
        events, ids: [C] event and unique id of each candidate; where two have the same, the first is meant.
    """
    jet = np.repeat(np.arange(len(counts)), counts)
    wanted = _keys(events_of(jet_offsets)[jet], refs)
    have = _keys(events, ids)
    order = np.argsort(have, kind="stable")
    have = have[order]
    at = np.searchsorted(have, wanted)
    at[at == len(have)] = 0
    null = (refs.astype(np.int64) & UNIQUE_ID) == 0
    there = (have[at] == wanted) & ~null if len(have) else np.zeros(len(wanted), dtype=bool)
    lost = int((~there & ~null).sum())
    return Links(
        np.bincount(jet[there], minlength=len(counts)),
        order[at[there]] if len(have) else np.zeros(0, dtype=np.int64),
        lost,
        int(null.sum()),
        {"a collection that the file does not keep": lost} if lost else {},
    )


def from_objects(
    jet_offsets: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    rows: np.ndarray,
    index: np.ndarray,
    collections: np.ndarray,
    containers: Mapping[int, tuple[int, np.ndarray]],
    names: Mapping[int, str] | None = None,
) -> Links:
    """Object ids: a range of rows of a relation for each jet, each row a collection and a number in it.

    Args:
        jet_offsets: offsets [E + 1] of the jets.
        begin, end: [J] the jet's rows, counted in its event; none ends before it begins.
        rows: offsets [E + 1] of the relation's rows.
        index, collections: [rows]; a negative index is a null link.
        containers, names: as in `from_elements`, by collection id.
    """
    event = events_of(jet_offsets)
    begin, end = begin.astype(np.int64), end.astype(np.int64)
    counts = end - begin
    within = np.diff(rows)[event]
    short = np.maximum(np.minimum(end, within) - np.minimum(begin, within), 0)
    cut = int((counts - short).sum())
    first = rows[event] + np.minimum(begin, within)
    at = np.repeat(first - starts_of(short)[:-1], short) + np.arange(int(short.sum()))
    keys = collections[at].astype(np.int64)
    number = index[at].astype(np.int64)
    # element links count from 1 upwards and take 0 as null; object ids say it by a negative number
    null = number < 0
    shifted = {key + 1: where for key, where in _unsigned(containers).items()}
    named = {key + 1: name for key, name in _unsigned(names or {}).items()}
    links = from_elements(
        jet_offsets, short, np.where(null, 0, (keys & 0xFFFFFFFF) + 1), number, shifted, named
    )
    towards = {
        f"collection id {int(n.rsplit(' ', 1)[1]) - 1}" if n.startswith("container key") else n: number
        for n, number in links.towards.items()
    }
    if cut:
        towards["rows beyond the relation"] = cut
    return Links(links.counts, links.index, links.lost + cut, links.null, towards)


def from_lists(counts: np.ndarray) -> Links:
    """Lists within lists: the constituents stand in the jets already.

    Args:
        counts: [J] constituents of each jet.
    """
    return Links(counts.astype(np.int64), np.arange(int(counts.sum()), dtype=np.int64))


def _keys(events: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Event and unique id as one number."""
    return (events.astype(np.int64) << 32) | (ids.astype(np.int64) & UNIQUE_ID)


def _unsigned(table: Mapping[int, T]) -> dict[int, T]:
    """The same with keys as unsigned 32-bit numbers, as podio hashes them."""
    return {int(key) & 0xFFFFFFFF: value for key, value in table.items()}
