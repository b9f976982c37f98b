"""How well a learned law conserves what it should: rollouts against the exact motion, and the energy MSE of
arXiv:1906.01563.

The published number is the mean over starting points and times of (E_true(t) - E_rollout(t))², with E the
true energy function. Starting points, spans and numbers of times are those of the paper's notebooks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepml.dynamics.integrators import DivergenceError, rollout
from hepml.dynamics.systems.base import System
from hepml.dynamics.trajectories import Trajectories, solve
from hepml.errors import ConfigError, did_you_mean

STARTS = ("box", "notebook", "sample", "test")


@dataclass(frozen=True)
class Reference:
    """The motion that rollouts are compared with.

    Args:
        states: [B, T, 2 d], exact, or recorded.
        times: [T] from zero.
    """

    states: Tensor
    times: Tensor


@dataclass(frozen=True)
class Rollouts:
    """What a law makes of the same starting points.

    Args:
        states: [B, T, 2 d]; rows of trajectories that diverged are NaN.
        diverged: how many did.
    """

    states: Tensor
    diverged: int


def reference(
    system: System,
    *,
    starts: str,
    trajectories: int,
    span: float,
    points: int,
    seed: int = 10_000,
    test: Trajectories | None = None,
) -> Reference:
    """The exact motion from the starting points of an evaluation.

    Args:
        starts: `box`: as the paper's spring and pendulum notebooks, each coordinate uniform in ±[0.2, 1];
            `notebook`: the very orbits of the paper's body notebooks, one from each of numpy's
            `RandomState(0)`, `RandomState(1)`, …; `sample`: the system's own initial states; `test`: the
            recorded test trajectories, over their own times.
        trajectories, span, points: how many, how long, how many times; ignored by `test`.
        seed: of `box` and `sample`.
        test: for `test`.

    Raises:
        ConfigError: an unknown kind of starts.
    """
    if starts not in STARTS:
        raise ConfigError(f"unknown starts '{starts}'", mend=did_you_mean(starts, STARTS))
    if starts == "test":
        if test is None:
            raise ConfigError("starts: test needs recorded trajectories", mend="use starts: sample")
        return Reference(test.states, test.times - test.times[0])
    if starts == "notebook":
        z0 = torch.cat([system.sample(1, np.random.RandomState(i)) for i in range(trajectories)])
    elif starts == "box":
        square = np.random.default_rng(seed).random((trajectories, system.dimension)) * 1.6 - 0.8
        z0 = torch.as_tensor(square + 0.2 * np.sign(square))
    else:
        z0 = system.sample(trajectories, np.random.default_rng(seed))
    times = torch.linspace(0, span, points, dtype=torch.float64)
    return Reference(solve(system, z0, times), times)


def follow(
    law: nn.Module, truth: Reference, *, method: str = "adaptive", tolerance: float = 1e-9, substeps: int = 1
) -> Rollouts:
    """Rolls a law out from where the truth begins, in float64; trajectories that diverge are left out one by
    one and counted."""
    law = copy.deepcopy(law).double().eval()
    z0 = truth.states[:, 0]

    def roll(z: Tensor) -> Tensor:
        with torch.no_grad():
            return rollout(law, z, truth.times, method, tolerance=tolerance, substeps=substeps)

    try:
        return Rollouts(roll(z0), 0)
    except DivergenceError:
        pass
    states, diverged = torch.full_like(truth.states, torch.nan), 0
    for i, z in enumerate(z0):
        try:
            states[i] = roll(z[None])[0]
        except DivergenceError:
            diverged += 1
    return Rollouts(states, diverged)


def energy_report(system: System, truth: Reference, found: Rollouts, *, splits: int = 5) -> dict[str, Any]:
    """The energy MSE and its companions.

    Returns:
        `energy_mse`: infinite where a trajectory diverged; `energy_mse_median`: the median over starting
            points instead of the mean;
        `energy_mse_error`: the paper's, the spread of the means of 5 groups of starting points over sqrt(5);
            `coordinate_mse`;
        `energy_mse_radius`: the same with q² + p² in the place of the energy, which is what the paper's
            pendulum notebook computes;
        `diverged`.
    """
    if found.diverged:
        return {
            "energy_mse": float("inf"),
            "energy_mse_median": None,
            "energy_mse_error": None,
            "coordinate_mse": float("inf"),
            "diverged": found.diverged,
        }
    true, rolled = system.hamiltonian(truth.states), system.hamiltonian(found.states)
    each = (true - rolled).square().mean(dim=-1)
    groups = [part.mean() for part in each.chunk(splits)] if len(each) >= splits else []
    radius = (truth.states.square().sum(-1) - found.states.square().sum(-1)).square().mean()
    return {
        "energy_mse": float(each.mean()),
        "energy_mse_median": float(each.median()),
        "energy_mse_error": float(torch.stack(groups).std(correction=0)) / splits**0.5 if groups else None,
        "coordinate_mse": float((truth.states - found.states).square().mean()),
        "energy_mse_radius": float(radius),
        "diverged": 0,
    }
