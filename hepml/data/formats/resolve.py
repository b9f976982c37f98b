"""From a chunk of events to the links of a jet collection and the columns of its candidates.

This is where the five kinds of link in `hepml.data.layouts.collections` meet the numpy functions of
`hepml.data.reading.links`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import awkward as ak
import numpy as np

from hepml.data.collider import momentum_of
from hepml.data.formats.event_tree import EventTree, Nested
from hepml.data.layouts.collections import (
    Candidates,
    ElementLink,
    JetCollection,
    NestedLists,
    ObjectLink,
    ReferenceLink,
    TableLink,
)
from hepml.data.layouts.derived import DERIVED, INTERMEDIATE, filled, made_by, with_derived
from hepml.data.reading import links
from hepml.data.reading.links import Links
from hepml.errors import DataError, LayoutError, did_you_mean

FORMS = (("px", "py", "pz"), ("pt", "eta", "phi"))


def jet_offsets(tree: EventTree, jets: JetCollection, start: int, stop: int) -> np.ndarray:
    """Offsets [E + 1] of the jets of the events start:stop."""
    branch = next(c.branch for c in jets.momentum.values() if c.branch is not None)
    offsets = tree.lists([branch], start, stop)[branch].offsets
    if offsets is None:
        raise LayoutError(
            f"branch '{branch}' has one number an event, and so is no jet collection", where=tree.where
        )
    return offsets


def resolve(
    tree: EventTree, jets: JetCollection, offsets: np.ndarray, start: int, stop: int
) -> tuple[Links, list[tuple[Candidates, int, np.ndarray | None]]]:
    """The links of the events start:stop, and the candidate collections they lead into: (collection, flat
    position of its first candidate, offsets [E + 1]; None for lists in the jets themselves).

    Raises:
        DataError: a link whose parts differ in length.
    """
    link = jets.link
    assert link is not None
    if isinstance(link, NestedLists):
        first = next(c.branch for c in jets.candidates[0].columns.values() if c.branch is not None)
        nested = tree.nested(first, start, stop)
        _same(offsets, nested.objects, jets.name, first, tree.where, start)
        return links.from_lists(nested.counts), [(jets.candidates[0], 0, None)]
    if isinstance(link, ReferenceLink):
        return _references(tree, jets, link, offsets, start, stop)
    if isinstance(link, TableLink):
        flat = tree.lists([link.jet, link.index], start, stop)
        rows = _offsets(flat[link.jet].offsets, link.jet, tree.where)
        _same(
            rows,
            _offsets(flat[link.index].offsets, link.index, tree.where),
            link.jet,
            link.index,
            tree.where,
            start,
        )
        placed = _placed(tree, jets.candidates, start, stop)
        candidates = placed[0][2] if placed else np.zeros_like(offsets)
        assert candidates is not None
        numbers = flat[link.jet].content, flat[link.index].content
        resolved = links.from_table(offsets, candidates, rows, *numbers, into=link.into)
        return resolved, placed
    if isinstance(link, ElementLink):
        objects, counts, keys, index = _element_parts(tree, link, start, stop)
        _same(offsets, objects, jets.name, link.branch, tree.where, start)
        used = {int(k) for k in np.unique(keys)}
        wanted = {link.containers[k] for k in used if k in link.containers}
        placed = _placed(tree, [c for c in jets.candidates if c.name in wanted], start, stop)
        where = {c.name: (base, at) for c, base, at in placed if at is not None}
        containers = {k: where[n] for k, n in link.containers.items() if k in used and n in where}
        names = {**link.names, **link.containers}
        return links.from_elements(offsets, counts, keys, index, containers, names), placed
    assert isinstance(link, ObjectLink)
    flat = tree.lists([link.begin, link.end, link.index, link.collection], start, stop)
    rows = _offsets(flat[link.index].offsets, link.index, tree.where)
    ids = {
        int(i) & 0xFFFFFFFF for i in np.unique(flat[link.collection].content[flat[link.index].content >= 0])
    }
    named = {int(k) & 0xFFFFFFFF: n for k, n in link.containers.items()}
    wanted = {named[i] for i in ids if i in named}
    placed = _placed(tree, [c for c in jets.candidates if c.name in wanted], start, stop)
    where = {c.name: (base, at) for c, base, at in placed if at is not None}
    for name in (link.begin, link.end):
        own = _offsets(flat[name].offsets, name, tree.where)
        _same(offsets, own, jets.name, name, tree.where, start)
    relation = _offsets(flat[link.collection].offsets, link.collection, tree.where)
    _same(rows, relation, link.index, link.collection, tree.where, start)
    begin, end = flat[link.begin].content.astype(np.int64), flat[link.end].content.astype(np.int64)
    if (end < begin).any():
        bad = int(np.argmax(end < begin))
        raise DataError(
            f"a jet of '{jets.name}' has constituents from row {begin[bad]} to {end[bad]} of a relation",
            where=f"{tree.where}, entry {start + int(links.events_of(offsets)[bad])}",
            mend="the file is damaged; write it again",
        )
    resolved = links.from_objects(
        offsets,
        begin,
        end,
        rows,
        flat[link.index].content,
        flat[link.collection].content,
        {i: where[named[i]] for i in ids if i in named and named[i] in where},
        {**link.names, **link.containers},
    )
    return resolved, placed


def columns_of(
    tree: EventTree,
    collections: Sequence[Candidates],
    placed: Sequence[tuple[Candidates, int, np.ndarray | None]],
    wanted: Sequence[str] | None,
    start: int,
    stop: int,
) -> dict[str, np.ndarray]:
    """Columns of all candidates behind each other, float32, with px, py, pz and energy in front. A column
    that one collection lacks is zero there.

    Args:
        collections: all that links may lead into; which columns there are depends on them alone, not on where
            the links of these events lead.
        placed: those that are read.
        wanted: columns besides the momentum; None for all of the canonical ones.

    Raises:
        LayoutError: a column that no collection has.
    """
    known = dict.fromkeys(n for c in collections for n in (*available(c), *c.further))
    for name in wanted or ():
        if collections and name not in _IMPLIED and name not in known:
            raise LayoutError(
                f"{' and '.join(repr(c.name) for c in collections)} have no column '{name}'"
                if len(collections) > 1
                else f"'{collections[0].name}' has no column '{name}'",
                where=tree.where,
                mend=did_you_mean(name, known, noun="columns at hand"),
            )
    parts = [_collection(tree, c, at, wanted, start, stop) for c, _, at in placed]
    asked = dict.fromkeys(n for c in collections for n in available(c)) if wanted is None else wanted
    names = ("px", "py", "pz", "energy", *(n for n in asked if n not in _IMPLIED))
    out = {}
    for name in dict.fromkeys(names):
        columns = [p[name] if name in p else np.zeros(len(p["px"]), dtype=np.float32) for p in parts]
        out[name] = columns[0] if len(columns) == 1 else np.concatenate([np.zeros(0, np.float32), *columns])
    return out


_IMPLIED = (
    "px",
    "py",
    "pz",
    "energy",
    "pt",
    "eta",
    "phi",
    "mass",
    "delta_eta",
    "delta_phi",
    "jet_pt",
    "jet_energy",
)


def available(candidates: Candidates) -> list[str]:
    """Canonical columns of a collection besides its momentum."""
    derived = made_by(candidates.derive, set(candidates.columns))
    names = [n for n in (*candidates.columns, *derived) if n not in _IMPLIED and n not in INTERMEDIATE]
    return list(dict.fromkeys(names))


def _collection(
    tree: EventTree,
    candidates: Candidates,
    offsets: np.ndarray | None,
    wanted: Sequence[str] | None,
    start: int,
    stop: int,
) -> dict[str, np.ndarray]:
    keep = available(candidates) if wanted is None else [n for n in wanted if n not in _IMPLIED]
    derived = made_by(candidates.derive, set(candidates.columns))
    source = {**candidates.further, **candidates.columns}
    names = _momentum_columns(candidates)
    for name in keep:
        if name in candidates.columns or name in candidates.further:
            names.append(name)
    for name in dict.fromkeys(derived[n] for n in (*keep, *names) if n in derived):
        names += [*DERIVED[name].needs, *(t for t in DERIVED[name].takes if t in candidates.columns)]
    names = [n for n in dict.fromkeys(names) if n in source]
    flat = _read(tree, [source[n].branch for n in names], offsets, candidates.name, start, stop)
    size = next(iter(flat.values())).shape[0] if flat else 0
    columns = with_derived(candidates.derive, filled({n: source[n] for n in names}, flat, size))
    out = cartesian(columns, candidates.name, tree.where)
    return out | {n: columns[n].astype(np.float32, copy=False) for n in keep if n in columns and n not in out}


def _read(
    tree: EventTree,
    branches: Iterable[str | None],
    offsets: np.ndarray | None,
    name: str,
    start: int,
    stop: int,
) -> dict[str, np.ndarray]:
    wanted = [b for b in dict.fromkeys(branches) if b is not None]
    if offsets is None:
        lists = {b: tree.nested(b, start, stop) for b in wanted}
        for branch, nested in lists.items():
            _same_inner(lists[wanted[0]], nested, wanted[0], branch, tree.where, start)
        return {b: _numbers(nested.content) for b, nested in lists.items()}
    out = {}
    for branch, flat in tree.lists(wanted, start, stop).items():
        at = _offsets(flat.offsets, branch, tree.where)
        _same(offsets, at, name, branch, tree.where, start)
        out[branch] = flat.content
    return out


def _momentum_columns(candidates: Candidates) -> list[str]:
    at_hand = {*candidates.columns, *made_by(candidates.derive, set(candidates.columns))}
    for form in FORMS:
        if set(form) <= at_hand:
            return [*form, *(n for n in ("energy", "mass") if n in at_hand)]
    raise LayoutError(
        f"no momentum among the columns of '{candidates.name}'", mend="map px, py, pz or pt, eta, phi"
    )


def cartesian(columns: dict[str, np.ndarray], name: str, where: str) -> dict[str, np.ndarray]:
    """px, py, pz and energy; massless where neither energy nor mass is known."""
    single = {
        n: columns[n].astype(np.float32, copy=False)
        for n in columns
        if n in (*FORMS[0], *FORMS[1], "energy", "mass")
    }
    if not set(FORMS[0]) <= single.keys():
        single["px"], single["py"], single["pz"] = momentum_of(single["pt"], single["eta"], single["phi"])
    if "energy" not in single:
        with np.errstate(over="ignore", invalid="ignore"):
            squared = single["px"] ** 2 + single["py"] ** 2 + single["pz"] ** 2
            single["energy"] = np.sqrt(squared + single["mass"] ** 2 if "mass" in single else squared)
    return {n: single[n] for n in ("px", "py", "pz", "energy")}


def _placed(
    tree: EventTree, candidates: Iterable[Candidates], start: int, stop: int
) -> list[tuple[Candidates, int, np.ndarray | None]]:
    base = 0
    out: list[tuple[Candidates, int, np.ndarray | None]] = []
    for item in candidates:
        branch = next(c.branch for c in item.columns.values() if c.branch is not None)
        offsets = _offsets(tree.lists([branch], start, stop)[branch].offsets, branch, tree.where)
        out.append((item, base, offsets))
        base += int(offsets[-1])
    return out


def _references(
    tree: EventTree, jets: JetCollection, link: ReferenceLink, offsets: np.ndarray, start: int, stop: int
) -> tuple[Links, list[tuple[Candidates, int, np.ndarray | None]]]:
    nested = tree.nested(link.branch, start, stop)
    _same(offsets, nested.objects, jets.name, link.branch, tree.where, start)
    placed: list[tuple[Candidates, int, np.ndarray | None]] = []
    events, ids, base = [], [], 0
    for item in jets.candidates:
        assert item.ids is not None
        flat = tree.lists([item.ids], start, stop)[item.ids]
        at = _offsets(flat.offsets, item.ids, tree.where)
        placed.append((item, base, at))
        events.append(links.events_of(at))
        ids.append(flat.content)
        base += int(at[-1])
    empty = np.zeros(0, dtype=np.int64)
    resolved = links.from_references(
        offsets,
        nested.counts,
        _numbers(nested.content),
        np.concatenate(events) if events else empty,
        np.concatenate(ids) if ids else empty,
    )
    return resolved, placed


def _element_parts(
    tree: EventTree, link: ElementLink, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(offsets [E + 1] of the jets, links of each jet, keys, indices) of a branch of element links."""
    split = f"{link.branch}.m_persKey"
    if link.branch not in tree.kinds and split in tree.kinds:
        keys = tree.nested(split, start, stop)
        index = tree.nested(f"{link.branch}.m_persIndex", start, stop)
        _same_inner(keys, index, split, f"{link.branch}.m_persIndex", tree.where, start)
        return keys.objects, keys.counts, _numbers(keys.content), _numbers(index.content)
    nested = tree.nested(link.branch, start, stop)
    parts = [_numbers(nested.content[part]) for part in ("m_persKey", "m_persIndex")]
    return nested.objects, nested.counts, parts[0], parts[1]


def _numbers(array: ak.Array) -> np.ndarray:
    out: np.ndarray = ak.to_numpy(array, allow_missing=False)
    return out


def _offsets(offsets: np.ndarray | None, branch: str, where: str) -> np.ndarray:
    if offsets is None:
        raise LayoutError(
            f"branch '{branch}' has one number an event",
            where=where,
            mend="name a branch with a list an event",
        )
    return offsets


def _same(a: np.ndarray, b: np.ndarray, one: str, other: str, where: str, start: int) -> None:
    """Refuses two branches of one collection whose lists differ in length."""
    if a is b or np.array_equal(a, b):
        return
    bad = int(np.nonzero(np.diff(a) != np.diff(b))[0][0])
    raise DataError(
        f"'{one}' and '{other}' have {np.diff(a)[bad]} and {np.diff(b)[bad]} objects",
        where=f"{where}, entry {start + bad}",
        mend="the file is damaged, or these branches belong to different collections",
    )


def _same_inner(a: Nested, b: Nested, one: str, other: str, where: str, start: int) -> None:
    """Refuses two branches of lists within lists whose lists differ in length."""
    _same(a.objects, b.objects, one, other, where, start)
    if a is b or np.array_equal(a.counts, b.counts):
        return
    bad = int(np.nonzero(a.counts != b.counts)[0][0])
    raise DataError(
        f"'{one}' and '{other}' have {a.counts[bad]} and {b.counts[bad]} numbers in one jet",
        where=f"{where}, entry {start + int(links.events_of(a.objects)[bad])}",
        mend="the file is damaged, or these branches belong to different collections",
    )
