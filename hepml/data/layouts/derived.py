"""Columns that follow from others by a formula of the experiment's data model, not by a mapping: particle
identity from the PDG id, a track's momentum from its helix, a tower's from its transverse energy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hepml.data.reading.columns import Column

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Derived:
    """Columns made from others.

    Args:
        needs: columns that must be there.
        gives: columns that are made; one that the file has itself is left alone.
        formula: from flat columns to flat columns.
        takes: columns used where they are there.
    """

    needs: tuple[str, ...]
    gives: tuple[str, ...]
    formula: Callable[[Columns], dict[str, np.ndarray]]
    takes: tuple[str, ...] = ()


_CHARGED, _ELECTRON, _MUON, _TAU, _PHOTON, _NEUTRAL, _NEUTRINO = range(7)
# a lepton of positive PDG number is negative; hadrons carry the sign of their number
_SIGNS = np.array([1, -1, -1, -1, 0, 0, 0], dtype=np.int8)
# The kind by |PDG id|, which is looked up and not compared with each: what is beyond is a charged hadron.
_KINDS = np.full(4096, _CHARGED, dtype=np.uint8)
_KINDS[11], _KINDS[13], _KINDS[15], _KINDS[22] = _ELECTRON, _MUON, _TAU, _PHOTON
_KINDS[[130, 310, 111, 2112, 3122, 3322, 421, 511, 531, 1, 2, 0]] = _NEUTRAL
_KINDS[[12, 14, 16]] = _NEUTRINO


def _identity(c: Columns) -> dict[str, np.ndarray]:
    """Kinds of particle from the PDG id, as in JetClass: electron, muon, photon, charged and neutral
    hadron. The charge follows for what particle flow and generators list as stable."""
    pdg = c["pdg_id"].astype(np.result_type(c["pdg_id"].dtype, np.int32), copy=False)
    if pdg.dtype.kind != "i":
        pdg = pdg.astype(np.int64)
    kind = _KINDS[np.clip(np.abs(pdg), 0, len(_KINDS) - 1)]
    electron, muon, photon = kind == _ELECTRON, kind == _MUON, kind == _PHOTON
    out = {
        "is_electron": electron,
        "is_muon": muon,
        "is_photon": photon,
        "is_neutral_hadron": kind == _NEUTRAL,
        "is_charged_hadron": (kind == _CHARGED) | (kind == _TAU),
        "charge": np.sign(pdg) * _SIGNS[kind],
    }
    if "charge" in c:  # the detector's own charge decides what a hadron is
        hadron = ~(electron | muon | photon | (kind == _NEUTRINO))
        out["is_charged_hadron"] = hadron & (c["charge"] != 0)
        out["is_neutral_hadron"] = hadron & (c["charge"] == 0)
    return {name: values.astype(np.float32) for name, values in out.items()}


def _helix(c: Columns) -> dict[str, np.ndarray]:
    """pt = |sin(theta) / (q/p)|, eta = -ln tan(theta / 2)."""
    theta, curvature = c["theta"].astype(np.float64), c["q_over_p"].astype(np.float64)
    with np.errstate(all="ignore"):
        pt = np.abs(np.sin(theta) / curvature)
        eta = -np.log(np.tan(theta / 2))
    return {
        "pt": pt.astype(np.float32),
        "eta": eta.astype(np.float32),
        "charge": np.sign(curvature).astype(np.float32),
    }


def _track_kind(c: Columns) -> dict[str, np.ndarray]:
    """Tracks without identification count as charged hadrons."""
    return {"is_charged_hadron": np.ones(len(c["pt"]), dtype=np.float32)}


def _by_charge(c: Columns) -> dict[str, np.ndarray]:
    charged = (c["charge"] != 0).astype(np.float32)
    return {"is_charged_hadron": charged}


def _errors(c: Columns) -> dict[str, np.ndarray]:
    return {"d0_error": np.sqrt(np.maximum(c["d0_variance"], 0)).astype(np.float32)}


DERIVED: dict[str, Derived] = {
    "identity": Derived(
        ("pdg_id",),
        ("is_electron", "is_muon", "is_photon", "is_neutral_hadron", "is_charged_hadron", "charge"),
        _identity,
        takes=("charge",),
    ),
    "helix": Derived(("theta", "q_over_p"), ("pt", "eta", "charge"), _helix),
    "track": Derived(("pt",), ("is_charged_hadron",), _track_kind),
    "charged": Derived(("charge",), ("is_charged_hadron",), _by_charge),
    "errors": Derived(("d0_variance",), ("d0_error",), _errors),
}

INTERMEDIATE = ("pdg_id", "theta", "q_over_p", "d0_variance")


def made_by(derive: tuple[str, ...], at_hand: set[str]) -> dict[str, str]:
    """Column -> the derivation that makes it, of those whose needs are at hand."""
    out: dict[str, str] = {}
    have = set(at_hand)
    for name in derive:
        recipe = DERIVED[name]
        if set(recipe.needs) <= have:
            new = [g for g in recipe.gives if g not in have]
            out |= dict.fromkeys(new, name)
            have |= set(new)
    return out


def filled(
    columns: Mapping[str, Column], branches: Mapping[str, np.ndarray], size: int
) -> dict[str, np.ndarray]:
    """Columns by name from branches by name, [size] each; constants where there is no branch."""
    return {
        name: np.full(size, column.constant, dtype=np.float32)
        if column.branch is None
        else column(branches[column.branch])
        for name, column in columns.items()
    }


def with_derived(derive: Iterable[str], columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns, and those that follow from them."""
    out = dict(columns)
    for name in derive:
        if set(DERIVED[name].needs) <= out.keys():
            out |= {n: v for n, v in DERIVED[name].formula(out).items() if n not in out}
    return out
