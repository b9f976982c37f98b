"""From energy-flow objects to the one jet of each event that a recipe keeps, with its constituents and
substructure.

Anti-kT jets of R = 0.8 by FastJet; the jet is the leading one or the one nearest to a resonance; the window
in pT and |eta| and the match to the resonance and its partons are the ones of arXiv:1902.09914. FastJet reads
raw buffers, so it is handed packed arrays without options.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepml.errors import MissingExtraError
from hepml.generation.calorimeter import Array
from hepml.generation.detector import FlowObjects
from hepml.generation.events import EventBatch

RADIUS = 0.8


@dataclass(frozen=True)
class Selection:
    """Which jet of an event is kept.

    `pick` is "leading" or "resonance" (the jet nearest to the harder resonance); pT limits in GeV; `partons`
    how many partons of one resonance must lie within R of the jet, beside the resonance itself (0: no match).
    """

    pick: str
    pt_min: float
    pt_max: float
    eta_max: float = 2.0
    partons: int = 0


@dataclass
class SelectedJets:
    """Kept jets, one an event at most: kinematics [jets], constituents (awkward, pT-sorted, all of them) and
    the event each came from."""

    event: NDArray[np.int64]
    pt: Array
    eta: Array
    phi: Array
    energy: Array
    constituents: ak.Array


def select_jets(flow: FlowObjects, batch: EventBatch, selection: Selection) -> SelectedJets | None:
    """Clusters every event and keeps the jets that pass; None when there is none."""
    order = np.argsort(flow.event, kind="stable")
    counts = np.bincount(flow.event, minlength=batch.events)
    columns: dict[str, NDArray[np.generic]] = {
        "pt": flow.pt, "eta": flow.eta, "phi": flow.phi, "kind": flow.kind, "charge": flow.charge,
        "d0": flow.d0, "d0_error": flow.d0_error, "dz": flow.dz, "dz_error": flow.dz_error,
        "px": flow.pt * np.cos(flow.phi), "py": flow.pt * np.sin(flow.phi),
        "pz": flow.pt * np.sinh(flow.eta), "energy": flow.pt * np.cosh(flow.eta),
    }  # fmt: skip
    objects = ak.zip({name: ak.unflatten(values[order], counts) for name, values in columns.items()})
    sequence = cluster(objects, _definitions()["anti-kt"])
    least = 0.9 * selection.pt_min
    clustered, members = sequence.inclusive_jets(min_pt=least), sequence.constituent_index(min_pt=least)
    pt = np.hypot(clustered.px, clustered.py)
    jets = ak.zip(
        {
            "pt": pt,
            "eta": np.arcsinh(clustered.pz / pt),
            "phi": np.arctan2(clustered.py, clustered.px),
            "energy": clustered.E,
        }
    )
    best = _pick(jets, batch, selection)
    jet, member = ak.firsts(jets[best]), ak.firsts(members[best])
    passes = (
        (jet.pt >= selection.pt_min) & (jet.pt <= selection.pt_max) & (np.abs(jet.eta) <= selection.eta_max)
    )
    event = np.flatnonzero(ak.to_numpy(ak.fill_none(passes, False)))
    kinematics = {
        name: ak.to_numpy(ak.drop_none(jet[name][event])) for name in ("pt", "eta", "phi", "energy")
    }
    if selection.partons:
        matched = matches(batch, event, kinematics["eta"], kinematics["phi"], selection.partons)
        event, kinematics = event[matched], {name: values[matched] for name, values in kinematics.items()}
    if len(event) == 0:
        return None
    chosen = objects[event][ak.drop_none(member[event], axis=0)]
    chosen = chosen[ak.argsort(chosen.pt, axis=1, ascending=False)]
    return SelectedJets(event, **kinematics, constituents=ak.to_packed(ak.drop_none(chosen, axis=0)))


def _pick(jets: ak.Array, batch: EventBatch, selection: Selection) -> ak.Array:
    if selection.pick == "leading":
        return ak.argmax(jets.pt, axis=1, keepdims=True)
    truth = batch.truth
    assert truth is not None
    # hardest resonance of each event: sort by (event, pT), take the last of each event
    order = np.lexsort((truth.resonance_pt, truth.resonance_event))
    event = truth.resonance_event[order]
    last = order[np.append(event[1:] != event[:-1], True)] if len(order) else order
    eta, phi = np.full(batch.events, 99.0), np.zeros(batch.events)
    eta[truth.resonance_event[last]], phi[truth.resonance_event[last]] = (
        truth.resonance_eta[last],
        truth.resonance_phi[last],
    )
    return ak.argmin((jets.eta - eta) ** 2 + delta_phi(jets.phi, phi) ** 2, axis=1, keepdims=True)


def matches(
    batch: EventBatch, event: NDArray[np.int64], eta: Array, phi: Array, partons: int
) -> NDArray[np.bool_]:
    """Whether one resonance and `partons` of its decay partons lie within R of the jet (one jet for each of
    `event`)."""
    truth = batch.truth
    assert truth is not None
    jet_eta, jet_phi = np.full(batch.events, 99.0), np.zeros(batch.events)
    jet_eta[event], jet_phi[event] = eta, phi

    def inside(at: NDArray[np.int64], eta_: Array, phi_: Array) -> NDArray[np.bool_]:
        out: NDArray[np.bool_] = (eta_ - jet_eta[at]) ** 2 + delta_phi(phi_, jet_phi[at]) ** 2 < RADIUS**2
        return out

    resonance_in = inside(truth.resonance_event, truth.resonance_eta, truth.resonance_phi)
    parton_in = inside(truth.parton_event, truth.parton_eta, truth.parton_phi)
    good = np.zeros(batch.events, dtype=bool)
    for sign in (1, 0, -1):  # 0: neutral resonances, whose partons all carry the mother's sign +1
        r = resonance_in & (truth.resonance_sign == sign)
        p = parton_in & (truth.parton_sign == sign)
        r_count = np.bincount(truth.resonance_event[r], minlength=batch.events)
        p_count = np.bincount(truth.parton_event[p], minlength=batch.events)
        good |= (r_count > 0) & (p_count >= partons)
    return good[event]


# ------------------------------------------------------------------------------------------------------------
# substructure
def soft_drop_mass(constituents: ak.Array) -> Array:
    """Soft-drop mass in GeV (z_cut = 0.1, beta = 0, Cambridge/Aachen; arXiv:1402.2657)."""
    groomed = cluster(constituents, _definitions()["cambridge"]).exclusive_jets_softdrop_grooming(
        njets=1, beta=0.0, symmetry_cut=0.1, R0=RADIUS
    )["msoftdrop"]
    return np.asarray(ak.to_numpy(groomed if groomed.ndim == 1 else ak.firsts(groomed)), dtype=np.float64)


def n_subjettiness(constituents: ak.Array, axes: int) -> Array:
    """tau_N with exclusive-kT winner-take-all axes and beta = 1 (arXiv:1011.2268); zero for jets of N
    constituents or fewer."""
    counts = ak.to_numpy(ak.num(constituents.pt))
    tau = np.zeros(len(counts))
    enough = counts > axes
    if not enough.any():
        return tau
    some = constituents if enough.all() else ak.to_packed(constituents[enough])
    counts = counts[enough]
    with warnings.catch_warnings():
        # the wrapper takes kt with another recombination scheme for a jet finder that it does not know
        warnings.filterwarnings("ignore", message="dcut and exclusive jets")
        axis = cluster(some, _definitions()["kt-wta"]).exclusive_jets(n_jets=axes)
    axis_pt = np.hypot(axis.px, axis.py)
    jet = np.repeat(np.arange(len(counts)), counts)
    axis_eta, axis_phi = (
        ak.to_numpy(np.arcsinh(axis.pz / axis_pt))[jet],
        ak.to_numpy(np.arctan2(axis.py, axis.px))[jet],
    )
    eta, phi, pt = (ak.to_numpy(ak.flatten(some[name])) for name in ("eta", "phi", "pt"))
    distance = np.sqrt(((eta[:, None] - axis_eta) ** 2 + delta_phi(phi[:, None], axis_phi) ** 2).min(axis=1))
    tau[enough] = np.bincount(jet, weights=distance * pt, minlength=len(counts)) / (
        RADIUS * np.bincount(jet, weights=pt, minlength=len(counts))
    )
    return tau


def delta_phi(a: Any, b: Any) -> Any:
    """Azimuthal difference a - b wrapped to [-pi, pi)."""
    return (a - b + np.pi) % (2 * np.pi) - np.pi


# ------------------------------------------------------------------------------------------------------------
# FastJet
def cluster(objects: ak.Array, definition: Any) -> Any:
    """FastJet cluster sequence of every event (or jet) at once."""
    import fastjet

    momenta = ak.zip(
        {"px": objects.px, "py": objects.py, "pz": objects.pz, "E": objects.energy}, with_name="Momentum4D"
    )
    return fastjet.ClusterSequence(ak.to_packed(momenta), definition)


@lru_cache(maxsize=1)
def _definitions() -> dict[str, Any]:
    try:
        import fastjet
        import vector
    except ImportError as error:
        raise MissingExtraError("fastjet", "generate") from error
    vector.register_awkward()
    return {
        "anti-kt": fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS),
        "cambridge": fastjet.JetDefinition(fastjet.cambridge_algorithm, 2 * RADIUS),
        "kt-wta": fastjet.JetDefinition(fastjet.kt_algorithm, 10.0, fastjet.WTA_pt_scheme),
    }
