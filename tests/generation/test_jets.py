"""Clustering, matching and substructure do what their formulas say."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from hepml.generation.detector import FlowObjects, Particles
from hepml.generation.events import EventBatch, Truth
from hepml.generation.jets import Selection, matches, n_subjettiness, select_jets, soft_drop_mass


def flow_of(events: list[list[tuple[float, float, float]]]) -> FlowObjects:
    """Energy-flow objects from (pT, eta, phi)."""
    event = np.repeat(np.arange(len(events)), [len(e) for e in events])
    pt, eta, phi = np.array([o for e in events for o in e], dtype=float).reshape(-1, 3).T
    zero, small = np.zeros(len(pt)), np.zeros(len(pt), np.int8)
    return FlowObjects(event, pt, eta, phi, small, small, zero, zero, zero, zero)


def constituents(jets: list[list[tuple[float, float, float]]]) -> ak.Array:
    flow = flow_of(jets)
    columns = {
        "pt": flow.pt, "eta": flow.eta, "phi": flow.phi, "px": flow.pt * np.cos(flow.phi),
        "py": flow.pt * np.sin(flow.phi),
        "pz": flow.pt * np.sinh(flow.eta), "energy": flow.pt * np.cosh(flow.eta),
    }  # fmt: skip
    return ak.zip({k: ak.unflatten(v, [len(j) for j in jets]) for k, v in columns.items()})


def batch(events: int, truth: Truth | None = None) -> EventBatch:
    nothing = Particles(*(np.zeros(0, np.int64) for _ in range(3)), *(np.zeros(0) for _ in range(7)))
    return EventBatch(events, np.full(events, 600.0), np.ones(events), nothing, truth)


def truth_of(
    rows: list[tuple[int, int, float, float]], partons: list[tuple[int, int, float, float]]
) -> Truth:
    """Rows are (event, sign, eta, phi)."""
    e, s, eta, phi = (np.array(c) for c in zip(*rows, strict=True))
    pe, ps, peta, pphi = (np.array(c) for c in zip(*partons, strict=True))
    return Truth(e, s, np.full(len(e), 600.0), eta, phi, pe, ps, peta, pphi)


def test_only_the_leading_jet_counts_and_only_inside_the_window() -> None:
    events = [
        [(600.0, 0.0, 0.0), (300.0, 0.3, 3.0)],  # kept
        [(600.0, 0.0, 0.0), (700.0, 0.3, 3.0)],  # the leading jet is too hard
        [(540.0, 0.0, 0.0), (5.0, 0.1, 0.2)],  # too soft
        [(600.0, 2.1, 0.0)],  # too far forward
        [(560.0, 1.9, 0.0), (40.0, 1.9, 0.5)],  # kept, with two constituents
    ]
    jets = select_jets(flow_of(events), batch(5), Selection("leading", 550, 650))
    assert jets is not None
    assert jets.event.tolist() == [0, 4]
    assert jets.pt == pytest.approx([600.0, np.hypot(560 + 40 * np.cos(0.5), 40 * np.sin(0.5))], rel=1e-6)
    assert ak.to_list(jets.constituents.pt) == [[600.0], [560.0, 40.0]]


def test_constituents_come_in_falling_transverse_momentum() -> None:
    jets = select_jets(
        flow_of([[(50.0, 0.0, 0.0), (500.0, 0.1, 0.0), (60.0, 0.0, 0.1)]]),
        batch(1),
        Selection("leading", 550, 650),
    )
    assert jets is not None
    assert ak.to_list(jets.constituents.pt) == [[500.0, 60.0, 50.0]]


def test_a_match_needs_the_top_and_its_own_three_quarks() -> None:
    near = [(0.1, 0.1), (-0.3, 0.2), (0.4, -0.4)]
    tops = [(0, 1, 0.0, 0.0), (1, 1, 0.0, 0.0), (2, 1, 0.0, 0.0), (2, -1, 0.0, 3.0), (3, 1, 0.9, 0.0)]
    quarks = [(0, 1, *q) for q in near]
    quarks += [(1, 1, *q) for q in near[:2]] + [(1, 1, 0.7, 0.7)]  # one outside
    quarks += [(2, 1, *q) for q in near[:2]] + [(2, -1, *near[2])]  # one of the other top
    quarks += [(3, 1, *q) for q in near]  # the top itself outside
    found = matches(batch(4, truth_of(tops, quarks)), np.arange(4), np.zeros(4), np.zeros(4), 3)
    assert found.tolist() == [True, False, False, False]


def test_a_match_goes_round_in_azimuth() -> None:
    truth = truth_of([(0, 1, 0.0, np.pi - 0.05)], [(0, 1, 0.0, -np.pi + 0.05)] * 2)
    assert matches(batch(1, truth), np.array([0]), np.zeros(1), np.array([-np.pi + 0.01]), 2).all()


def test_the_jet_nearest_to_the_harder_resonance_is_picked() -> None:
    truth = truth_of([(0, 1, 0.0, 2.0)], [(0, 1, 0.1, 2.0), (0, 1, -0.1, 2.0)])
    flow = flow_of([[(900.0, 0.0, -1.0), (700.0, 0.0, 2.05)]])
    jets = select_jets(flow, batch(1, truth), Selection("resonance", 500, 1000, partons=2))
    assert jets is not None
    assert jets.pt == pytest.approx([700.0], rel=1e-6)


def test_soft_drop_removes_a_soft_wide_particle_and_keeps_two_prongs() -> None:
    two_prongs = [(300.0, 0.0, 0.0), (300.0, 0.3, 0.0)]
    mass = soft_drop_mass(constituents([two_prongs, [*two_prongs, (10.0, -0.4, 0.3)]]))
    expected = np.sqrt(2 * 300 * 300 * (np.cosh(0.3) - 1))
    assert mass == pytest.approx([expected, expected], rel=1e-5)


def test_tau_n_is_zero_for_n_constituents_and_the_mean_distance_to_the_axis_for_one() -> None:
    jets = constituents([[(300.0, 0.0, 0.0), (100.0, 0.4, 0.0)], [(10.0, 0.0, 0.0)]])
    assert n_subjettiness(jets, 2) == pytest.approx([0.0, 0.0])
    # the winner-take-all axis is the harder particle
    assert n_subjettiness(jets, 1) == pytest.approx([100 * 0.4 / (400 * 0.8), 0.0], rel=1e-6)
