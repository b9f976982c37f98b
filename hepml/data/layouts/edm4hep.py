"""EDM4hep (FCC and other colliders): `Jet.particles_begin`, `Jet.particles_end` point into a relation of
object ids, `_Jet_particles` or, in older files, `Jet#k`, where k counts the relations of the class."""

from __future__ import annotations

from collections.abc import Mapping

from hepml.data.layouts.collections import Candidates, JetCollection, ObjectLink, is_list, radius_of
from hepml.data.reading.columns import Column

_PREFERRED = ("ReconstructedParticles", "PandoraPFOs", "TightSelectedPandoraPFOs", "PFOs")
TRUTH = ("Gen", "MC", "Truth")
_MOMENTUM = {"px": "momentum.x", "py": "momentum.y", "pz": "momentum.z", "energy": "energy"}


def recognises(branches: Mapping[str, str]) -> bool:
    """Whether particles with three momentum components and ranges of particles are there."""
    return any(b.endswith(".particles_begin") and is_list(kind) for b, kind in branches.items()) and any(
        b.endswith(".momentum.x") for b in branches
    )


def find(branches: Mapping[str, str], ids: Mapping[int, str] | None = None) -> list[JetCollection]:
    """The jet collections of an EDM4hep tree.

    Args:
        ids: collection id -> name, from the file's metadata; where it keeps none, a relation is taken to
            lead to the reconstructed particles.
    """
    collections = []
    at_hand = [b for b, kind in branches.items() if b.endswith(".momentum.x") and is_list(kind)]
    particles = [b[: -len(".momentum.x")] for b in at_hand]
    for name in particles:
        if "Jet" not in name and "jet" not in name:
            continue
        begin, end = f"{name}.particles_begin", f"{name}.particles_end"
        link = None
        candidates: tuple[Candidates, ...] = ()
        relation = _relation(name, branches)
        if relation and begin in branches and end in branches:
            targets = [p for p in particles if p != name and "Jet" not in p and "jet" not in p]
            targets.sort(key=lambda p: (_PREFERRED.index(p) if p in _PREFERRED else len(_PREFERRED), p))
            candidates = tuple(_candidates(p, branches) for p in targets)
            link = ObjectLink(
                begin,
                end,
                f"{relation}.index",
                f"{relation}.collectionID",
                {key: n for key, n in (ids or {}).items() if n in targets},
                dict(ids or {}),
            )
        collections.append(
            JetCollection(
                name=name,
                layout="edm4hep",
                momentum={
                    k: Column(f"{name}.{b}") for k, b in _MOMENTUM.items() if f"{name}.{b}" in branches
                },
                columns={
                    b: b[len(name) + 1 :]
                    for b, kind in branches.items()
                    if b.startswith(f"{name}.") and is_list(kind) and not b.endswith(("_begin", "_end"))
                },
                candidates=candidates,
                link=link,
                radius=radius_of(name),
                truth=name.startswith(TRUTH),
                event={
                    k: f"EventHeader.{b}"
                    for k, b in (("run", "runNumber"), ("event", "eventNumber"), ("genWeight", "weight"))
                    if f"EventHeader.{b}" in branches
                },
            )
        )
    return collections


def collection_named(name: str, branches: Mapping[str, str]) -> Candidates | None:
    """Any collection with a momentum."""
    if not all(is_list(branches.get(f"{name}.momentum.{axis}", "")) for axis in "xyz"):
        return None
    return _candidates(name, branches)


def _relation(name: str, branches: Mapping[str, str]) -> str | None:
    """The relation that `particles` ranges point into, under its new or its old name."""
    new = f"_{name}_particles"
    if f"{new}.index" in branches:
        return new
    ranges = [b for b in branches if b.startswith(f"{name}.") and b.endswith("_begin")]
    old = f"{name}#{ranges.index(f'{name}.particles_begin')}" if f"{name}.particles_begin" in ranges else ""
    if f"{old}.index" in branches:
        return old
    numbered = [b[: -len(".index")] for b in branches if b.startswith(f"{name}#") and b.endswith(".index")]
    return numbered[0] if len(numbered) == 1 else None


def _candidates(name: str, branches: Mapping[str, str]) -> Candidates:
    at = f"{name}."
    columns = {k: Column(at + b) for k, b in _MOMENTUM.items() if at + b in branches}
    further_columns = {"mass": "mass", "charge": "charge", "pdg_id": "PDG"}
    columns |= {k: Column(at + b) for k, b in further_columns.items() if at + b in branches}
    if "energy" in columns:
        columns.pop("mass", None)
    derive = ("identity",) if "pdg_id" in columns else ("charged",) if "charge" in columns else ()
    used = {c.branch for c in columns.values()}
    further = {
        b[len(at) :]: Column(b)
        for b, kind in branches.items()
        if b.startswith(at) and is_list(kind) and b not in used
    }
    return Candidates(name, columns, derive, further, truth=name.startswith(TRUTH))
