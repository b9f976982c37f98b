"""A parametric detector with energy flow: what a hermetic tracker and calorimeter would make of generated
particles.

The numbers are the published ones of the Delphes card for ATLAS (arXiv:1307.6346), in the form it had when
the top-tagging reference jets (arXiv:1902.09914) were made: electromagnetic and hadronic energy share one
mesh of towers, 0.1 wide in eta and 10 degrees in phi, an excess counts from one standard deviation on, and a
track that the calorimeter measures better than the tracker takes the calorimeter's energy. The reference jets
themselves say so: a photon and a neutral hadron of one tower have equal directions, at most one such pair a
tower. Everything works on flat arrays of all particles of a batch of events; randomness comes from the
generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hepml.generation.calorimeter import MESH, Array, Ints, ecal_resolution, hcal_resolution, log_normal

FIELD_TESLA = 2.0
RADIUS_M = 1.15
HALF_LENGTH_M = 3.51
ECAL_ENERGY_MIN = 0.5  # GeV
HCAL_ENERGY_MIN = 1.0  # GeV
SIGNIFICANCE_MIN = 1.0
CHARGED_HADRON, NEUTRAL_HADRON, PHOTON, ELECTRON, MUON = range(5)

_CURVATURE = 0.299792458 * FIELD_TESLA  # pT [GeV] = 0.3 B [T] r [m]


@dataclass
class Particles:
    """Stable generated particles, one entry a particle, all events of a batch one after the other.

    `event` counts from 0; momenta and `energy` in GeV; the production vertex `x, y, z` in mm; `charge` in
    units of e; `pdg` signed.
    """

    event: Ints
    pdg: Ints
    charge: Array
    px: Array
    py: Array
    pz: Array
    energy: Array
    x: Array
    y: Array
    z: Array

    def take(self, index: NDArray[np.generic]) -> Particles:
        """The chosen entries (mask or positions)."""
        return Particles(*(getattr(self, f.name)[index] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.event)


@dataclass
class FlowObjects:
    """Energy-flow objects (tracks, photons, neutral hadrons), massless, one entry an object.

    `kind` is one of `CHARGED_HADRON` … `MUON`; `d0, dz` and their errors in mm (zero for neutral objects).
    """

    event: Ints
    pt: Array
    eta: Array
    phi: Array
    kind: NDArray[np.int8]
    charge: NDArray[np.int8]
    d0: Array
    d0_error: Array
    dz: Array
    dz_error: Array

    def __len__(self) -> int:
        return len(self.event)


def simulate(particles: Particles, rng: np.random.Generator) -> FlowObjects:
    """Propagates, tracks, absorbs and combines the particles of a batch of events.

    Neutrinos and what is made outside the tracker's cylinder are not seen.

    Args:
        particles: stable particles of the batch.
        rng: the only source of randomness.
    """
    visible = ~np.isin(np.abs(particles.pdg), (12, 14, 16))
    inside = (np.hypot(particles.x, particles.y) <= RADIUS_M * 1e3) & (
        np.abs(particles.z) <= HALF_LENGTH_M * 1e3
    )
    moving = np.hypot(particles.px, particles.py) > 3e-5
    detectable = particles.take(visible & inside & moving)
    eta, phi, reaches = propagate(detectable)
    detectable, eta, phi = detectable.take(reaches), eta[reaches], phi[reaches]
    tracks = track(detectable, eta, rng)
    return energy_flow(detectable, eta, phi, tracks, rng)


# ------------------------------------------------------------------------------------------------------------
# propagation
def propagate(particles: Particles) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Where a particle leaves the tracker's cylinder.

    Charged particles follow a helix in the solenoid's field, neutral ones a straight line, both from the
    production vertex. What curls up inside leaves through the end, at large |eta|.

    Returns:
        (eta, phi) of the exit point as seen from the origin, and whether there is one.
    """
    x, y, z = particles.x * 1e-3, particles.y * 1e-3, particles.z * 1e-3
    pt = np.hypot(particles.px, particles.py)
    ux, uy, slope = particles.px / pt, particles.py / pt, particles.pz / pt
    to_end = np.where(
        particles.pz == 0,
        np.inf,
        (np.copysign(HALF_LENGTH_M, particles.pz) - z) / np.where(slope == 0, 1, slope),
    )
    charged = particles.charge != 0
    with np.errstate(invalid="ignore", divide="ignore"):
        # straight line: transverse path length to the cylinder
        along = ux * x + uy * y
        straight = -along + np.sqrt(np.maximum(RADIUS_M**2 - (ux * y - uy * x) ** 2, 0.0))
        # helix: it turns clockwise for positive charge about a centre at (x + r uy, y - r ux), r signed
        turn = np.sign(particles.charge)
        radius = np.where(charged, pt / _CURVATURE, 1.0)
        cx, cy = x + turn * radius * uy, y - turn * radius * ux
        far = np.hypot(cx, cy)
        cosine = (RADIUS_M**2 - far**2 - radius**2) / (2 * far * radius)
        crosses = np.abs(cosine) <= 1
        opening = np.arccos(np.clip(cosine, -1, 1))
        start = np.arctan2(y - cy, x - cx)
        angle = np.remainder(start - np.arctan2(cy, cx), 2 * np.pi)
        turned = np.where(turn > 0, angle - opening, 2 * np.pi - opening - angle)
        curved = np.where(crosses, np.maximum(turned, 0.0) * radius, np.inf)
    length = np.minimum(np.where(charged, curved, straight), to_end)
    reaches = np.isfinite(length) & (length >= 0)
    length = np.where(reaches, length, 0.0)
    end_angle = start - turn * length / radius
    x_end = np.where(charged, cx + radius * np.cos(end_angle), x + ux * length)
    y_end = np.where(charged, cy + radius * np.sin(end_angle), y + uy * length)
    r_end = np.hypot(x_end, y_end)
    reaches &= r_end > 0
    eta = np.arcsinh((z + slope * length) / np.where(r_end > 0, r_end, 1.0))
    return eta, np.arctan2(y_end, x_end), reaches


# ------------------------------------------------------------------------------------------------------------
# tracker
@dataclass
class Tracks:
    """Reconstructed tracks: `particle` is the position in the particle arrays, `pt` in GeV, `resolution`
    relative."""

    particle: Ints
    kind: NDArray[np.int8]
    pt: Array
    resolution: Array


def track(particles: Particles, eta: Array, rng: np.random.Generator) -> Tracks:
    """Which charged particles make a track, and with what transverse momentum.

    Args:
        particles: stable particles.
        eta: pseudorapidity at which each leaves the tracker; efficiency and resolution are functions of it
            and of pT.
    """
    pt = np.hypot(particles.px, particles.py)
    charged = np.flatnonzero(particles.charge != 0)
    kind = track_kind(particles.pdg[charged])
    keep = rng.random(len(charged)) < tracking_efficiency(kind, pt[charged], eta[charged])
    charged, kind = charged[keep], kind[keep]
    sigma = momentum_resolution(kind, pt[charged], eta[charged])
    measured = pt[charged] * (1 + sigma * rng.standard_normal(len(charged)))
    good = measured > 0
    charged, kind, measured = charged[good], kind[good], measured[good]
    return Tracks(charged, kind, measured, momentum_resolution(kind, measured, eta[charged]))


def track_kind(pdg: Ints) -> NDArray[np.int8]:
    """Charged hadron, electron or muon."""
    size = np.abs(pdg)
    return np.where(size == 11, ELECTRON, np.where(size == 13, MUON, CHARGED_HADRON)).astype(np.int8)


def tracking_efficiency(kind: NDArray[np.int8], pt: Array, eta: Array) -> Array:
    """Published tracking efficiency: nothing below 0.1 GeV or beyond |eta| = 2.5, a step at 1 GeV, another at
    |eta| = 1.5."""
    central = np.abs(eta) <= 1.5
    low, middle = pt <= 1.0, pt <= 100.0
    hadron = np.where(central, np.where(low, 0.70, 0.95), np.where(low, 0.60, 0.85))
    electron = np.where(
        central,
        np.where(low, 0.73, np.where(middle, 0.95, 0.99)),
        np.where(low, 0.50, np.where(middle, 0.83, 0.90)),
    )
    muon = np.where(central, np.where(low, 0.75, 0.99), np.where(low, 0.70, 0.98))
    efficiency = np.where(kind == ELECTRON, electron, np.where(kind == MUON, muon, hadron))
    return np.where((pt <= 0.1) | (np.abs(eta) > 2.5), 0.0, efficiency)


_CONSTANT = np.array([[0.06, 0.10, 0.25], [0.02, 0.03, 0.06]])  # |eta| up to 0.5, 1.5, 2.5
_PER_GEV = np.array([[1.3e-3, 1.7e-3, 3.1e-3], [2.0e-4, 3.0e-4, 6.0e-4]])


def momentum_resolution(kind: NDArray[np.int8], pt: Array, eta: Array) -> Array:
    """Published relative pT resolution: constant ⊕ slope × pT, for hadrons and electrons alike, better for
    muons."""
    ring = np.digitize(np.abs(eta), (0.5, 1.5), right=True)
    row = (kind == MUON).astype(np.int64)
    return np.where(
        (pt > 0.1) & (np.abs(eta) <= 2.5), np.hypot(_CONSTANT[row, ring], _PER_GEV[row, ring] * pt), 0.0
    )


# ------------------------------------------------------------------------------------------------------------
# energy flow
def energy_fractions(pdg: Ints) -> tuple[Array, Array]:
    """Shares of a particle's energy that the electromagnetic and the hadronic calorimeter take."""
    size = np.abs(pdg)
    electromagnetic, strange = np.isin(size, (11, 22, 111)), np.isin(size, (310, 3122))
    nothing = np.isin(size, (12, 13, 14, 16))
    ecal = np.where(electromagnetic, 1.0, np.where(strange, 0.3, 0.0))
    return ecal, np.where(nothing, 0.0, 1.0 - ecal)


def energy_flow(
    particles: Particles, eta: Array, phi: Array, tracks: Tracks, rng: np.random.Generator
) -> FlowObjects:
    """Combines tracks and towers into tracks, photons and neutral hadrons.

    In each tower, separately for electromagnetic and hadronic energy: tracks that the tracker measures better
        are kept as they are and their energy is taken out; tracks that the calorimeter measures better share
        what remains; with none of those, a remainder above threshold is a photon or a neutral hadron. Muons
        leave nothing and are kept.

    Args:
        particles: stable particles that reach the calorimeter.
        eta, phi: where they do.
        tracks: tracks among them.
    """
    tower = MESH.index(eta, phi)
    inside = tower >= 0
    cell = particles.event * MESH.size + tower
    cells = (int(particles.event.max()) + 1) * MESH.size if len(particles) else MESH.size
    hit = np.zeros(cells, dtype=bool)
    hit[cell[inside]] = True
    number = np.cumsum(hit) - 1  # dense number of each tower that was hit
    hit_cells = np.flatnonzero(hit)
    slot = np.where(inside, number[np.where(inside, cell, 0)], -1)
    hit_tower = hit_cells % MESH.size
    centre = MESH.centre_eta(hit_tower)
    tower_eta, tower_phi = MESH.smear(hit_tower, rng)

    in_calorimeter = slot[tracks.particle] >= 0
    tracks = Tracks(*(getattr(tracks, f.name)[in_calorimeter] for f in fields(tracks)))
    track_eta = np.arcsinh(
        particles.pz[tracks.particle] / np.hypot(particles.px, particles.py)[tracks.particle]
    )
    track_energy = tracks.pt * np.cosh(track_eta)
    track_slot = slot[tracks.particle]
    scale = np.ones(len(track_slot))
    neutral: list[tuple[Ints, Array, int]] = []
    for kind, neutral_kind, share, resolution, minimum in (
        (ELECTRON, PHOTON, 0, ecal_resolution, ECAL_ENERGY_MIN),
        (CHARGED_HADRON, NEUTRAL_HADRON, 1, hcal_resolution, HCAL_ENERGY_MIN),
    ):
        deposit = (particles.energy * energy_fractions(particles.pdg)[share])[inside]
        truth: Array = np.bincount(slot[inside], weights=deposit, minlength=len(hit_cells)).astype(np.float64)
        measured = log_normal(truth, resolution(centre, truth), rng)
        measured = _above_threshold(measured, resolution(centre, measured), minimum)

        mine = np.flatnonzero(tracks.kind == kind)
        at, energy = track_slot[mine], track_energy[mine]
        by_calorimeter = resolution(centre[at], energy) / energy < tracks.resolution[mine]
        kept = np.bincount(at[~by_calorimeter], weights=energy[~by_calorimeter], minlength=len(hit_cells))
        shared = np.bincount(at[by_calorimeter], weights=energy[by_calorimeter], minlength=len(hit_cells))
        remainder = measured - kept
        replaced = mine[by_calorimeter]
        scale[replaced] = (remainder / np.where(shared > 0, shared, 1.0))[track_slot[replaced]]
        remainder = np.where(shared > 0, 0.0, np.maximum(remainder, 0.0))
        remainder = _above_threshold(remainder, resolution(centre, remainder), minimum)
        excess = np.flatnonzero(remainder > 0)
        neutral.append((excess, remainder[excess], neutral_kind))

    # a track whose tower holds no more than its better-measured neighbours is left with nothing: there is no
    # such object
    alive = scale > 0
    index, track_kinds = tracks.particle[alive], tracks.kind[alive]
    pt = (tracks.pt * scale)[alive]
    d0, d0_error, dz, dz_error = impact_parameters(particles.take(index), tracks.pt[alive], rng)
    slots = np.concatenate([m for m, _, _ in neutral])
    energies = np.concatenate([e for _, e, _ in neutral])
    nothing = np.zeros(len(slots))
    return FlowObjects(
        event=np.concatenate([particles.event[index], hit_cells[slots] // MESH.size]),
        pt=np.concatenate([pt, energies / np.cosh(tower_eta[slots])]),
        eta=np.concatenate([track_eta[alive], tower_eta[slots]]),
        phi=np.concatenate([np.arctan2(particles.py[index], particles.px[index]), tower_phi[slots]]),
        kind=np.concatenate([track_kinds, *(np.full(len(m), k, np.int8) for m, _, k in neutral)]),
        charge=np.concatenate([np.sign(particles.charge[index]), nothing]).astype(np.int8),
        d0=np.concatenate([d0, nothing]),
        d0_error=np.concatenate([d0_error, nothing]),
        dz=np.concatenate([dz, nothing]),
        dz_error=np.concatenate([dz_error, nothing]),
    )


def impact_parameters(
    particles: Particles, pt: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Signed transverse and longitudinal impact parameters in mm with their errors.

    The tangent at the production vertex, extended to the beam line, smeared by 10 µm ⊕ 100 µm/pT across and
    50 µm ⊕ 200 µm/pT along the beam. The card that the rest follows has none: these are of the usual size for
    a silicon tracker.

    Returns:
        (d0, its error, dz, its error).
    """
    size = np.maximum(np.hypot(particles.px, particles.py), 1e-9)
    ux, uy = particles.px / size, particles.py / size
    d0 = particles.x * uy - particles.y * ux
    dz = particles.z - (particles.x * ux + particles.y * uy) * particles.pz / size
    d0_error = np.hypot(0.010, 0.100 / np.maximum(pt, 0.1))
    dz_error = np.hypot(0.050, 0.200 / np.maximum(pt, 0.1))
    return (
        d0 + d0_error * rng.standard_normal(len(d0)),
        d0_error,
        dz + dz_error * rng.standard_normal(len(dz)),
        dz_error,
    )


def _above_threshold(energy: Array, sigma: Array, minimum: float) -> Array:
    return np.where((energy < minimum) | (energy < SIGNIFICANCE_MIN * sigma), 0.0, energy)
