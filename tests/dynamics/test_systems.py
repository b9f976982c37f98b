"""The systems move as physics says: exact solutions, conserved quantities, published starting points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hepml.dynamics.adaptive import adaptive_rollout
from hepml.dynamics.integrators import rollout
from hepml.dynamics.systems import (
    SYSTEMS,
    Dipole,
    Fodo,
    FodoByCell,
    NBody,
    Spring,
    ThreeBody,
    TwoBody,
    system,
)
from hepml.dynamics.trajectories import generate, solve
from hepml.errors import ConfigError
from hepml.nn.hamiltonian import hamiltonian_field

ALL = sorted(SYSTEMS)
CONSERVING = [name for name in ALL if SYSTEMS[name].conserves]
WITHOUT_DAMPING = [name for name in CONSERVING if SYSTEMS[name].separable]


def states(name: str, count: int = 5) -> torch.Tensor:
    return system(name).sample(count, np.random.default_rng(3))


@pytest.mark.parametrize("name", ALL)
def test_initial_states_have_the_phase_space_shape_in_float64(name: str) -> None:
    z = states(name)
    assert z.shape == (5, system(name).dimension)
    assert z.dtype == torch.float64
    assert system(name).dimension == len(system(name).coordinates)


@pytest.mark.parametrize("name", WITHOUT_DAMPING)
def test_field_is_the_symplectic_gradient_of_the_energy(name: str) -> None:
    s, z = system(name), states(name)
    assert torch.allclose(s.field(z), hamiltonian_field(s.hamiltonian, z), atol=1e-12)


@pytest.mark.parametrize("name", CONSERVING)
def test_exact_motion_conserves_energy(name: str) -> None:
    s = system(name)
    energy = s.hamiltonian(solve(s, states(name), torch.linspace(0, 5, 40, dtype=torch.float64)))
    assert (energy - energy[:, :1]).abs().max() < 1e-8


@pytest.mark.parametrize("name", ["damped_pendulum", "damped_spring"])
def test_friction_only_takes_energy(name: str) -> None:
    s = system(name)
    energy = s.hamiltonian(solve(s, states(name), torch.linspace(0, 20, 80, dtype=torch.float64)))
    assert (energy.diff(dim=1) < 1e-10).all()
    assert (energy[:, -1] < 0.9 * energy[:, 0]).all()


@pytest.mark.parametrize("name", ["spring", "damped_spring", "dipole", "fodo_by_cell"])
def test_closed_form_agrees_with_adaptive_integration(name: str) -> None:
    s, z = system(name), states(name)
    times = torch.linspace(0, 7, 30, dtype=torch.float64)
    assert (s.exact(z, times) - adaptive_rollout(s, z, times, 1e-12)).abs().max() < 1e-9


def test_spring_turns_with_angular_frequency_two() -> None:
    z = torch.tensor([[0.7, 0.0]], dtype=torch.float64)
    end = solve(Spring(), z, torch.tensor([0.0, math.pi], dtype=torch.float64))[:, -1]
    assert torch.allclose(end, z, atol=1e-14)


def test_charge_in_a_dipole_runs_on_a_circle_of_radius_p_over_b() -> None:
    s, z = Dipole(field_strength=2.5), states("dipole")
    path = solve(s, z, torch.linspace(0, 2 * math.pi / 2.5, 400, dtype=torch.float64))
    centre = path[:, :-1, :2].mean(1, keepdim=True)
    radius = (path[:, :, :2] - centre).norm(dim=-1)
    wanted = s.kinetic_momentum(z).norm(dim=-1) / 2.5
    assert torch.allclose(radius, wanted[:, None].expand_as(radius), rtol=1e-6)
    assert torch.allclose(path[:, -1], path[:, 0], atol=1e-12)


def test_fodo_phase_advance_is_the_textbook_one_for_thin_lenses() -> None:
    cell, focal = 10.0, 8.0
    thin = Fodo(cell=cell, quadrupole=1e-4, gradient=1 / (focal * 1e-4))
    for mu in thin.phase_advance():
        assert math.sin(mu / 2) == pytest.approx(cell / (4 * focal), rel=1e-3)


def test_fodo_keeps_the_courant_snyder_invariants_from_cell_to_cell_and_turns_by_its_phase_advance() -> None:
    s = Fodo()
    z = s.sample(6, np.random.default_rng(0))
    path = solve(s, z, torch.arange(0, 51, dtype=torch.float64) * s.cell)
    invariants = s.courant_snyder(path)
    assert (invariants > 0).all()
    assert (invariants / invariants[:, :1] - 1).abs().max() < 1e-10
    assert path[..., :2].abs().max() < 20 * z[:, :2].abs().max(), "the beam leaves the pipe"


def test_fodo_transfer_matrices_are_symplectic_and_agree_with_integration() -> None:
    s = Fodo()
    for m in s.cell_matrices():
        assert float(torch.linalg.det(m)) == pytest.approx(1, abs=1e-13)
    z = s.sample(3, np.random.default_rng(0))
    times = torch.linspace(0, s.cell, 17, dtype=torch.float64)  # the elements' ends are among them
    # midpoints never fall on an edge, where k jumps
    assert (rollout(s, z, times, "implicit_midpoint", substeps=20) - s.exact(z, times)).abs().max() < 1e-6


@pytest.mark.parametrize("gradient", [1.0, 0.4, 1.6])
def test_lattice_by_cell_is_the_lattice_at_the_beginnings_of_its_cells(gradient: float) -> None:
    inside, by_cell = Fodo(gradient=gradient), FodoByCell(gradient=gradient)
    z = by_cell.sample(5, np.random.default_rng(0))
    nothing = torch.zeros(5, 1, dtype=torch.float64)
    whole = torch.cat((z[:, :2], nothing, z[:, 2:], nothing), dim=1)
    times = torch.arange(0, 31, dtype=torch.float64) * inside.cell
    wanted = inside.exact(whole, times)[..., [0, 1, 3, 4]]
    assert wanted.std() > 0.3
    assert (by_cell.exact(z, times) - wanted).abs().max() < 1e-12 * 30


def test_unstable_lattice_is_refused() -> None:
    with pytest.raises(ConfigError, match="unstable"):
        Fodo(gradient=8.0)


@pytest.mark.parametrize("kind", [TwoBody, ThreeBody])
def test_bodies_keep_momentum_and_angular_momentum(kind: type[NBody]) -> None:
    s = kind()
    path = solve(s, s.sample(4, np.random.default_rng(1)), torch.linspace(0, 3, 20, dtype=torch.float64))
    q, p = (x.unflatten(-1, (-1, 2)) for x in path.chunk(2, dim=-1))
    spin = (q[..., 0] * p[..., 1] - q[..., 1] * p[..., 0]).sum(-1)
    assert (p.sum(-2) - p.sum(-2)[:, :1]).abs().max() < 1e-8
    assert (spin - spin[:, :1]).abs().max() < 1e-7


def test_two_body_start_is_the_published_one_for_its_seed() -> None:
    # numpy.random.seed(0); rand(2) = .5488135, .71518937; the velocity factor 1 + .05 randn() with the next
    # normal deviate
    random = np.random.RandomState(0)
    x, y = random.rand(2) + 0.5
    r = math.hypot(x, y)
    factor = (1 + 0.05 * random.randn()) / (2 * r**1.5)
    wanted = torch.tensor(
        [x, y, -x, -y, -y * factor, x * factor, y * factor, -x * factor], dtype=torch.float64
    )
    assert torch.allclose(TwoBody().sample(1, np.random.RandomState(0))[0], wanted, atol=1e-15)


def test_energy_of_bodies_does_not_depend_on_their_order() -> None:
    s = NBody(bodies=5)
    z = s.sample(3, np.random.default_rng(2))
    order = torch.tensor([3, 1, 4, 0, 2])
    swapped = z.unflatten(-1, (2, 5, 2))[:, :, order].flatten(1)
    assert torch.allclose(s.hamiltonian(z), s.hamiltonian(swapped), atol=1e-14)


def test_noise_is_on_states_only_and_of_the_stated_size() -> None:
    clean, noisy = (
        generate(Spring(), trajectories=400, points=30, span=3.0, noise=n, seed=5) for n in (0.0, 0.1)
    )
    assert torch.equal(clean.derivatives, noisy.derivatives)
    assert float((noisy.states - clean.states).std()) == pytest.approx(0.1, rel=0.02)


def test_same_seed_gives_the_same_motion() -> None:
    a, b, c = (generate(ThreeBody(), trajectories=3, points=5, span=1.0, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.states, b.states)
    assert not torch.equal(a.states, c.states)


def test_unknown_system_or_argument_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pendulum'"):
        system("pendulm")
    with pytest.raises(ConfigError, match="did you mean 'friction'"):
        system("damped_spring", fricton=0.1)
