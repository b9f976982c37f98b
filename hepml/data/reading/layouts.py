"""All layouts: `jetclass`, built in and recognised by its branches, and those of files with many jets an
entry (`hepml.data.layouts`). `Layout` itself is in `layout.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hepml.data.layouts.event_layout import EVENT_LAYOUTS
from hepml.data.reading.columns import TRANSFORMS, Column
from hepml.data.reading.layout import (
    BUILT_IN,
    OTHER_KINDS,
    OTHER_NAMES,
    Collection,
    Layout,
    load_mapping,
    missing_branch,
)

__all__ = [
    "BUILT_IN",
    "JETCLASS",
    "JETCLASS_CLASSES",
    "TRANSFORMS",
    "Collection",
    "Column",
    "Layout",
    "columns_as_written",
    "load_mapping",
    "missing_branch",
    "recognise",
]

JETCLASS_CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

_JETCLASS_OPTIONAL = {
    "delta_eta": "part_deta",
    "delta_phi": "part_dphi",
    "d0": "part_d0val",
    "d0_error": "part_d0err",
    "dz": "part_dzval",
    "dz_error": "part_dzerr",
    "charge": "part_charge",
    "is_charged_hadron": "part_isChargedHadron",
    "is_neutral_hadron": "part_isNeutralHadron",
    "is_photon": "part_isPhoton",
    "is_electron": "part_isElectron",
    "is_muon": "part_isMuon",
}

# JetClass (arXiv:2202.03772) and JetClass-II (arXiv:2405.12972), whose label is one integer out of 188.
JETCLASS = Layout(
    name="jetclass",
    constituents=(
        Collection(
            columns={
                name: Column(branch)
                for name, branch in {
                    "px": "part_px",
                    "py": "part_py",
                    "pz": "part_pz",
                    "energy": "part_energy",
                    **_JETCLASS_OPTIONAL,
                }.items()
            },
            optional=frozenset(_JETCLASS_OPTIONAL),
        ),
    ),
    jet={name: Column(f"jet_{name}") for name in ("pt", "eta", "phi", "energy")},
    labels={name: f"label_{name}" for name in JETCLASS_CLASSES},
    label="jet_label",
    classes=tuple(str(i) for i in range(188)),
    label_prefix="label_",
    weight="weight",
)

BUILT_IN["jetclass"] = JETCLASS
OTHER_NAMES.update({"jetclass2": "jetclass", "jetclass-ii": "jetclass"})  # the label alone differs
OTHER_KINDS.append(EVENT_LAYOUTS)


def recognise(branches: Iterable[str]) -> Layout | None:
    """The built-in layout that fits these branch names, or None."""
    at_hand = set(branches)
    for layout in BUILT_IN.values():
        needed = {c.branch for g in layout.constituents for n, c in g.columns.items() if n not in g.optional}
        if needed <= at_hand:
            return layout
    return None


def columns_as_written(layout: Any) -> dict[str, frozenset[str]]:
    """Columns that a layout scales itself, by place: "" for the constituents, "jet" for the jets.

    Args:
        layout: as a config has it; None where it is recognised.
    """
    if layout is None:
        return {}
    parsed = Layout.parse(layout)
    link = getattr(parsed, "link", None)
    groups = [g.columns for g in parsed.constituents] + ([] if link is None else [link.columns])
    return {
        "": frozenset(n for columns in groups for n, c in columns.items() if c.is_as_written),
        "jet": frozenset(n for n, c in parsed.columns.items() if c.is_as_written),
        **{
            name: frozenset(n for n, c in group.columns.items() if c.is_as_written)
            for name, group in parsed.collections.items()
        },
    }
