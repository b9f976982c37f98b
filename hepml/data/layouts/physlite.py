"""ATLAS PHYSLITE: auxiliary branches `AnalysisJetsAuxDyn.pt` in MeV, constituents as element links.

A link holds the key of a container and the number in it. The key is StoreGate's: 30 bits of the CRC-64 of the
container's name followed by its class id, so that names are found from keys and a container that the file
does not keep is called by its name. Tracks carry theta, phi and q/p.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from hepml.data.layouts.collections import Candidates, ElementLink, JetCollection, is_list, radius_of
from hepml.data.reading.columns import Column

MEV = 1e-3
_POLYNOMIAL = 0x95AC9329AC4BC9B5
# class ids of the containers that jets are made of (xAOD headers, CLASS_DEF)
CLASS_IDS = {
    "TrackParticleContainer": 1287425431,
    "FlowElementContainer": 1158384067,
    "PFOContainer": 1177172577,
    "TruthParticleContainer": 1237340765,
    "JetContainer": 1244316195,
}
# containers that jets are built from and that a derivation may drop
_BUILT_FROM = (
    "UFOCSSK", "UFO", "CHSParticleFlowObjects", "CHSNeutralParticleFlowObjects",
    "GlobalParticleFlowObjects", "GlobalChargedParticleFlowObjects", "GlobalNeutralParticleFlowObjects",
    "JetETMissParticleFlowObjects", "JetETMissChargedParticleFlowObjects",
    "JetETMissNeutralParticleFlowObjects", "CSSKGParticleFlowObjects", "CHSGParticleFlowObjects",
    "TruthParticles", "InDetTrackParticles", "CaloCalTopoClusters", "TrackCaloClustersCombinedAndNeutral",
)  # fmt: skip
_LINKS = ("constituentLinks", "GhostTrack")
_STEM = re.compile(r"^(?P<name>\w+?)Aux(?:Dyn)?[.:](?P<short>\w+)$")
FLAVOUR = {
    "b": "HadronConeExclTruthLabelID == 5",
    "c": "HadronConeExclTruthLabelID == 4",
    "light": "HadronConeExclTruthLabelID == 0",
}
_EVENT = {
    "run": "runNumber",
    "luminosityBlock": "lumiBlock",
    "event": "eventNumber",
    "genWeight": "mcEventWeights",
}


def recognises(branches: Mapping[str, str]) -> bool:
    """Whether auxiliary branches of jets are there."""
    return any((m := _STEM.match(b)) and m["short"] == "pt" and "Jet" in m["name"] for b in branches)


def find(branches: Mapping[str, str]) -> list[JetCollection]:
    """The jet collections of a PHYSLITE tree."""
    stores = _stores(branches)
    kept = _kept(stores)
    collections = []
    for name, store in stores.items():
        if "Jet" not in name or "TauJet" in name or not {"pt", "eta", "phi"} <= store.keys():
            continue
        link = next((store[s] for s in _LINKS if s in store), None)
        mass = {"mass": Column(store["m"], unit=MEV)} if "m" in store else {}
        flavour = "HadronConeExclTruthLabelID" in store
        collections.append(
            JetCollection(
                name=name,
                layout="physlite",
                momentum={
                    "pt": Column(store["pt"], unit=MEV),
                    "eta": Column(store["eta"]),
                    "phi": Column(store["phi"]),
                    **mass,
                },
                columns={b: s for s, b in store.items() if is_list(branches[b])},
                candidates=tuple(kept.values()) if link else (),
                link=element_link(link, branches) if link else None,
                radius=radius_of(name),
                truth="Truth" in name,
                unit=MEV,
                event={
                    k: stores["EventInfo"][b] for k, b in _EVENT.items() if b in stores.get("EventInfo", {})
                },
                labels=FLAVOUR if flavour else {},
            )
        )
    return collections


def element_link(branch: str, branches: Mapping[str, str]) -> ElementLink:
    """A branch of element links, with the keys of the containers that the file keeps and of those that it may
    have dropped."""
    kept = _kept(_stores(branches))
    keys = {store_key(name, number): name for name in kept for number in _class_ids(name)}
    lost = {store_key(n, number): n for n in _BUILT_FROM if n not in kept for number in _class_ids(n)}
    return ElementLink(branch, keys, lost)


def _kept(stores: Mapping[str, Mapping[str, str]]) -> dict[str, Candidates]:
    """The containers of candidates that the file keeps."""
    found = {name: candidates_named(name, store) for name, store in stores.items()}
    return {name: candidates for name, candidates in found.items() if candidates is not None}


def _class_ids(name: str) -> tuple[int, ...]:
    """The class ids that a container of this name may have."""
    if "Truth" in name:
        return (CLASS_IDS["TruthParticleContainer"],)
    if name.endswith("TrackParticles"):
        return (CLASS_IDS["TrackParticleContainer"],)
    return (CLASS_IDS["FlowElementContainer"], CLASS_IDS["PFOContainer"], CLASS_IDS["TrackParticleContainer"])


@cache
def store_key(name: str, class_id: int) -> int:
    """StoreGate's key of a container: 30 bits of the CRC-64 of its name and its class id."""
    crc = 2**64 - 1
    for byte in name.encode() + class_id.to_bytes(4, "little"):
        crc = _table()[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc & 0x3FFFFFFF


@cache
def _table() -> tuple[int, ...]:
    out = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ _POLYNOMIAL if byte & 1 else byte >> 1
        out.append(byte)
    return tuple(out)


def _stores(branches: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Container -> short name -> branch, over static and dynamic auxiliary stores."""
    stores: dict[str, dict[str, str]] = {}
    for branch in branches:
        if match := _STEM.match(branch):
            stores.setdefault(match["name"], {})[match["short"]] = branch
    return stores


def collection_named(name: str, branches: Mapping[str, str]) -> Candidates | None:
    """Any container with a momentum."""
    store = {short: b for short, b in _stores(branches).get(name, {}).items() if is_list(branches[b])}
    return _candidates(name, store)


def candidates_named(name: str, store: Mapping[str, str]) -> Candidates | None:
    """A container of tracks, flow elements or particles, or None where it is something else."""
    tracks = {"theta", "phi", "qOverP"} <= store.keys()
    if "Jet" in name or ("Tau" in name and "phi" not in store):
        return None
    if not (tracks or re.search(r"Particle|Flow|UFO|PFO|Cluster|Truth", name)):
        return None
    if not tracks and not {"pt", "eta", "phi"} <= store.keys() and "Truth" not in name:
        return None
    return _candidates(name, store)


def _candidates(name: str, store: Mapping[str, str]) -> Candidates | None:
    """The columns of a container, in GeV; None where it has no momentum."""
    if {"theta", "phi", "qOverP"} <= store.keys():
        columns = {
            "theta": Column(store["theta"]),
            "phi": Column(store["phi"]),
            "q_over_p": Column(store["qOverP"], unit=1 / MEV),
            "mass": Column(constant=0.13957),
        }
        columns |= {k: Column(store[b]) for k, b in (("d0", "d0"), ("dz", "z0")) if b in store}
        derive: tuple[str, ...] = ("helix", "track")
    elif {"pt", "eta", "phi"} <= store.keys():
        columns = {
            "pt": Column(store["pt"], unit=MEV),
            "eta": Column(store["eta"]),
            "phi": Column(store["phi"]),
        }
        columns |= {k: Column(store[b], unit=MEV) for k, b in (("mass", "m"), ("energy", "e")) if b in store}
        columns |= {k: Column(store[b]) for k, b in (("charge", "charge"), ("pdg_id", "pdgId")) if b in store}
        derive = ("identity",) if "pdg_id" in columns else ("charged",) if "charge" in columns else ()
    elif {"px", "py", "pz"} <= store.keys():
        columns = {k: Column(store[k], unit=MEV) for k in ("px", "py", "pz")}
        columns |= {k: Column(store[b], unit=MEV) for k, b in (("energy", "e"), ("mass", "m")) if b in store}
        columns |= {"pdg_id": Column(store["pdgId"])} if "pdgId" in store else {}
        derive = ("identity",) if "pdg_id" in columns else ()
    else:
        return None
    used = {c.branch for c in columns.values()}
    further = {s: Column(b) for s, b in store.items() if b not in used}
    return Candidates(name, columns, derive, further, truth="Truth" in name)
