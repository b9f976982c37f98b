"""Jet collections that a layout in YAML spells out: collections by prefix, and the link between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from hepml.data.layouts import families, physlite
from hepml.data.layouts.collections import (
    Candidates,
    ElementLink,
    JetCollection,
    Link,
    NestedLists,
    ObjectLink,
    ReferenceLink,
    TableLink,
    event_branches,
    is_list,
    is_nested,
    radius_of,
)
from hepml.data.layouts.event_layout import EventLayout, OwnLink
from hepml.data.reading.columns import Column
from hepml.data.reading.layout import missing_branch
from hepml.errors import LayoutError, did_you_mean

# spellings of a column, lowered
SPELT = {
    "px": ("px", "momentum.x"),
    "py": ("py", "momentum.y"),
    "pz": ("pz", "momentum.z"),
    "energy": ("energy", "e", "ene"),
    "pt": ("pt", "et"),
    "eta": ("eta",),
    "phi": ("phi",),
    "mass": ("mass", "m"),
    "charge": ("charge", "q"),
    "pdg_id": ("pdgid", "pdg_id", "pid", "pdg"),
    "d0": ("d0",),
    "d0_error": ("d0err", "d0_error", "errord0"),
    "dz": ("dz", "z0"),
    "dz_error": ("dzerr", "dz_error", "errordz"),
}
SEPARATORS = "_./:"


def complete(
    recognised: JetCollection | None,
    layout: EventLayout,
    branches: Mapping[str, str],
    where: str,
    like: JetCollection | None = None,
) -> JetCollection:
    """The collection that the layout describes: what it spells out over what the file tells.

    Args:
        recognised: what the file's own layout says of the collection, or None.
        like: another jet collection of the file, which says what its family is.

    Raises:
        LayoutError: a collection or a branch that is not there.
    """
    name = layout.collection or (recognised.name if recognised else "")
    jets = recognised or _jets(name, branches, where, like)
    if layout.jet:
        replaced = ("px", "py", "pz") if {"pt", "eta", "phi"} & layout.jet.keys() else ()
        momentum = {**{n: c for n, c in jets.momentum.items() if n not in replaced}, **layout.jet}
        for column in layout.jet.values():
            _there(column.branch, branches, where)
        jets = jets.with_(momentum=momentum)
    own = layout.link
    if own is None:
        return jets
    candidates = candidates_of(own, jets, branches, where)
    if not own.kind:
        known = [c for c in jets.candidates if c.name == own.collection]
        if jets.link is None:
            raise LayoutError(
                f"the file does not say how '{jets.name}' leads to '{own.collection}'",
                where=where,
                mend="give constituents.link",
            )
        return jets.with_(candidates=(candidates if not known or own.columns else known[0],))
    link = _link(own, jets, candidates, branches, where)
    return jets.with_(candidates=(candidates,), link=link)


def group(name: str, branches: Mapping[str, str], nested: bool = False) -> dict[str, str]:
    """Short name -> branch of a collection's columns of numbers (or lists of numbers)."""
    kind_fits = is_nested if nested else is_list
    size = len(name)
    out: dict[str, str] = {}
    for branch, kind in branches.items():
        if branch.startswith(name) and branch[size : size + 1] in tuple(SEPARATORS) and kind_fits(kind):
            out.setdefault(branch[size + 1 :], branch)
    for stem in (f"{name}Aux", f"{name}AuxDyn"):
        for branch, kind in branches.items():
            if branch.startswith(stem) and branch[len(stem) : len(stem) + 1] in ".:" and kind_fits(kind):
                out.setdefault(branch[len(stem) + 1 :], branch)
    return out


def spelt(columns: Mapping[str, str]) -> dict[str, Column]:
    """The canonical columns among those of a collection."""
    lowered: dict[str, str] = {}
    for short, branch in columns.items():
        lowered.setdefault(short.lower(), branch)
    return {
        column: Column(lowered[word])
        for column, words in SPELT.items()
        for word in words[:1] + tuple(w for w in words[1:] if words[0] not in lowered)
        if word in lowered
    }


def _jets(name: str, branches: Mapping[str, str], where: str, like: JetCollection | None) -> JetCollection:
    found = collection_named(name, like, branches)
    kept = ("px", "py", "pz", "energy", "pt", "eta", "phi", "mass")
    momentum = {k: c for k, c in found.columns.items() if k in kept} if found else {}
    if not ({"pt", "eta", "phi"} <= momentum.keys() or {"px", "py", "pz"} <= momentum.keys()):
        raise LayoutError(
            f"jet collection '{name}' not found: no {name}_pt, {name}_eta, {name}_phi or the like",
            where=where,
            mend=_nearest(name, branches),
        )
    return JetCollection(
        name=name,
        layout=like.layout if like else "own",
        momentum=momentum,
        columns={b: s for s, b in group(name, branches).items()},
        radius=radius_of(name),
        unit=like.unit if like else 1.0,
        event=like.event if like else event_branches(branches),
    )


def collection_named(
    name: str, jets: JetCollection | None, branches: Mapping[str, str], nested: bool = False
) -> Candidates | None:
    """A collection of the file by its name, in GeV and mm as the file's family has it, or by the usual names
    of columns; None where it has no columns.

    Args:
        jets: a jet collection of the same file.
        nested: whether its columns are lists of lists.
    """
    for known in jets.candidates if jets else ():
        if known.name == name:
            return known
    found = families.collection_named(jets.layout, name, branches) if jets and not nested else None
    columns = group(name, branches, nested)
    if not columns:
        return found
    named = {**spelt(columns), **(found.columns if found else {})}
    used = {c.branch for c in named.values()}
    derive = ("identity",) if "pdg_id" in named else ("charged",) if "charge" in named else ()
    return Candidates(
        name,
        named,
        found.derive if found and found.derive else derive,
        {s: Column(b) for s, b in columns.items() if b not in used},
        ids=next((b for s, b in columns.items() if s == "fUniqueID"), None),
    )


def candidates_of(own: OwnLink, jets: JetCollection, branches: Mapping[str, str], where: str) -> Candidates:
    """The collection that a link of the layout names, by its columns.

    Raises:
        LayoutError: no such collection, or one without a momentum.
    """
    known = collection_named(own.collection, jets, branches, own.kind == "nested")
    known = known or Candidates(own.collection, {})
    if own.columns:
        for column in own.columns.values():
            _there(column.branch, branches, where)
        known = replace(known, columns={**known.columns, **own.columns})
    has = known.columns.keys()
    if not ({"pt", "eta", "phi"} <= has or {"px", "py", "pz"} <= has or {"theta", "q_over_p"} <= has):
        raise LayoutError(
            f"constituent collection '{own.collection}' not found, or without a momentum",
            where=where,
            mend=_nearest(own.collection, branches),
        )
    return known


def _link(
    own: OwnLink, jets: JetCollection, candidates: Candidates, branches: Mapping[str, str], where: str
) -> Link:
    given = own.branches

    def branch(part: str, table: str = "") -> str:
        name = given[part]
        for full in (name, *(f"{table}{s}{name}" for s in SEPARATORS if table)):
            if full in branches:
                return full
        raise missing_branch(f"{table}_{name}" if table else name, branches, where)

    if own.kind == "table":
        table = given["table"]
        if "jet" not in given or "index" not in given:
            raise LayoutError(
                "a link by table needs `jet` and `index`",
                where=where,
                mend="link: {table: FatJetPFCands, jet: jetIdx, index: pFCandsIdx}",
            )
        return TableLink(branch("jet", table), branch("index", table))
    if own.kind == "element":
        name = given["element"]
        store = jets.link if isinstance(jets.link, ElementLink) else physlite.element_link(name, branches)
        store_names = (name, *(f"{jets.name}{aux}{name}" for aux in ("AuxDyn.", "AuxDyn:", "Aux.", "Aux:")))
        at = next((b for b in store_names if b in branches or f"{b}.m_persKey" in branches), None)
        if at is None:
            raise missing_branch(name, branches, where)
        return replace(store, branch=at)
    if own.kind == "reference":
        return ReferenceLink(branch("reference", jets.name if given["reference"] not in branches else ""))
    if own.kind == "object":
        relation = given["object"]
        at = next((s for s in SEPARATORS if f"{relation}{s}index" in branches), None)
        if at is None:
            raise missing_branch(f"{relation}.index", branches, where)
        begin = given.get("begin", f"{jets.name}.particles_begin")
        end = given.get("end", f"{jets.name}.particles_end")
        for name in (begin, end):
            _there(name, branches, where)
        names = jets.link.names if isinstance(jets.link, ObjectLink) else {}
        return ObjectLink(begin, end, f"{relation}{at}index", f"{relation}{at}collectionID", names=names)
    return NestedLists()


def _there(branch: str | None, branches: Mapping[str, str], where: str) -> None:
    if branch is not None and branch not in branches:
        raise missing_branch(branch, branches, where)


def _nearest(name: str, branches: Mapping[str, str]) -> str:
    stems = {re.split(r"[_./:]", b, maxsplit=1)[0] for b in branches} - {""}
    return did_you_mean(name, stems, noun="collections at hand")
