"""The detector measures what the published card says it measures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from hepml.generation import detector
from hepml.generation.detector import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON, Particles

Beam = Callable[..., Particles]
MANY = 20_000


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def together(*beams: Particles) -> Particles:
    """Several beams in the same events."""
    return Particles(
        *(np.concatenate(columns) for columns in zip(*(vars(b).values() for b in beams), strict=True))
    )


# ------------------------------------------------------------------------------------------------------------
# propagation
def test_a_charged_particle_bends_by_the_radius_of_its_helix(beam: Beam) -> None:
    for pdg, side in ((211, -1), (-211, 1)):
        _, phi, reaches = detector.propagate(beam(pdg, 2.0, eta=0.4, phi=0.3))
        assert reaches.all()
        expected = side * np.arcsin(detector.RADIUS_M / (2 * 2.0 / (0.299792458 * detector.FIELD_TESLA)))
        assert phi[0] - 0.3 == pytest.approx(expected, abs=1e-9)


def test_a_neutral_particle_flies_straight_from_its_vertex(beam: Beam) -> None:
    eta, phi, _ = detector.propagate(beam(22, 5.0, eta=0.7, phi=1.1))
    assert (eta[0], phi[0]) == pytest.approx((0.7, 1.1))
    eta, phi, _ = detector.propagate(beam(22, 5.0, eta=0.0, phi=0.0, vertex=(0.0, 300.0, 400.0)))
    assert phi[0] == pytest.approx(np.arcsin(0.3 / detector.RADIUS_M))
    assert np.sinh(eta[0]) == pytest.approx(0.4 / detector.RADIUS_M)


def test_what_curls_up_leaves_through_the_end(beam: Beam) -> None:
    smallest = 0.299792458 * detector.FIELD_TESLA * detector.RADIUS_M / 2  # pT that just reaches the radius
    inside, _, _ = detector.propagate(beam(211, 0.95 * smallest, eta=0.3))
    outside, _, _ = detector.propagate(beam(211, 1.05 * smallest, eta=0.3))
    end_of_barrel = np.arcsinh(detector.HALF_LENGTH_M / detector.RADIUS_M)
    assert inside[0] > end_of_barrel > outside[0]


def test_neutrinos_and_what_is_made_outside_the_tracker_are_not_seen(beam: Beam) -> None:
    assert len(detector.simulate(beam(14, 50.0, number=50), rng())) == 0
    assert len(detector.simulate(beam(22, 50.0, number=50, vertex=(1200.0, 0.0, 0.0)), rng())) == 0
    assert len(detector.simulate(beam(22, 50.0, number=50, vertex=(1000.0, 0.0, 0.0)), rng())) == 50


# ------------------------------------------------------------------------------------------------------------
# tracker
@pytest.mark.parametrize(
    ("pdg", "pt", "eta", "efficiency"),
    [
        (211, 0.09, 0.2, 0.0), (211, 0.5, 0.2, 0.70), (211, 5.0, 0.2, 0.95), (211, 0.5, 2.0, 0.60), (211,
        5.0, 2.0, 0.85),
        (211, 5.0, 2.6, 0.0), (11, 0.5, 0.2, 0.73), (11, 5.0, 0.2, 0.95), (11, 150.0, 0.2, 0.99), (11, 0.5,
        2.0, 0.50),
        (11, 5.0, 2.0, 0.83), (11, 150.0, 2.0, 0.90), (13, 0.5, 0.2, 0.75), (13, 5.0, 0.2, 0.99), (13, 0.5,
        2.0, 0.70),
        (13, 5.0, 2.0, 0.98),
    ],
)  # fmt: skip
def test_tracking_efficiency_is_the_published_one(
    beam: Beam, pdg: int, pt: float, eta: float, efficiency: float
) -> None:
    tracks = detector.track(beam(pdg, pt, eta, number=MANY), np.full(MANY, eta), rng())
    kind = detector.track_kind(np.array([pdg]))
    resolution = float(detector.momentum_resolution(kind, np.array([pt]), np.array([eta]))[0])
    positive = (
        0.5 * (1 + math.erf(1 / resolution / math.sqrt(2))) if resolution else 1.0
    )  # a track needs a positive pT
    spread = np.sqrt(max(efficiency * (1 - efficiency), 1e-9) / MANY)
    assert len(tracks.pt) / MANY == pytest.approx(efficiency * positive, abs=4 * spread + 1e-9)


@pytest.mark.parametrize(
    ("pdg", "pt", "eta", "resolution"),
    [
        (211, 10.0, 0.2, np.hypot(0.06, 1.3e-3 * 10)), (211, 40.0, 1.0, np.hypot(0.10, 1.7e-3 * 40)),
        (211, 20.0, 2.0, np.hypot(0.25, 3.1e-3 * 20)), (11, 10.0, 0.2, np.hypot(0.06, 1.3e-3 * 10)),
        (13, 50.0, 0.2, np.hypot(0.02, 2e-4 * 50)), (13, 50.0, 1.0, np.hypot(0.03, 3e-4 * 50)),
        (13, 50.0, 2.0, np.hypot(0.06, 6e-4 * 50)),
    ],
)  # fmt: skip
def test_momentum_resolution_is_the_published_one(
    beam: Beam, pdg: int, pt: float, eta: float, resolution: float
) -> None:
    tracks = detector.track(beam(pdg, pt, eta, number=MANY), np.full(MANY, eta), rng())
    assert np.std(tracks.pt / pt) == pytest.approx(resolution, rel=4 / np.sqrt(2 * MANY))
    assert np.mean(tracks.pt / pt) == pytest.approx(1.0, abs=4 * resolution / np.sqrt(MANY) + 1e-4)


# ------------------------------------------------------------------------------------------------------------
# calorimeter
@pytest.mark.parametrize(("energy", "eta"), [(20.0, 0.25), (100.0, 0.25), (100.0, 2.05)])
def test_photon_energy_resolution_is_the_published_one(beam: Beam, energy: float, eta: float) -> None:
    flow = detector.simulate(beam(22, energy / np.cosh(eta), eta, number=MANY), rng())
    assert (flow.kind == PHOTON).all()
    measured = flow.pt * np.cosh(flow.eta)
    assert np.std(measured) == pytest.approx(np.hypot(0.0017 * energy, 0.101 * np.sqrt(energy)), rel=0.03)
    assert np.mean(measured) == pytest.approx(energy, rel=0.005)


@pytest.mark.parametrize(
    ("energy", "eta", "resolution"),
    [
        (100.0, 0.25, np.sqrt((0.0302 * 100) ** 2 + 0.5205**2 * 100 + 1.59**2)),
        (100.0, 2.05, np.sqrt((0.05 * 100) ** 2 + 0.706**2 * 100)),
    ],
)
def test_neutral_hadron_energy_resolution_is_the_published_one(
    beam: Beam, energy: float, eta: float, resolution: float
) -> None:
    flow = detector.simulate(beam(130, energy / np.cosh(eta), eta, number=MANY), rng())
    assert (flow.kind == NEUTRAL_HADRON).all()
    assert np.std(flow.pt * np.cosh(flow.eta)) == pytest.approx(resolution, rel=0.03)


def test_towers_are_a_tenth_in_eta_and_ten_degrees_in_phi_and_hide_where_the_energy_fell(beam: Beam) -> None:
    flow = detector.simulate(beam(22, 50.0, eta=0.25, phi=np.radians(15.0), number=MANY), rng())
    assert flow.eta.min() >= 0.2
    assert flow.eta.max() <= 0.3
    assert np.degrees(flow.phi.min()) >= 10.0
    assert np.degrees(flow.phi.max()) <= 20.0
    assert np.std(flow.eta) == pytest.approx(0.1 / np.sqrt(12), rel=0.03)
    assert np.std(np.degrees(flow.phi)) == pytest.approx(10 / np.sqrt(12), rel=0.03)


def test_nothing_below_half_a_gev_is_a_photon_nor_below_one_sigma_a_neutral_hadron(beam: Beam) -> None:
    photons = detector.simulate(beam(22, 0.6, eta=0.05, number=MANY), rng())
    assert 0 < len(photons) < MANY
    assert (photons.pt * np.cosh(photons.eta)).min() >= 0.5
    hadrons = detector.simulate(beam(130, 2.0, eta=0.05, number=MANY), rng())
    energy = hadrons.pt * np.cosh(hadrons.eta)
    assert 0 < len(hadrons) < MANY
    assert (energy >= detector.hcal_resolution(np.full(len(energy), 0.05), energy) - 1e-9).all()


# ------------------------------------------------------------------------------------------------------------
# energy flow
def test_a_short_lived_kaon_leaves_three_tenths_in_the_electromagnetic_part(beam: Beam) -> None:
    flow = detector.simulate(beam(310, 100.0, eta=0.05, number=MANY), rng())
    energy = flow.pt * np.cosh(flow.eta)
    assert energy[flow.kind == PHOTON].mean() == pytest.approx(30.0, rel=0.02)
    assert energy[flow.kind == NEUTRAL_HADRON].mean() == pytest.approx(70.0, rel=0.02)


def test_photon_and_neutral_hadron_of_one_tower_have_one_direction(beam: Beam) -> None:
    flow = detector.simulate(together(beam(22, 30.0, number=200), beam(130, 30.0, number=200)), rng())
    photon, hadron = flow.kind == PHOTON, flow.kind == NEUTRAL_HADRON
    both = np.intersect1d(flow.event[photon], flow.event[hadron])
    assert len(both) > 190
    for event in both[:20]:
        assert flow.eta[photon & (flow.event == event)] == flow.eta[hadron & (flow.event == event)]
    _, counts = np.unique(flow.event[photon], return_counts=True)
    assert counts.max() == 1


def test_a_soft_hadron_keeps_its_track_and_a_hard_one_takes_the_energy_of_the_calorimeter(beam: Beam) -> None:
    for pt, resolution in (
        (10.0, np.hypot(0.06, 0.013)),
        (100.0, np.sqrt(0.0302**2 + 0.5205**2 / 100 + (1.59 / 100) ** 2)),
    ):
        flow = detector.simulate(beam(211, pt, eta=0.05, number=MANY), rng())
        track = flow.kind == CHARGED_HADRON
        assert np.std(flow.pt[track] / pt) == pytest.approx(resolution, rel=0.05)
        assert flow.eta[track] == pytest.approx(np.full(track.sum(), 0.05))


def test_energy_beside_a_track_is_kept_once(beam: Beam) -> None:
    alone = detector.simulate(beam(211, 20.0, eta=0.05, number=MANY), rng())
    both = detector.simulate(
        together(beam(211, 20.0, eta=0.05, number=MANY), beam(130, 30.0, eta=0.05, phi=0.27, number=MANY)),
        rng(),
    )
    gained = (both.pt * np.cosh(both.eta)).sum() / MANY - (alone.pt * np.cosh(alone.eta)).sum() / MANY
    assert gained == pytest.approx(30.0, rel=0.05)


def test_muons_leave_nothing_in_the_calorimeter_and_electrons_all_in_its_first_part(beam: Beam) -> None:
    muons = detector.simulate(beam(13, 30.0, number=MANY), rng())
    assert (muons.kind == MUON).all()
    assert (muons.charge == -1).all()
    electrons = detector.simulate(beam(-11, 30.0, number=MANY), rng())
    assert set(np.unique(electrons.kind)) <= {ELECTRON, PHOTON}
    assert np.mean(electrons.kind == ELECTRON) > 0.9


def test_impact_parameters_scatter_by_their_errors_about_the_true_ones(beam: Beam) -> None:
    displaced = beam(211, 5.0, eta=0.0, phi=0.0, number=MANY, vertex=(3.0, -0.5, 2.0))
    d0, d0_error, dz, dz_error = detector.impact_parameters(displaced, np.full(MANY, 5.0), rng())
    assert np.mean(d0) == pytest.approx(0.5, abs=0.002)
    assert np.mean(dz) == pytest.approx(2.0, abs=0.005)
    assert np.std((d0 - 0.5) / d0_error) == pytest.approx(1.0, rel=0.03)
    assert np.std((dz - 2.0) / dz_error) == pytest.approx(1.0, rel=0.03)


def test_the_same_generator_gives_the_same_objects(beam: Beam) -> None:
    mixed = together(*(beam(pdg, 20.0, number=300) for pdg in (211, -211, 22, 130, 13)))
    one, two, other = (detector.simulate(mixed, rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.pt, two.pt)
    assert not np.array_equal(one.pt, other.pt)
