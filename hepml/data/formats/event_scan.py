"""Which jet collections an event file has, and which one is meant.

Without a name it is the widest reconstructed collection whose constituents are in the file; a collection
whose links lead into one that the file does not keep is refused by name, with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.resolve import jet_offsets, resolve
from hepml.data.layouts import own
from hepml.data.layouts.collections import Candidates, ElementLink, JetCollection, ObjectLink
from hepml.data.layouts.event_layout import EventLayout
from hepml.data.layouts.families import FAMILIES, jet_collections
from hepml.data.reading.links import BEYOND
from hepml.errors import HepmlError, LayoutError, did_you_mean

PEEK = 500  # events that are looked into to see whether links lead anywhere
STEP = 2_000  # events a chunk

_NONE = "a file of one jet an entry needs its own layout: --layout NAME (a run keeps that of its training)"


@dataclass(frozen=True)
class Chosen:
    """The jet collection to read from a tree.

    Args:
        jets: the collection.
        others: names of further collections with constituents.
        named: whether it was asked for by name.
        left_out: branches that begin as the collection's do, but hold no number a jet.
    """

    jets: JetCollection
    others: tuple[str, ...] = ()
    named: bool = False
    left_out: tuple[str, ...] = ()


@dataclass
class Census:
    """What one collection holds.

    Args:
        name: of the collection.
        jets, constituents: how many.
        lost_links: links that lead to nothing in the file.
        null_links: links that are empty by the format's rules.
        lost_to: where lost links lead.
        most: constituents of the largest jet.
        radius, unit: see `JetCollection`.
        candidates: the collections in which constituents were found.
        linked: whether the file has a link at all.
        problem: why its constituents cannot be read.
    """

    name: str
    jets: int = 0
    constituents: int = 0
    lost_links: int = 0
    null_links: int = 0
    lost_to: dict[str, int] = field(default_factory=dict)
    most: int = 0
    radius: float | None = None
    unit: str = "GeV"
    candidates: tuple[str, ...] = ()
    linked: bool = True
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values. `lost_links` are all links that lead to no constituent, null ones included;
        `unkept_links` those of them that lead into a collection which the file does not keep."""
        return {
            **{k: v for k, v in self.__dict__.items() if k not in ("candidates", "lost_links")},
            "lost_links": self.lost_links + self.null_links,
            "unkept_links": self.lost_links,
            "candidates": list(self.candidates),
            "constituents_per_jet": self.constituents / self.jets if self.jets else 0.0,
        }


def recognises(branches: Mapping[str, str]) -> bool:
    """Whether some event layout knows these branches."""
    return any(known(branches) for known, _ in FAMILIES.values())


def find(
    tree: EventTree, layout: EventLayout | None, ids: Mapping[int, str] | None = None
) -> list[JetCollection]:
    """The jet collections of a tree, each with where its links may lead."""
    family = layout.family if layout else None
    collections = jet_collections(tree.kinds, family, ids)
    return [with_targets(tree, jets, ids) for jets in collections]


def choose(
    tree: EventTree,
    collections: Sequence[JetCollection],
    layout: EventLayout | None,
    ids: Mapping[int, str] | None = None,
) -> Chosen:
    """The collection that the layout names, or the widest with constituents.

    Args:
        ids: EDM4hep's collection ids, from the file's metadata.

    Raises:
        LayoutError: no such collection, one without constituents, or one whose constituents the file does
            not keep.
    """
    layout = layout or EventLayout(name="events", constituents=())
    chosen = _choose(tree, collections, layout, ids)
    left_out = _of_others(tree, chosen.jets)
    if not left_out:
        return chosen
    columns = {b: s for b, s in chosen.jets.columns.items() if b not in left_out}
    return replace(chosen, jets=chosen.jets.with_(columns=columns), left_out=left_out)


def _of_others(tree: EventTree, jets: JetCollection) -> tuple[str, ...]:
    """Branches among the collection's columns whose lists are of another length than the jets': a prefix such
    as `jet_` says less than the names of experiments do."""
    if jets.layout not in ("nested", "own") or not tree.entries:
        return ()
    stop = min(PEEK, tree.entries)
    lengths = jet_offsets(tree, jets, 0, stop)
    own = tree.lists(jets.columns, 0, stop)
    return tuple(
        b for b, flat in own.items() if flat.offsets is None or not np.array_equal(flat.offsets, lengths)
    )


def _choose(
    tree: EventTree,
    collections: Sequence[JetCollection],
    layout: EventLayout,
    ids: Mapping[int, str] | None,
) -> Chosen:
    by_name = {jets.name: jets for jets in collections}
    wanted = layout.collection
    if wanted is not None:
        if wanted not in by_name and layout.link is None:
            raise LayoutError(
                f"jet collection '{wanted}' not found",
                where=tree.where,
                mend=did_you_mean(wanted, by_name, noun="jet collections at hand") if by_name else _NONE,
            )
        like = next(iter(collections), None)
        jets = own.complete(by_name.get(wanted), layout, tree.kinds, tree.where, like)
        if layout.link is not None:
            jets = with_targets(tree, jets, ids)
        _refuse(
            peek(tree, jets),
            jets,
            [n for n, j in by_name.items() if j.link is not None and n != wanted],
            tree.where,
        )
        return Chosen(jets, tuple(n for n, j in by_name.items() if j.link and n != wanted), named=True)
    order = sorted(collections, key=lambda j: (j.truth, -(j.radius or 0.0), j.name.endswith("Puppi")))
    usable = []
    examined: list[tuple[JetCollection, Census]] = []
    for jets in order:
        if jets.link is None:
            continue
        census = peek(tree, jets)
        examined.append((jets, census))
        if census.constituents and not census.lost_links and census.problem is None:
            usable.append(jets)
            if len(usable) == 1 and not jets.truth:
                break
    if usable:
        rest = tuple(j.name for j in order if j.link is not None and j.name != usable[0].name)
        jets = (
            own.complete(usable[0], layout, tree.kinds, tree.where)
            if layout.jet or layout.link
            else usable[0]
        )
        return Chosen(jets, rest)
    if (
        examined
        and not any(c.constituents or c.lost_links for _, c in examined)
        and not any(c.problem for _, c in examined)
    ):
        return Chosen(examined[0][0], tuple(j.name for j, _ in examined[1:]))  # linked, but the file is empty
    raise _none_usable(examined, collections, tree.where)


def census(tree: EventTree, jets: JetCollection, start: int = 0, stop: int | None = None) -> Census:
    """Counts over the events start:stop, in bounded memory."""
    stop = tree.entries if stop is None else stop
    out = Census(
        jets.name,
        radius=jets.radius,
        unit="MeV" if jets.unit == 1e-3 else "GeV",
        linked=jets.link is not None,
    )
    names: dict[str, None] = {}
    try:
        for low in range(start, stop, STEP):
            high = min(low + STEP, stop)
            offsets = jet_offsets(tree, jets, low, high)
            out.jets += int(offsets[-1])
            if jets.link is None:
                continue
            links, placed = resolve(tree, jets, offsets, low, high)
            out.constituents += len(links.index)
            out.lost_links += links.lost
            out.null_links += links.null
            out.most = max(out.most, int(links.counts.max(initial=0)))
            for name, number in links.towards.items():
                out.lost_to[name] = out.lost_to.get(name, 0) + number
            edges = np.array([base for _, base, _ in placed] + [np.iinfo(np.int64).max])
            used = set((np.searchsorted(edges, links.index, side="right") - 1).tolist()) if placed else set()
            names |= dict.fromkeys(c.name for i, (c, _, _) in enumerate(placed) if i in used)
    except HepmlError as problem:
        out.problem = str(problem)
    out.candidates = tuple(names)
    return out


def peek(tree: EventTree, jets: JetCollection) -> Census:
    """`census` of the first events; on, where they hold no link at all."""
    out = census(tree, jets, 0, min(PEEK, tree.entries))
    at = PEEK
    while (
        not (out.constituents or out.lost_links or out.problem)
        and jets.link is not None
        and at < tree.entries
    ):
        following = census(tree, jets, at, min(at + 20 * PEEK, tree.entries))
        at += 20 * PEEK
        following.jets += out.jets
        following.null_links += out.null_links
        out = following
    return out


def lost_links(
    jets: JetCollection, lost: int, total: int, towards: Mapping[str, int], where: str
) -> LayoutError:
    """The error for links that lead to nothing: how many, and where they lead."""
    named = ", ".join(f"{n:,} to '{name}'" for name, n in towards.items())
    if towards and all(name.startswith(BEYOND) for name in towards):
        return LayoutError(
            f"{lost:,} of {total:,} links of '{jets.name}' lead to no constituent ({named})",
            where=where,
            mend="the file is damaged, or these branches belong to different collections",
        )
    kept = jets.link.containers.values() if isinstance(jets.link, ElementLink | ObjectLink) else ()
    named_only = [c.name for c in jets.candidates]
    if any(name in kept and name not in named_only for name in towards):
        only = ", ".join(f"'{name}'" for name in named_only)
        return LayoutError(
            f"{lost:,} of {total:,} links of '{jets.name}' lead to constituents outside {only} ({named})",
            where=where,
            mend="name a collection that all links lead into, or none: then all that the file keeps are read",
        )
    return LayoutError(
        f"{lost:,} of {total:,} links of '{jets.name}' lead to constituents that the file does not keep "
        f"({named})",
        where=where,
        mend="take another jet collection, or a file that keeps them",
    )


def with_targets(tree: EventTree, jets: JetCollection, ids: Mapping[int, str] | None) -> JetCollection:
    """The collections that the ids of a relation are of. Where the file has no table of them, its only id is
    taken for the first collection of particles that is long enough in every event."""
    link = jets.link
    if not isinstance(link, ObjectLink) or link.containers or not tree.entries:
        return jets
    if ids:
        kept = {key: name for key, name in ids.items() if f"{name}.momentum.x" in tree.kinds}
        return jets.with_(link=replace(link, containers=kept, names=dict(ids)))
    stop = min(PEEK, tree.entries)
    flat = tree.lists([link.index, link.collection], 0, stop)
    index, keys = flat[link.index], flat[link.collection]
    assert index.offsets is not None
    events = np.repeat(np.arange(stop), np.diff(index.offsets))
    used = [int(key) for key in np.unique(keys.content[index.content >= 0])]
    if len(used) != 1:
        return jets
    found = [c.name for c in jets.candidates if _long_enough(tree, c, events, index.content, stop)]
    return jets.with_(link=replace(link, containers=dict(zip(used, found, strict=False))))


def _long_enough(
    tree: EventTree, candidates: Candidates, events: np.ndarray, index: np.ndarray, stop: int
) -> bool:
    branch = next(c.branch for c in candidates.columns.values() if c.branch is not None)
    offsets = tree.lists([branch], 0, stop)[branch].offsets
    return offsets is not None and bool((index < np.diff(offsets)[events]).all())


def _refuse(census: Census, jets: JetCollection, others: Sequence[str], where: str) -> None:
    if jets.link is None:
        raise LayoutError(
            f"jet collection '{jets.name}' has no link to constituents in this file",
            where=where,
            mend=f"collections with constituents: {', '.join(others)}"
            if others
            else "give a file that keeps them (NanoAOD from v15 on, PFNano), or layout.constituents",
        )
    if census.problem is not None:
        raise LayoutError(census.problem, where=where if where not in census.problem else None)
    if census.lost_links:
        total = census.lost_links + census.constituents + census.null_links
        raise lost_links(jets, census.lost_links, total, census.lost_to, where)


def _none_usable(
    examined: Sequence[tuple[JetCollection, Census]], collections: Sequence[JetCollection], where: str
) -> LayoutError:
    lost = next(((j, c) for j, c in examined if c.lost_links), None)
    if lost is not None:
        jets, c = lost
        return lost_links(jets, c.lost_links, c.lost_links + c.constituents + c.null_links, c.lost_to, where)
    problem = next((c.problem for _, c in examined if c.problem), None)
    names = ", ".join(j.name for j in collections)
    return LayoutError(
        problem or f"no jet collection with constituents ({names} have none)",
        where=None if problem else where,
        mend=None
        if problem
        else "give a file that keeps them (NanoAOD from v15 on, PFNano), or layout.constituents",
    )
