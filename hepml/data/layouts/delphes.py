"""Delphes: branches `Jet.PT` under `Jet`, constituents as TRefs matched by event and unique id.

A card may build jets from tracks, towers, energy-flow objects or one `ParticleFlowCandidate` collection, and
need not write what it built them from; links to a collection that was not written are lost and counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from hepml.data.layouts.collections import Candidates, JetCollection, ReferenceLink, is_list, radius_of
from hepml.data.reading.columns import Column

# where a jet's references may lead, in the order in which equal ids are understood
_FLOW = ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron", "ParticleFlowCandidate", "Track", "Tower")
_TARGETS = {"Gen": ("Particle",), "Calo": ("Tower", *_FLOW), "Track": ("Track", *_FLOW)}
_KIND = {
    "EFlowPhoton": "is_photon",
    "EFlowNeutralHadron": "is_neutral_hadron",
}
FLAVOUR = {"b": "Flavor == 5", "c": "Flavor == 4", "light": "Flavor != 5 & Flavor != 4"}


def recognises(branches: Mapping[str, str]) -> bool:
    """Whether jets with TRefArrays are there."""
    return any(
        name.endswith(".Constituents") and "TRefArray" in kind for name, kind in branches.items()
    ) or any(n.endswith(".PT") and n[:-3] in ("Jet", "FatJet", "GenJet") for n in branches)


def find(branches: Mapping[str, str]) -> list[JetCollection]:
    """The jet collections of a Delphes tree."""
    names = [
        n[: -len(".PT")]
        for n in branches
        if n.endswith(".PT") and "Jet" in n and f"{n[:-3]}.Mass" in branches
    ]
    return [_jets(name, branches) for name in names]


def _jets(name: str, branches: Mapping[str, str]) -> JetCollection:
    linked = f"{name}.Constituents" in branches
    targets = next((t for start, t in _TARGETS.items() if name.startswith(start)), _FLOW)
    candidates = tuple(
        candidates_named(target, branches) for target in targets if f"{target}.fUniqueID" in branches
    )
    return JetCollection(
        name=name,
        layout="delphes",
        momentum={
            k: Column(f"{name}.{b}")
            for k, b in (("pt", "PT"), ("eta", "Eta"), ("phi", "Phi"), ("mass", "Mass"))
        },
        columns={
            b: b.split(".", 1)[1]
            for b, kind in branches.items()
            if b.startswith(f"{name}.") and is_list(kind) and not b.endswith(("fUniqueID", "fBits"))
        },
        candidates=candidates,
        link=ReferenceLink(f"{name}.Constituents") if linked else None,
        radius=radius_of(name),
        truth=name.startswith("Gen"),
        event={k: b for k, b in (("event", "Event.Number"), ("genWeight", "Event.Weight")) if b in branches},
        labels=FLAVOUR if f"{name}.Flavor" in branches else {},
    )


def collection_named(name: str, branches: Mapping[str, str]) -> Candidates | None:
    """Any collection with a momentum."""
    there = {b for b in ("PT", "ET", "Eta", "Phi") if is_list(branches.get(f"{name}.{b}", ""))}
    return candidates_named(name, branches) if {"Eta", "Phi"} < there else None


def candidates_named(name: str, branches: Mapping[str, str]) -> Candidates:
    at = f"{name}."
    pt = "PT" if f"{at}PT" in branches else "ET"
    columns = {"pt": Column(f"{at}{pt}"), "eta": Column(f"{at}Eta"), "phi": Column(f"{at}Phi")}
    # a tower is massless: its energy and its transverse energy say the same
    further_columns = {
        "mass": "Mass",
        "charge": "Charge",
        "pdg_id": "PID",
        "d0": "D0",
        "d0_error": "ErrorD0",
        "dz": "DZ",
        "dz_error": "ErrorDZ",
    }
    columns |= {k: Column(at + b) for k, b in further_columns.items() if at + b in branches}
    if name in _KIND:
        columns[_KIND[name]] = Column(constant=1.0)
        columns["charge"] = Column(constant=0.0)
    used = {c.branch for c in columns.values()}
    further = {
        b[len(at) :]: Column(b)
        for b, kind in branches.items()
        if b.startswith(at) and is_list(kind) and b not in used
    }
    derive = ("identity",) if "pdg_id" in columns else ()
    return Candidates(name, columns, derive, further, ids=f"{at}fUniqueID")
