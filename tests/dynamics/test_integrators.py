"""The integrators have the order, the reversibility and the symplecticity that they claim, in float64, in
batches, with gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hepml.dynamics.integrators import METHODS, STEPS, DivergenceError, rollout
from hepml.dynamics.systems import Dipole, Pendulum, Spring, ThreeBody, TwoBody
from hepml.dynamics.trajectories import solve
from hepml.errors import ConfigError, DataError

ORDERS = {"verlet": 2, "yoshida4": 4, "implicit_midpoint": 2, "rk4": 4}
SYMPLECTIC = ["verlet", "yoshida4", "implicit_midpoint"]


def pendulum_states(count: int = 4) -> Tensor:
    return Pendulum().sample(count, np.random.default_rng(0))


def span(end: float, points: int) -> Tensor:
    return torch.linspace(0, end, points, dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-9])  # fifth and eighth order
def test_asking_for_more_times_costs_no_steps_and_is_as_exact(tolerance: float) -> None:
    z0, calls = Pendulum().sample(3, np.random.default_rng(0)), []

    def law(z: Tensor) -> Tensor:
        calls.append(len(z))
        return Pendulum().field(z)

    paths = {}
    for points in (2, 401):
        calls.clear()
        paths[points] = rollout(
            law, z0, torch.linspace(0, 10, points, dtype=torch.float64), "adaptive", tolerance=tolerance
        )
        paths[points, "calls"] = len(calls)
    exact = rollout(law, z0, torch.linspace(0, 10, 401, dtype=torch.float64), "adaptive", tolerance=1e-12)
    assert (paths[401] - exact).abs().max() < 200 * tolerance
    assert torch.equal(paths[2][:, -1], paths[401][:, -1])
    assert paths[401, "calls"] < 1.4 * paths[2, "calls"]


@pytest.mark.parametrize("method", sorted(ORDERS))
def test_error_falls_with_the_order_of_the_method(method: str) -> None:
    s, z, times = Pendulum(), pendulum_states(), span(2.0, 2)
    exact = solve(s, z, times)[:, -1]
    errors = [float((rollout(s, z, times, method, substeps=n)[:, -1] - exact).norm()) for n in (20, 40)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[method], abs=0.25)


@pytest.mark.parametrize("method", SYMPLECTIC)
def test_symplectic_steps_run_back_exactly(method: str) -> None:
    s, z = Pendulum(), pendulum_states()
    there = rollout(s, z, span(20.0, 2), method, substeps=200)[:, -1]
    back = rollout(s, there, span(20.0, 2).flip(0), method, substeps=200)[:, -1]
    assert (there - z).abs().max() > 0.1
    assert (back - z).abs().max() < 1e-10


@pytest.mark.parametrize("method", SYMPLECTIC)
def test_a_step_keeps_the_symplectic_form(method: str) -> None:
    s = TwoBody()
    z = s.sample(1, np.random.default_rng(0))[0]
    m = torch.autograd.functional.jacobian(lambda x: rollout(s, x, span(1.0, 2), method, substeps=5)[-1], z)
    j = torch.zeros(8, 8, dtype=torch.float64)
    j[:4, 4:], j[4:, :4] = torch.eye(4), -torch.eye(4)
    assert (m.T @ j @ m - j).abs().max() < 1e-10


def test_rk4_does_not_keep_the_symplectic_form() -> None:
    m = torch.autograd.functional.jacobian(lambda x: STEPS["rk4"](Pendulum(), x, 0.5), pendulum_states()[0])
    assert abs(float(torch.linalg.det(m)) - 1) > 1e-6


@pytest.mark.parametrize("method", SYMPLECTIC)
def test_energy_error_of_symplectic_steps_stays_bounded_over_many_periods(method: str) -> None:
    s = Spring()
    z = torch.tensor([[0.8, 0.1]], dtype=torch.float64)
    path = rollout(s, z, span(120.0, 121), method, substeps=8)
    error = (s.hamiltonian(path) - s.hamiltonian(z)[:, None]).abs()
    assert error[:, 1:].max() < 1.5 * error[:, 1:51].max() + 1e-12
    assert error.max() < 0.02


def test_rk4_loses_energy_where_verlet_does_not() -> None:
    s = Spring()
    z, times = torch.tensor([[0.8, 0.0]], dtype=torch.float64), span(200.0, 11)
    lost = {
        m: float((s.hamiltonian(rollout(s, z, times, m, substeps=100)) - 0.64)[0, -1])
        for m in ("rk4", "verlet")
    }
    phase = 2 * 0.2  # H = q² + p² turns at angular frequency 2; steps of 0.2
    damping = 1 - phase**6 / 72 + phase**8 / 576  # |R(i phase)|² of the classical Runge-Kutta step
    assert lost["rk4"] == pytest.approx(0.64 * (damping**1000 - 1), abs=1e-6)
    assert abs(lost["verlet"]) < 0.03


def test_implicit_midpoint_conserves_quadratic_energies_of_inseparable_systems() -> None:
    s = Dipole()
    z = s.sample(4, np.random.default_rng(0))
    path = rollout(s, z, span(20.0, 11), "implicit_midpoint", substeps=8)
    energy = s.hamiltonian(path)
    assert (energy - energy[:, :1]).abs().max() < 1e-12


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_batch_is_its_trajectories_one_by_one(method: str) -> None:
    s, z, times = Pendulum(), pendulum_states(3), span(2.0, 5)
    together = rollout(s, z, times, method, substeps=20)
    alone = torch.cat([rollout(s, one[None], times, method, substeps=20) for one in z])
    assert together.shape == (3, 5, 2)
    assert (together - alone).abs().max() < 1e-7


def test_adaptive_and_library_rk45_agree_on_chaotic_orbits() -> None:
    s = ThreeBody()
    z, times = s.sample(3, np.random.default_rng(4)), span(2.0, 9)
    a, b = (rollout(s, z, times, m, tolerance=1e-10) for m in ("adaptive", "rk45"))
    assert (a - b).abs().max() < 1e-6


@pytest.mark.parametrize("method", sorted(ORDERS))
def test_gradients_flow_through_a_rollout(method: str) -> None:
    s, z = Pendulum(), pendulum_states(2)
    strength = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    s.strength = strength  # type: ignore[assignment]
    (gradient,) = torch.autograd.grad(rollout(s, z, span(1.0, 2), method, substeps=10)[:, -1].sum(), strength)
    ends = []
    for shifted in (3.0 + 1e-5, 3.0 - 1e-5):
        s.strength = shifted
        ends.append(float(rollout(s, z, span(1.0, 2), method, substeps=10)[:, -1].sum()))
    assert float(gradient) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("method", sorted(ORDERS))
def test_diverging_step_is_named_with_one_that_works(method: str) -> None:
    s, z = Spring(), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    with pytest.raises(DivergenceError, match=r"step 3") as problem:
        rollout(s, z, span(3000.0, 1001), method)
    suggested = float(str(problem.value).rpartition("≤")[2])
    assert 0.01 < suggested < 1
    steps = int(60 / suggested) + 1
    path = rollout(s, z, span(60.0, steps + 1), method)
    assert s.hamiltonian(path)[0, -1] == pytest.approx(1, abs=0.3)


def test_close_encounter_that_cannot_be_integrated_is_named() -> None:
    head_on = torch.tensor([[0.5, 0, -0.5, 0, 0, 0, 0, 0]], dtype=torch.float64)
    with pytest.raises(DivergenceError, match="singularity"):
        rollout(TwoBody(), head_on, span(5.0, 3), "adaptive")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_states_that_are_not_finite_are_refused(method: str) -> None:
    z = pendulum_states(3)
    z[1, 0] = math.nan
    with pytest.raises(DataError, match=r"not finite \(in index \(1, 0\)"):
        rollout(Pendulum(), z, span(1.0, 2), method)


def test_explicit_symplectic_steps_refuse_an_inseparable_system() -> None:
    with pytest.raises(ConfigError, match="use implicit_midpoint"):
        rollout(Dipole(), Dipole().sample(1, np.random.default_rng(0)), span(1.0, 2), "verlet")


def test_unknown_integrator_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'verlet'"):
        rollout(Spring(), torch.zeros(1, 2, dtype=torch.float64), span(1.0, 2), "verlett")
