"""Jets made on the fly: a JetClass-layout ROOT file whose classes differ in mass and multiplicity, for tests
that need jets and no physics.

A jet is a number of prongs around an axis; each prong is a narrow shower of massless constituents. "Signal"
classes have more prongs, so that mass, multiplicity and substructure all separate them, and the jet mass is a
smooth function of the constituents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

CLASSES = ("label_QCD", "label_Tbqq")


def toy_arrays(
    jets: int, *, seed: int = 0, classes: Sequence[str] = CLASSES, separation: float = 1.0, empty: int = 0
) -> dict[str, Any]:
    """Branches of `jets` toy jets, classes in turn.

    Args:
        jets: how many.
        seed: of everything random.
        classes: label branches; class k has 1 + 2 k prongs.
        separation: opening angle of the prongs in units of 0.3.
        empty: the first so many jets have no constituents.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(jets) % len(classes)
    counts = rng.poisson(12 + 5 * label) + 3
    counts[:empty] = 0
    jet_of = np.repeat(np.arange(jets), counts)
    n = len(jet_of)
    jet_pt = rng.uniform(550, 650, jets)
    jet_eta, jet_phi = rng.uniform(-2, 2, jets), rng.uniform(-np.pi, np.pi, jets)
    prongs = 1 + 2 * label
    prong = (rng.random(n) * prongs[jet_of]).astype(int)
    angle = 2 * np.pi * prong / prongs[jet_of] + rng.uniform(0, 2 * np.pi, jets)[jet_of]
    radius = 0.3 * separation * (prongs[jet_of] > 1)
    deta = radius * np.cos(angle) + rng.normal(0, 0.06, n)
    dphi = radius * np.sin(angle) + rng.normal(0, 0.06, n)
    share = rng.exponential(1.0, n) + 0.02
    share /= np.maximum(np.bincount(jet_of, share, jets), 1e-9)[jet_of]
    pt = jet_pt[jet_of] * share
    hemisphere = np.where(jet_eta < 0, -1.0, 1.0)
    eta, phi = jet_eta[jet_of] + deta * hemisphere[jet_of], jet_phi[jet_of] + dphi
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2)
    total = [np.bincount(jet_of, x, jets) for x in (energy, px, py, pz)]
    mass = np.sqrt(np.maximum(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2, 0))
    charged = rng.random(n) < 0.6
    charge = np.where(charged, rng.choice([-1, 1], n), 0)

    def ragged(values: np.ndarray, kind: Any = np.float32) -> ak.Array:
        return ak.unflatten(np.asarray(values, dtype=kind), counts)

    return {
        "part_px": ragged(px),
        "part_py": ragged(py),
        "part_pz": ragged(pz),
        "part_energy": ragged(energy),
        "part_deta": ragged(deta),
        "part_dphi": ragged(dphi),
        "part_d0val": ragged(rng.normal(0, 0.1, n) * charged),
        "part_d0err": ragged(0.05 * charged),
        "part_dzval": ragged(rng.normal(0, 0.1, n) * charged),
        "part_dzerr": ragged(0.05 * charged),
        "part_charge": ragged(charge),
        "part_isChargedHadron": ragged(charged, bool),
        "part_isNeutralHadron": ragged(~charged & (np.arange(n) % 2 == 0), bool),
        "part_isPhoton": ragged(~charged & (np.arange(n) % 2 == 1), bool),
        "part_isElectron": ragged(np.zeros(n), bool),
        "part_isMuon": ragged(np.zeros(n), bool),
        "jet_pt": jet_pt.astype(np.float32),
        "jet_eta": jet_eta.astype(np.float32),
        "jet_phi": jet_phi.astype(np.float32),
        "jet_energy": np.maximum(total[0], 1.0).astype(np.float32),
        "jet_nparticles": counts.astype(np.float32),
        "jet_sdmass": mass.astype(np.float32),
        "jet_tau1": (mass / 600).astype(np.float32),
        "jet_tau2": (mass / 700).astype(np.float32),
        "jet_tau3": (mass / 800).astype(np.float32),
        "jet_tau4": (mass / 900).astype(np.float32),
        **{name: (label == k).astype(np.float32) for k, name in enumerate(classes)},
    }


def write_toy_jets(
    path: Path,
    jets: int = 200,
    *,
    seed: int = 0,
    arrays: dict[str, Any] | None = None,
    tree: str = "tree",
    **options: Any,
) -> Path:
    """Writes toy jets (see `toy_arrays`) as a TTree; returns the path."""
    branches = arrays if arrays is not None else toy_arrays(jets, seed=seed, **options)
    types: dict[str, Any] = {
        name: f"var * {values.layout.content.dtype}" if isinstance(values, ak.Array) else values.dtype
        for name, values in branches.items()
    }
    with uproot.recreate(path) as file:
        out = file.mktree(tree, types, counter_name=lambda counted: "npart")
        if len(branches["jet_pt"]):
            out.extend(branches)
    return path
