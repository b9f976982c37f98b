"""CMS NanoAOD (v15 and later) and PFNano: flat lists by prefix, constituents through an index table.

`FatJetPFCand_jetIdx` and `FatJetPFCand_pfCandIdx` lead to `PFCand_*` (NanoAOD), `FatJetPFCands_jetIdx` and
`FatJetPFCands_pFCandsIdx` to `PFCands_*` (PFNano); likewise for `Jet` and for generator jets. Impact
parameters are in cm there and in mm here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hepml.data.layouts.collections import (
    Candidates,
    JetCollection,
    TableLink,
    is_list,
    list_columns,
    radius_of,
)
from hepml.data.reading.columns import Column

CM = 10.0  # to mm
EVENT = {"run": "run", "luminosityBlock": "luminosityBlock", "event": "event", "genWeight": "genWeight"}
_TABLE = re.compile(r"^(?P<table>\w+?(?:PFCands?|Cands?|Constituents?))_jetIdx$")
_INDEX = re.compile(r"^(pf?Cands?|pFCands?|candidate|cand|genCands?|particle)Idx$", re.IGNORECASE)
_GENERATED = {"GenFatJet": "GenJetAK8"}
_COLUMNS = {
    "charge": ("charge", 1.0),
    "d0": ("d0", CM),
    "d0_error": ("d0Err", CM),
    "dz": ("dz", CM),
    "dz_error": ("dzErr", CM),
    "pdg_id": ("pdgId", 1.0),
}
FLAVOUR = {"b": "hadronFlavour == 5", "c": "hadronFlavour == 4", "light": "hadronFlavour == 0"}


def find(branches: Mapping[str, str]) -> list[JetCollection]:
    """The jet collections of a tree of flat lists."""
    tables = {}
    for name in branches:
        if match := _TABLE.match(name):
            table = match["table"]
            jets = re.sub(r"(PFCands?|Cands?|Constituents?)$", "", table)
            tables[_GENERATED.get(jets, jets)] = table
    names = [n.removesuffix("_pt") for n, kind in branches.items() if n.endswith("_pt") and is_list(kind)]
    names = [n for n in names if f"{n}_eta" in branches and f"{n}_phi" in branches]
    collections = []
    for name in names:
        if name not in tables and not re.search(r"Jets?(AK\d+|Puppi|CHS)?$", name):
            continue
        if re.match(r"(Sub|CorrT1|SoftActivity)", name):
            continue
        collections.append(_jets(name, tables.get(name), branches))
    return collections if tables or any(n in names for n in ("FatJet", "Jet")) else []


def recognises(branches: Mapping[str, str]) -> bool:
    """Whether this tree is NanoAOD-like: collections with their counters."""
    return any(
        f"n{name}" in branches and f"{name}_pt" in branches for name in ("Jet", "FatJet", "PFCand", "PFCands")
    ) or any(_TABLE.match(name) for name in branches)


def _jets(name: str, table: str | None, branches: Mapping[str, str]) -> JetCollection:
    link: TableLink | None = None
    candidates: tuple[Candidates, ...] = ()
    if table is not None:
        link, candidates = _link(table, branches)
    momentum = {k: Column(f"{name}_{b}") for k, b in _momentum(name, branches).items()}
    has_flavour = f"{name}_hadronFlavour" in branches
    return JetCollection(
        name=name,
        layout="pfnano" if table and table.endswith("s") else "nanoaod",
        momentum=momentum,
        columns=list_columns(branches, f"{name}_"),
        candidates=candidates,
        link=link,
        radius=radius_of(name),
        truth=name.startswith("Gen"),
        event={k: b for k, b in EVENT.items() if b in branches},
        labels=FLAVOUR if has_flavour else {},
        raw=f"{name}_rawFactor" if f"{name}_rawFactor" in branches else None,
    )


def _momentum(name: str, branches: Mapping[str, str]) -> dict[str, str]:
    wanted = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", "energy": "energy"}
    return {k: b for k, b in wanted.items() if f"{name}_{b}" in branches}


def _link(table: str, branches: Mapping[str, str]) -> tuple[TableLink | None, tuple[Candidates, ...]]:
    for branch, short in list_columns(branches, f"{table}_").items():
        if not _INDEX.match(short):
            continue
        stem = short[: -len("Idx")]
        names = [stem, stem[0].upper() + stem[1:], "PFCands", "PFCand", "PFCandidates"]
        if table.startswith("Gen"):
            names = ["GenCands", "GenCand", "GenPart", *names]
        names += [name.upper()[:2] + name[2:] for name in names]
        for name in dict.fromkeys(names):
            if f"{name}_pt" in branches:
                return TableLink(f"{table}_jetIdx", branch), (candidates_named(name, branches),)
        into = f"{stem[:2].upper()}{stem[2:]}" if stem[:2].lower() == "pf" else f"{stem[0].upper()}{stem[1:]}"
        return TableLink(f"{table}_jetIdx", branch, into), ()
    return None, ()


def collection_named(name: str, branches: Mapping[str, str]) -> Candidates | None:
    """Any collection with a momentum by its prefix."""
    if not all(is_list(branches.get(f"{name}_{b}", "")) for b in ("pt", "eta", "phi")):
        return None
    return candidates_named(name, branches)


def candidates_named(name: str, branches: Mapping[str, str]) -> Candidates:
    """A collection of particle-flow candidates by its prefix."""
    columns = {k: Column(f"{name}_{b}") for k, b in _momentum(name, branches).items()}
    for column, (branch, unit) in _COLUMNS.items():
        if f"{name}_{branch}" in branches:
            columns[column] = Column(f"{name}_{branch}", unit=unit)
    used = {c.branch for c in columns.values()}
    further = {s: Column(b) for b, s in list_columns(branches, f"{name}_").items() if b not in used}
    return Candidates(name, columns, ("identity",) if "pdg_id" in columns else (), further)
