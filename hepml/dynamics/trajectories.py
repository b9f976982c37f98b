"""Data sets of trajectories, made exactly from a system, with the paper's noise.

States come from the closed form where a system has one, else from an eighth-order adaptive method at a
tolerance of 1e-11 a step, in float64. Noise is added to the states only; derivatives are those at the
noiseless states, as in arXiv:1906.01563.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepml.dynamics.integrators import check_finite, rollout
from hepml.dynamics.systems.base import System
from hepml.errors import DataError


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of equal length.

    Args:
        states: [K, T, 2 d] as measured, noise included.
        derivatives: [K, T, 2 d] of the noiseless motion, or finite differences where that is all there is.
        times: [T].
    """

    states: Tensor
    derivatives: Tensor
    times: Tensor

    def __len__(self) -> int:
        return self.states.shape[0]

    def split(self, train: float, *, test_first: bool = False) -> tuple[Trajectories, Trajectories]:
        """Training and test trajectories; the first or the last go to the test, without shuffling, as in the
        paper.

        Raises:
            DataError: a share that leaves one of them empty.
        """
        cut = round(len(self) * (1 - train if test_first else train))
        if not 0 < cut < len(self):
            raise DataError(
                f"a share of {train} leaves no {'training' if (cut == 0) != test_first else 'test'} "
                f"trajectory of {len(self)}",
                mend="give more trajectories or another share",
            )
        a, b = self._take(slice(None, cut)), self._take(slice(cut, None))
        return (b, a) if test_first else (a, b)

    def split_in_time(self, train: float) -> tuple[Trajectories, Trajectories]:
        """The earlier part of every trajectory for training, the later for the test."""
        cut = round(len(self.times) * train)
        if not 1 < cut < len(self.times) - 1:
            raise DataError(f"a share of {train} leaves no times to test", mend="give another share")
        early = Trajectories(self.states[:, :cut], self.derivatives[:, :cut], self.times[:cut])
        return early, Trajectories(self.states[:, cut:], self.derivatives[:, cut:], self.times[cut:])

    def points(self) -> tuple[Tensor, Tensor]:
        """All states and derivatives, each [K T, 2 d]."""
        return self.states.flatten(0, 1), self.derivatives.flatten(0, 1)

    def _take(self, which: slice) -> Trajectories:
        return Trajectories(self.states[which], self.derivatives[which], self.times)


def solve(system: System, z0: Tensor, times: Tensor, *, tolerance: float = 1e-11) -> Tensor:
    """Exact motion of a batch, [B, 2 d] and [T] -> [B, T, 2 d] in float64.

    Args:
        tolerance: of each step, where there is no closed form.
    """
    check_finite(z0, "initial states")
    closed = system.exact(z0, times)
    if closed is not None:
        return closed
    return rollout(system, z0, times, "adaptive", tolerance=tolerance)


def generate(
    system: System,
    *,
    trajectories: int,
    points: int,
    span: float,
    noise: float = 0.0,
    seed: int = 0,
    finite_differences: bool = False,
) -> Trajectories:
    """A data set as the published tasks make it.

    Args:
        trajectories: how many.
        points: times of each, evenly over [0, span], both ends included.
        span: duration.
        noise: standard deviation of Gaussian noise on the states.
        seed: of initial states and noise.
        finite_differences: derivatives from differences of the measured states, as for recorded motion; one
            point fewer.
    """
    generator = np.random.default_rng(seed)
    times = torch.linspace(0, span, points, dtype=torch.float64)
    clean = solve(system, system.sample(trajectories, generator), times)
    noisy = clean + noise * torch.as_tensor(generator.standard_normal(tuple(clean.shape)))
    if finite_differences:
        return differenced(noisy, times)
    with torch.no_grad():
        return Trajectories(noisy, system.field(clean), times)


def differenced(states: Tensor, times: Tensor) -> Trajectories:
    """Trajectories with derivatives from forward differences, one point fewer."""
    slopes = (states[:, 1:] - states[:, :-1]) / (times[1:] - times[:-1])[:, None]
    return Trajectories(states[:, :-1], slopes, times[:-1])
