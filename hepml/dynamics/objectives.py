"""What a fit of a law of motion minimises: derivatives as in arXiv:1906.01563, derivatives at denoised
states, or states along symplectic steps (arXiv:1909.13334). `OBJECTIVES` has them by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from hepml.dynamics.fit_settings import FitSettings
from hepml.dynamics.integrators import STEPS
from hepml.dynamics.trajectories import Trajectories
from hepml.errors import ConfigError, did_you_mean


def denoised(data: Trajectories) -> Trajectories:
    """States with the noise averaged out over each trajectory.

    The derivatives are exact, so a trajectory is known up to where it begins: z(t) = c + integral of dz/dt
    (a cubic spline through the derivatives). Its beginning c is the mean over the trajectory of what was
    measured minus that integral, so the noise of T states shrinks by sqrt(T).
    """
    path = CubicSpline(data.times.numpy(), data.derivatives.numpy(), axis=1).antiderivative()(
        data.times.numpy()
    )
    path = torch.as_tensor(np.asarray(path))
    return Trajectories(path + (data.states - path).mean(dim=1, keepdim=True), data.derivatives, data.times)


class Derivatives:
    """Squared error of dz/dt at the recorded states: the loss of arXiv:1906.01563, eq. 3."""

    def __init__(self, network: nn.Module, data: Trajectories, settings: FitSettings, like: Tensor) -> None:
        self.network, self.relative = network, settings.loss == "relative"
        self.x, self.dx = (t.to(like) for t in data.points())
        self.size = self.x.shape[0]
        self.extra: list[nn.Parameter] = []

    def __call__(self, batch: Tensor | None) -> Tensor:
        x, dx = (self.x, self.dx) if batch is None else (self.x[batch], self.dx[batch])
        return _error(self.network(x), dx, self.relative)


class Denoised:
    """The same at denoised states, whose remaining error, one shift a trajectory, is learned along with the
    law."""

    # Weight of the shifts' Gaussian prior, in units of the mean squared error of dz/dt. It only decides what
    # the law leaves open.
    PRIOR = 1e-6

    def __init__(self, network: nn.Module, data: Trajectories, settings: FitSettings, like: Tensor) -> None:
        self.network, self.relative = network, settings.loss == "relative"
        clean = denoised(data)
        self.x, self.dx = (t.to(like) for t in clean.points())
        self.of = torch.arange(len(data)).repeat_interleave(len(data.times)).to(like.device)
        self.size = self.x.shape[0]
        spread = (data.states - clean.states).std() / len(data.times) ** 0.5
        self.width = float(spread.clamp_min(1e-12))
        # Adam moves every parameter by its rate: the shifts are in units of what they are expected to be.
        self.shift = nn.Parameter(torch.zeros(len(data), self.x.shape[1]).to(like))
        self.extra = [self.shift]

    def in_units_of_states(self) -> None:
        """For L-BFGS, which works best where the loss curves alike in all directions: shifts in the units of
        the states themselves."""
        with torch.no_grad():
            self.shift.mul_(self.width)
        self.width = 1.0

    def __call__(self, batch: Tensor | None) -> Tensor:
        of = self.of if batch is None else self.of[batch]
        x, dx = (self.x, self.dx) if batch is None else (self.x[batch], self.dx[batch])
        x = x + self.width * self.shift[of]
        return (
            _error(self.network(x), dx, self.relative)
            + self.PRIOR * self.width**2 * self.shift.square().mean()
        )


class Steps:
    """Squared error of states along short rollouts from each recorded state (the symplectic training of
    arXiv:1909.13334)."""

    def __init__(self, network: nn.Module, data: Trajectories, settings: FitSettings, like: Tensor) -> None:
        if settings.method not in STEPS:
            raise ConfigError(
                f"cannot train through '{settings.method}'", mend=did_you_mean(settings.method, STEPS)
            )
        if settings.method in ("verlet", "yoshida4") and not getattr(network, "separable", False):
            raise ConfigError(
                f"{settings.method} needs a separable network", mend="use method: implicit_midpoint or rk4"
            )
        if settings.horizon >= len(data.times):
            raise ConfigError(
                f"a horizon of {settings.horizon} times does not fit trajectories of {len(data.times)}",
                mend="shorten it",
            )
        self.network, self.settings = network, settings
        self.times = data.times.tolist()
        self.states = data.states.to(like)
        starts = len(data.times) - settings.horizon
        self.size = len(data) * starts
        self.starts = starts
        self.h = (self.times[-1] - self.times[0]) / (len(self.times) - 1) / settings.substeps
        self.extra: list[nn.Parameter] = []

    def __call__(self, batch: Tensor | None) -> Tensor:
        which = torch.arange(self.size, device=self.states.device) if batch is None else batch
        k, t = which // self.starts, which % self.starts
        z, step, loss = self.states[k, t], STEPS[self.settings.method], self.states.new_zeros(())
        for ahead in range(1, self.settings.horizon + 1):
            for _ in range(self.settings.substeps):
                z = step(self.network, z, self.h)
            loss = loss + (z - self.states[k, t + ahead]).square().mean()
        out: Tensor = loss / (self.settings.horizon * (self.h * self.settings.substeps) ** 2)
        return out


OBJECTIVES: dict[str, Any] = {"derivatives": Derivatives, "denoised": Denoised, "steps": Steps}


def _error(predicted: Tensor, wanted: Tensor, relative: bool) -> Tensor:
    squared = (predicted - wanted).square()
    if relative:
        squared = squared / (1 + wanted.square().sum(-1, keepdim=True))
    return squared.mean()
