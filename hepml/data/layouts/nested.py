"""Jets with lists within lists: `jet_pt` is a list an entry, `jet_part_pt` a list of lists, one a jet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hepml.data.layouts.collections import (
    Candidates,
    JetCollection,
    NestedLists,
    event_branches,
    is_list,
    is_nested,
    radius_of,
)
from hepml.data.reading.columns import Column

# spellings of a column, lowered and without the prefix
_SPELT = {
    "px": ("px",),
    "py": ("py",),
    "pz": ("pz",),
    "energy": ("energy", "e", "ene"),
    "pt": ("pt",),
    "eta": ("eta",),
    "phi": ("phi",),
    "mass": ("mass", "m"),
    "charge": ("charge", "q"),
    "pdg_id": ("pdgid", "pdg_id", "pid"),
    "d0": ("d0",),
    "dz": ("dz",),
}


def recognises(branches: Mapping[str, str]) -> bool:
    """Whether some collection of constituents stands in lists of lists beside lists of jets."""
    return bool(find(branches))


def find(branches: Mapping[str, str]) -> list[JetCollection]:
    """The jet collections whose constituents are nested in them."""
    nested = groups({b for b, kind in branches.items() if is_nested(kind)})
    flat = groups({b for b, kind in branches.items() if is_list(kind)})
    collections = []
    for prefix, columns in nested.items():
        if not has_momentum(columns):
            continue
        owners = [p for p, c in flat.items() if has_momentum(c) and prefix.startswith(p.rstrip("_."))]
        if not owners:
            continue
        owner = max(owners, key=len)
        name = owner.rstrip("_.")
        parts = Candidates(
            prefix.rstrip("_."),
            {k: Column(b) for k, b in columns.items()},
            ("identity",) if "pdg_id" in columns else (),
        )
        own = {
            k: b
            for k, b in flat[owner].items()
            if k in ("pt", "eta", "phi", "mass", "energy", "px", "py", "pz")
        }
        collections.append(
            JetCollection(
                name=name,
                layout="nested",
                momentum={k: Column(b) for k, b in own.items()},
                columns={
                    b: b[len(owner) :]
                    for b, kind in branches.items()
                    if b.startswith(owner) and is_list(kind)
                },
                candidates=(parts,),
                link=NestedLists(),
                radius=radius_of(name),
                truth=name.lower().startswith(("gen", "truth")),
                event=event_branches(branches),
            )
        )
    return collections


def groups(branches: set[str]) -> dict[str, dict[str, str]]:
    """Branches by prefix: prefix -> canonical column -> branch, of those whose last word is a known
    column."""
    out: dict[str, dict[str, str]] = {}
    for branch in sorted(branches):
        match = re.match(r"^(.*[_.])(\w+?)$", branch)
        stem, last = (match[1], match[2]) if match else ("", branch)
        if match is None:
            continue
        for column, names in _SPELT.items():
            if last.lower() in names:
                out.setdefault(stem, {}).setdefault(column, branch)
    return out


def has_momentum(columns: Mapping[str, str]) -> bool:
    """Whether three components of a momentum are among these columns."""
    return {"px", "py", "pz"} <= columns.keys() or {"pt", "eta", "phi"} <= columns.keys()
