"""Columns of the output: the JetClass branch layout for a batch of kept jets.

A batch of jets is a dictionary of flat numpy arrays by branch name; constituent branches (`part_*`) are
packed over all jets and `npart` counts them. That form is what a chunk stores, what chunks are joined in, and
what the file is written from.
"""

from __future__ import annotations

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepml.generation.detector import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON
from hepml.generation.jets import SelectedJets, delta_phi, n_subjettiness, soft_drop_mass

Columns = dict[str, NDArray[np.generic]]

LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
_INTEGER_LABELS = ("Hqql", "Tbl")  # as in the published JetClass files
MAX_CONSTITUENTS = 200
_KINDS = {
    "isChargedHadron": CHARGED_HADRON,
    "isNeutralHadron": NEUTRAL_HADRON,
    "isPhoton": PHOTON,
    "isElectron": ELECTRON,
    "isMuon": MUON,
}


def jet_columns(jets: SelectedJets, pthat: NDArray[np.float64], label: str) -> Columns:
    """Every branch of the layout, but for `weight`, which only the whole sample can tell.

    The leading 200 constituents are kept; jet momentum, multiplicity and substructure are those of all of
    them. As in JetClass, `part_deta` is mirrored so that it points away from the detector's centre.

    Args:
        jets: the kept jets.
        pthat: [jets] pT of the hard process in GeV.
        label: the class, one of `LABELS`.
    """
    everything = jets.constituents
    multiplicity = ak.to_numpy(ak.num(everything.pt))
    soft_drop = soft_drop_mass(everything)
    tau = {f"jet_tau{n}": n_subjettiness(everything, n) for n in (1, 2, 3, 4)}
    kept = everything[:, :MAX_CONSTITUENTS]
    count = ak.to_numpy(ak.num(kept.pt))
    jet = np.repeat(np.arange(len(count)), count)
    flat = {name: ak.to_numpy(ak.flatten(kept[name])) for name in kept.fields}
    side = np.where(jets.eta > 0, 1.0, -1.0)
    columns: Columns = {
        "npart": count.astype(np.int32),
        "part_px": flat["px"],
        "part_py": flat["py"],
        "part_pz": flat["pz"],
        "part_energy": flat["energy"],
        "part_deta": (flat["eta"] - jets.eta[jet]) * side[jet],
        "part_dphi": delta_phi(flat["phi"], jets.phi[jet]),
        "part_d0val": flat["d0"],
        "part_d0err": flat["d0_error"],
        "part_dzval": flat["dz"],
        "part_dzerr": flat["dz_error"],
        "part_charge": flat["charge"],
        **{f"part_{name}": flat["kind"] == kind for name, kind in _KINDS.items()},
        "jet_pt": jets.pt,
        "jet_eta": jets.eta,
        "jet_phi": jets.phi,
        "jet_energy": jets.energy,
        "jet_nparticles": multiplicity,
        "jet_sdmass": soft_drop,
        **tau,
        "aux_pthat": pthat,
    }
    for name in LABELS:
        kind = np.int32 if name in _INTEGER_LABELS else np.float32
        columns[f"label_{name}"] = np.full(len(count), name == label, dtype=kind)
    return {name: _stored(values) for name, values in columns.items()}


def join(parts: list[Columns]) -> Columns:
    """Several batches one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(columns: Columns, index: NDArray[np.int64]) -> Columns:
    """The chosen jets, in the order given."""
    count = columns["npart"].astype(np.int64)
    first = np.cumsum(count) - count
    chosen = count[index]
    start = np.repeat(first[index] - (np.cumsum(chosen) - chosen), chosen)
    constituents = start + np.arange(int(chosen.sum()))
    return {
        name: values[constituents] if name.startswith("part_") else values[index]
        for name, values in columns.items()
    }


def jets_in(columns: Columns) -> int:
    """Number of jets."""
    return len(columns["npart"])


def _stored(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return (
        values.astype(np.float32)
        if values.dtype.kind == "f" or values.dtype in (np.int8, np.int64)
        else values
    )
