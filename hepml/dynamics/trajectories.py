"""Data sets of trajectories: made exactly from a system, with the paper's noise, or read from the published pendulum file.

States come from the closed form where a system has one, else from an eighth-order adaptive method at a tolerance of 1e-11 a
step, in float64. Noise is added to
the states only; derivatives are those at the noiseless states, as in arXiv:1906.01563.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hepml.dynamics.integrators import check_finite, rollout
from hepml.dynamics.systems.base import System
from hepml.errors import DataError, FileError


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
        """Training and test trajectories; the first or the last go to the test, without shuffling, as in the paper.

        Raises:
            DataError: a share that leaves one of them empty.
        """
        cut = round(len(self) * (1 - train if test_first else train))
        if not 0 < cut < len(self):
            raise DataError(
                f"a share of {train} leaves no {'training' if (cut == 0) != test_first else 'test'} trajectory of {len(self)}",
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
        finite_differences: derivatives from differences of the measured states, as for recorded motion; one point fewer.
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


def from_arrays(trajectories: Sequence[np.ndarray | Tensor], times: np.ndarray | Tensor) -> Trajectories:
    """Recorded trajectories, each [T, 2 d], with derivatives from forward differences.

    Raises:
        DataError: trajectories of unequal length, or with NaN or infinities; names the first.
    """
    tensors = [torch.as_tensor(np.asarray(t), dtype=torch.float64) for t in trajectories]
    if not tensors:
        raise DataError("there is no trajectory", mend="give at least one [T, 2 d] array")
    moments = torch.as_tensor(np.asarray(times), dtype=torch.float64)
    for i, t in enumerate(tensors):
        if t.ndim != 2 or t.shape != (len(moments), tensors[0].shape[1]):
            raise DataError(
                f"trajectory {i} has shape {tuple(t.shape)}, not {(len(moments), tensors[0].shape[1] if tensors[0].ndim == 2 else '2 d')}",
                mend="cut or interpolate all trajectories to the same times",
            )
    states = torch.stack(tensors)
    check_finite(states, "recorded states")
    return differenced(states, moments)


def read_pendulum(path: Path | str) -> Trajectories:
    """The published recording of a real pendulum (Schmidt and Lipson, Science 324 (2009) 81: `real_pend_h_1.txt`), as one trajectory.

    The file is a text table: a first line `% NAMES` of the measured variables, then one row a time with trial, time, the variables, and
    their recorded derivatives. As in arXiv:1906.01563 the two variables are the state and derivatives are forward differences.

    Raises:
        FileError: the file is missing or not such a table.
        DataError: times that do not rise, or values that are not finite.
    """
    path = Path(path)
    try:
        lines = [line.strip().rstrip(",") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as problem:
        raise FileError("cannot read the pendulum recording", where=str(path), mend=str(problem)) from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("%"):
            continue
        try:
            rows.append([float(word) for word in line.replace(",", " ").split()])
        except ValueError:
            raise FileError(
                "a row is not a list of numbers",
                where=f"{path}, line {number}",
                mend="see the format in docs/dynamics.md",
            ) from None
        if len(rows[-1]) != len(rows[0]) or len(rows[-1]) < 4:
            raise FileError(
                f"a row has {len(rows[-1])} columns, not {max(4, len(rows[0]))}",
                where=f"{path}, line {number}",
                mend="columns are: trial, time, angle, angular velocity, and their derivatives",
            )
    if len(rows) < 3:
        raise FileError(f"the recording has {len(rows)} rows", where=str(path), mend="give at least three times")
    table = torch.tensor(rows, dtype=torch.float64)
    check_finite(table, f"values of {path}")
    if bool((table[1:, 1] <= table[:-1, 1]).any()):
        at = int((table[1:, 1] <= table[:-1, 1]).nonzero()[0]) + 2
        raise DataError(
            "times do not rise", where=f"{path}, row {at}", mend="keep one trial a file, in the order of time"
        )
    return differenced(table[None, :, 2:4], table[:, 1])
