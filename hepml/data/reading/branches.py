"""Names and types of everything in a tree that can be read by itself: branches, the sub-branches of split
objects (`Jet.PT`, `ReconstructedParticles.momentum.x`), and the fields of an RNTuple with their subfields.

All types come from one walk over the tree's own description; asking an RNTuple for its fields one by one
takes seconds in a file of a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KEPT = "_hepml_kinds"  # kept at the tree: types follow from interpretations, milliseconds a branch


def kinds_of(tree: Any) -> dict[str, str]:
    """Name -> type of branches and sub-branches of a TTree, or fields and subfields of an RNTuple, in the
    file's order. A name that occurs twice stands for the first."""
    if _KEPT in vars(tree):
        return dict(vars(tree)[_KEPT])
    kinds: dict[str, str] = {}
    pairs = _of_tree(tree.branches) if hasattr(tree, "branches") else _of_records(tree.field_records)
    for name, kind in pairs:
        kinds.setdefault(name, kind)
    setattr(tree, _KEPT, kinds)
    return dict(kinds)


def _of_tree(branches: Any) -> Iterator[tuple[str, str]]:
    for branch in branches:
        try:
            yield branch.name, str(branch.typename)
        except Exception:
            yield branch.name, "unknown"
        yield from _of_tree(branch.branches)


def _of_records(records: Any) -> Iterator[tuple[str, str]]:
    """Subfields of a collection are lists of what they hold: `double[]` for a double in a vector of records.
    Unnamed fields (`_0`, and the containers of imported NanoAOD) are stepped over."""
    stems: list[str] = []  # of the fields below each
    depths: list[int] = []
    for number, record in enumerate(records):
        parent, name = int(record.parent_field_id), str(record.field_name)
        top = parent == number or parent >= number
        stem, depth = ("", 0) if top else (stems[parent], depths[parent])
        inner = depth + (getattr(record.struct_role, "name", "") == "COLLECTION")
        unnamed = name.startswith("_0") or (name.startswith("_collection") and top)
        stems.append(stem if unnamed else f"{stem}{name}.")
        depths.append(inner)
        kind = str(record.type_name).replace("ROOT::VecOps::RVec", "std::vector")
        if not unnamed and not (stem == "" and not top):
            yield f"{stem}{name}", kind.replace("std::", "") + "[]" * depth if depth else kind
