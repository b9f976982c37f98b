"""Adaptive Runge-Kutta for batches in which every trajectory has its own step: what SciPy's one-trajectory loop does, all at once.

The coefficients are SciPy's (`RK45`, Dormand-Prince 5(4), and `DOP853`); the control of the step is the usual one, kept apart for each
trajectory, so that one close encounter does not slow the rest down and finished trajectories cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.integrate import DOP853, RK45
from torch import Tensor

# A trajectory that needs more steps than this between two times has met a singularity.
MOST_STEPS = 100_000


class StepFailure(RuntimeError):
    """A step size that shrank to nothing, or a state that is not finite.

    Args:
        trajectory: index in the batch.
        time: how far it came.
    """

    def __init__(self, trajectory: int, time: float) -> None:
        super().__init__(f"trajectory {trajectory} stops at t = {time:.4g}")
        self.trajectory, self.time = trajectory, time


class _Tableau:
    """Coefficients as tensors, and the error estimate in units of the tolerance."""

    def __init__(self, high_order: bool, like: Tensor) -> None:
        kind = DOP853 if high_order else RK45
        self.order = 7 if high_order else 4  # of the error estimate

        def as_tensor(values: object) -> Tensor:
            return torch.as_tensor(values, dtype=like.dtype, device=like.device)

        stages = kind.n_stages
        self.a = as_tensor(kind.A[:stages, :stages].copy())
        self.b = as_tensor(kind.B.copy())
        self.errors = [as_tensor(e.copy()) for e in ((kind.E5, kind.E3) if high_order else (kind.E,))]

    def step(self, law: Callable[[Tensor], Tensor], z: Tensor, k1: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The new state, its derivative, and the stages [S, B, n] with that derivative last."""
        stages = [k1]
        for row in self.a[1:]:
            slope = torch.tensordot(row[: len(stages)], torch.stack(stages), dims=1)
            stages.append(law(z + h * slope))
        after = z + h * torch.tensordot(self.b, torch.stack(stages), dims=1)
        derivative = law(after)
        return after, derivative, torch.stack([*stages, derivative])

    def error(self, stages: Tensor, h: Tensor, scale: Tensor) -> Tensor:
        """Root mean square of the local error over its allowance, [B]."""
        first = (torch.tensordot(self.errors[0], stages, dims=1) / scale).square().mean(-1)
        if len(self.errors) == 1:
            return h.abs() * first.sqrt()
        second = (torch.tensordot(self.errors[1], stages, dims=1) / scale).square().mean(-1)
        return h.abs() * first / (first + 0.01 * second).clamp_min(1e-300).sqrt()


@torch.no_grad()
def adaptive_rollout(
    law: Callable[[Tensor], Tensor], z0: Tensor, times: Tensor, tolerance: float = 1e-9, *, largest: float = 1e8
) -> Tensor:
    """States at given times, each trajectory under its own step control. Without gradients.

    Args:
        law: [B, n] -> [B, n], acting on each state alone.
        z0: [B, n] at times[0].
        times: [T], rising.
        tolerance: relative and absolute, of each step; below 1e-7 the eighth-order formula is used.
        largest: a state larger than this counts as gone.

    Returns:
        [B, T, n].

    Raises:
        StepFailure: a trajectory cannot go on.
    """
    tableau = _Tableau(tolerance < 1e-7, z0)
    moments = times.to(z0)
    states = z0.new_empty((z0.shape[0], len(moments), z0.shape[1]))
    states[:, 0] = z0
    z, derivative = z0.clone(), law(z0)
    t = moments[0].expand(z0.shape[0]).clone()
    size = (moments[-1] - moments[0]) / 100
    h = torch.minimum(size, 0.01 * (1 + z.abs().amax(-1)) / derivative.abs().amax(-1).clamp_min(1e-10))
    goal = torch.ones(z0.shape[0], dtype=torch.long, device=z0.device)  # index of the next time to reach
    running = torch.arange(z0.shape[0], device=z0.device)
    if len(moments) == 1:
        return states
    smallest = 1e-13 * float(moments[-1] - moments[0])
    for _ in range(MOST_STEPS * len(moments)):
        target = moments[goal]
        step = torch.minimum(h, target - t)
        lands = step >= (target - t) * (1 - 1e-12)
        after, slope, stages = tableau.step(law, z, derivative, step[:, None])
        scale = tolerance + tolerance * torch.maximum(z.abs(), after.abs())
        error = tableau.error(stages, step, scale)
        finite = torch.isfinite(error) & torch.isfinite(after).all(-1)
        good = finite & (error <= 1)
        if bool((after.abs().amax(-1)[good] > largest).any()):
            bad = (good & (after.abs().amax(-1) > largest)).nonzero()[0, 0]
            raise StepFailure(int(running[bad]), float(t[bad]))
        factor = torch.where(
            finite, 0.9 * error.clamp_min(1e-12) ** (-1 / (tableau.order + 1)), 0.2 * torch.ones_like(h)
        )
        # A step that was cut to land on a time says nothing against the longer step that was planned.
        grown = step * factor.clamp(0.2, 10.0)
        h = torch.where(good & lands & (step < h), torch.maximum(h, grown), grown)
        z = torch.where(good[:, None], after, z)
        derivative = torch.where(good[:, None], slope, derivative)
        t = torch.where(good, torch.where(lands, target, t + step), t)
        if bool((h < smallest).any()):
            bad = (h < smallest).nonzero()[0, 0]
            raise StepFailure(int(running[bad]), float(t[bad]))
        arrived = good & lands
        if bool(arrived.any()):
            states[running[arrived], goal[arrived]] = z[arrived]
            goal = goal + arrived.long()
            left = goal < len(moments)
            if not bool(left.all()):
                running, z, derivative, t, h, goal = (x[left] for x in (running, z, derivative, t, h, goal))
                if not len(running):
                    return states
    raise StepFailure(int(running[0]), float(t[0]))
