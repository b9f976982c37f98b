"""Pythia 8 events as flat arrays: the generator's set-up, its stable particles, and the truth that jets are
matched to.

Batches come from Pythia's `nextBatch` as awkward arrays and are flattened once; nothing here loops over
events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepml.errors import MissingExtraError
from hepml.generation.calorimeter import Array, Ints
from hepml.generation.detector import Particles
from hepml.generation.veto import PartonWindow, early_veto, event_weights

BASE_SETTINGS = ("Beams:eCM = 14000", "Random:setSeed = on", "Print:quiet = on")
LARGEST_SEED = 900_000_000


@dataclass
class Truth:
    """The resonances of a batch just before they decay and the partons that they decay to, flat.

    `resonance_sign` and `parton_sign` tell a top from an antitop (W+ from W-); `*_event` counts from 0.
    """

    resonance_event: Ints
    resonance_sign: Ints
    resonance_pt: Array
    resonance_eta: Array
    resonance_phi: Array
    parton_event: Ints
    parton_sign: Ints
    parton_eta: Array
    parton_phi: Array


@dataclass
class EventBatch:
    """One batch of events: their number, pT of the hard process in GeV and weight [events], particles and
    truth."""

    events: int
    pthat: Array
    weight: Array
    particles: Particles
    truth: Truth | None


@dataclass
class Generator:
    """A running Pythia and the Python hook that it only borrows, which must live as long as it does."""

    pythia: Any
    veto: Any | None

    def batches(self, events: int, resonance: int | None, size: int = 1000) -> Iterator[EventBatch]:
        """Generates `events` events in batches of at most `size`; `resonance` is the |PDG number| whose decay
        is the truth."""
        for start in range(0, events, size):
            batch = self.pythia.nextBatch(min(size, events - start))
            pt2_hat = ak.to_numpy(batch.info.pT2Hat)
            weight = np.ones(len(pt2_hat)) if self.veto is None else event_weights(self.veto, pt2_hat)
            yield flatten(batch, weight, resonance)

    def cross_section(self) -> float:
        """Cross-section of the events generated so far, after the early veto, in pb."""
        return float(self.pythia.infoPython().sigmaGen()) * 1e9


def start_pythia(
    settings: Sequence[str],
    seed: int,
    window: PartonWindow | None = None,
    rng: np.random.Generator | None = None,
) -> Generator:
    """A Pythia that is ready to generate.

    Args:
        settings: lines in Pythia's own language, after `BASE_SETTINGS`.
        seed: 1 to 900 000 000.
        window: when to give an event up early; None generates all.
        rng: decides for events at the edge of the window; needed with it.

    Raises:
        MissingExtraError: without the extra `generate`.
        RuntimeError: when Pythia refuses a line (a defect of the recipe).
    """
    try:
        import pythia8mc
    except ImportError as error:
        raise MissingExtraError("pythia8mc", "generate") from error
    pythia, veto = pythia8mc.Pythia("", False), None
    for line in (*BASE_SETTINGS, *settings, f"Random:seed = {seed}"):
        if not pythia.readString(line):
            raise RuntimeError(f"Pythia does not understand {line!r}")
    if window is not None:
        assert rng is not None
        veto = early_veto(window, rng)
        veto.pythia = pythia
        pythia.setUserHooksPtr(veto)
    if not pythia.init():
        raise RuntimeError("Pythia did not initialise")
    return Generator(pythia, veto)


def flatten(batch: ak.Array, weight: Array, resonance: int | None) -> EventBatch:
    """Awkward event record -> stable particles and truth."""
    record = batch.prt
    counts = ak.to_numpy(ak.num(record.id))
    event = np.repeat(np.arange(len(counts)), counts)
    pdg, status = (ak.to_numpy(ak.flatten(record[name])).astype(np.int64) for name in ("id", "status"))
    momentum = [ak.flatten(record.p[name]) for name in ("px", "py", "pz", "e")]
    vertex = ak.flatten(record.vProd)
    final = np.flatnonzero(status > 0)
    px, py, pz, energy = (ak.to_numpy(component)[final] for component in momentum)
    x, y, z = (ak.to_numpy(ak.fill_none(vertex[name][final], 0.0)) for name in ("px", "py", "pz"))
    particles = Particles(event[final], pdg[final], electric_charge(pdg[final]), px, py, pz, energy, x, y, z)
    truth = None
    if resonance is not None:
        mother = ak.to_numpy(ak.flatten(record.mother1)).astype(np.int64)
        truth = _truth(event, pdg, status, mother, np.cumsum(counts) - counts, momentum, resonance)
    return EventBatch(len(counts), np.sqrt(ak.to_numpy(batch.info.pT2Hat)), weight, particles, truth)


_POSITIVE = np.array([211, 321, 411, 431, 521, 541, 2212, 3222, 24])
_NEGATIVE = np.array([11, 13, 15, 3112, 3312, 3334])


def electric_charge(pdg: Ints) -> Array:
    """Charge in units of e of leptons, charged mesons and baryons that reach a detector."""
    size = np.abs(pdg)
    return np.sign(pdg) * (np.isin(size, _POSITIVE) * 1.0 - np.isin(size, _NEGATIVE) * 1.0)


def _truth(
    event: Ints, pdg: Ints, status: Ints, mother: Ints, first: Ints, momentum: list[ak.Array], resonance: int
) -> Truth:
    """The last copy of each resonance and the hard partons whose mother is it (or, for a top, the W from
    it)."""
    size = np.abs(pdg)
    last = np.flatnonzero((size == resonance) & (status == -62))
    hard = np.flatnonzero((np.abs(status) == 23) & (size != 24))
    mother_pdg = pdg[first[event[hard]] + mother[hard]]
    parents = (6, 24) if resonance == 6 else (resonance,)
    from_it = np.isin(np.abs(mother_pdg), parents)
    partons, sign = hard[from_it], np.sign(mother_pdg[from_it])

    def direction(index: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        px, py, pz = (ak.to_numpy(momentum[axis])[index] for axis in range(3))
        pt = np.hypot(px, py)
        return pt, np.arcsinh(pz / np.maximum(pt, 1e-9)), np.arctan2(py, px)

    pt, eta, phi = direction(last)
    _, parton_eta, parton_phi = direction(partons)
    return Truth(event[last], np.sign(pdg[last]), pt, eta, phi, event[partons], sign, parton_eta, parton_phi)
