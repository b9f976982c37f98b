"""Adaptive Runge-Kutta for batches in which every trajectory has its own step: what SciPy's one-trajectory
loop does, all at once.

The coefficients are SciPy's (`RK45`, Dormand-Prince 5(4), and `DOP853`); the control of the step is the usual
one, kept apart for each trajectory, so that one close encounter does not slow the rest down and finished
trajectories cost nothing. States at the asked times are read off each method's own interpolant (Hairer,
Norsett and Wanner, Solving ODEs I, II.6), so that asking for many costs no steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from scipy.integrate import DOP853, RK45
from torch import Tensor

# A trajectory that needs more steps than this between two times has met a singularity.
MOST_STEPS = 100_000
# States read off at a time.
_TOGETHER = 8192


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
    """Coefficients as tensors: stages, error estimates and interpolants."""

    def __init__(self, high_order: bool, like: Tensor) -> None:
        kind = DOP853 if high_order else RK45
        self.order = 7 if high_order else 4  # of the error estimate

        def as_tensor(values: object) -> Tensor:
            return torch.as_tensor(values, dtype=like.dtype, device=like.device)

        self.stages = kind.n_stages
        self.a = as_tensor(kind.A[: self.stages, : self.stages].copy())
        self.b = as_tensor(kind.B.copy())
        self.errors = [as_tensor(e.copy()) for e in ((kind.E5, kind.E3) if high_order else (kind.E,))]
        self.dense = as_tensor((kind.D if high_order else kind.P).copy())  # of the interpolant
        self.further = as_tensor(kind.A_EXTRA.copy()) if high_order else None

    def step(
        self, law: Callable[[Tensor], Tensor], z: Tensor, k1: Tensor, h: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The new state, and the slopes [S + 1, B, n] of which the last is its derivative."""
        slopes = z.new_empty((self.stages + 1, *z.shape))
        slopes[0] = k1
        for s in range(1, self.stages):
            slopes[s] = law(z + h * torch.tensordot(self.a[s, :s], slopes[:s], dims=1))
        after = z + h * torch.tensordot(self.b, slopes[:-1], dims=1)
        slopes[-1] = law(after)
        return after, slopes

    def error(self, slopes: Tensor, h: Tensor, scale: Tensor) -> Tensor:
        """Root mean square of the local error over its allowance, [B]."""
        first = (torch.tensordot(self.errors[0], slopes, dims=1) / scale).square().mean(-1)
        if len(self.errors) == 1:
            out: Tensor = h.abs() * first.sqrt()
            return out
        second = (torch.tensordot(self.errors[1], slopes, dims=1) / scale).square().mean(-1)
        out = h.abs() * first / (first + 0.01 * second).clamp_min(1e-300).sqrt()
        return out

    def interpolant(
        self, law: Callable[[Tensor], Tensor], z: Tensor, after: Tensor, slopes: Tensor, h: Tensor
    ) -> Tensor:
        """Coefficients [B, D, n] of what `read_off` takes: of fourth order, or of seventh with three further
        slopes."""
        if self.further is None:
            out: Tensor = h[:, None] * torch.tensordot(slopes.permute(1, 2, 0), self.dense, dims=1).mT
            return out
        for a in self.further:
            slopes = torch.cat((slopes, law(z + h * torch.tensordot(a[: len(slopes)], slopes, dims=1))[None]))
        moved, first, last = after - z, h * slopes[0], h * slopes[self.stages]
        parts = torch.stack((moved, first - moved, 2 * moved - last - first))
        return torch.cat((parts, h * torch.tensordot(self.dense, slopes, dims=1))).transpose(0, 1)

    def read_off(self, z: Tensor, parts: Tensor, x: Tensor) -> Tensor:
        """States [b, C, n] at shares x [b, C] of steps that begin at z [b, n]: a sum of powers of x, or of
        products of x and 1 - x in turns."""
        powers = x.new_empty((x.shape[0], parts.shape[1], x.shape[1]))
        powers[:, 0] = x
        for i in range(1, parts.shape[1]):
            factor = x if self.further is None or i % 2 == 0 else 1 - x
            torch.mul(powers[:, i - 1], factor, out=powers[:, i])
        return torch.baddbmm(z[:, None], powers.mT, parts)


def _alike(count: Tensor) -> Iterator[Tensor]:
    """Steps by the times that they pass, [M], most first: some at a time, so that their rectangle of states
    holds little beyond what was asked for and stays in the cache."""
    order, first = torch.argsort(count, descending=True), 0
    widths = count[order].tolist()
    while first < len(widths):
        last = first + max(1, _TOGETHER // widths[first])
        yield order[first:last]
        first = last


@torch.no_grad()
def adaptive_rollout(
    law: Callable[[Tensor], Tensor],
    z0: Tensor,
    times: Tensor,
    tolerance: float = 1e-9,
    *,
    largest: float = 1e8,
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
    ahead = torch.cat((moments, moments[-1].expand(len(moments))))  # as many from any of them on
    if len(moments) == 1:
        return z0[:, None].clone()
    nowhere = z0.shape[0] * len(moments)  # a last row for what was read off beyond the asked times
    states = z0.new_empty((nowhere + 1, z0.shape[1]))
    result = states[:nowhere].view(z0.shape[0], len(moments), z0.shape[1])
    result[:, 0] = z0
    z, derivative = z0.clone(), law(z0)
    t = moments[0].expand(z0.shape[0]).clone()
    end, size = moments[-1], (moments[-1] - moments[0]) / 100
    h = torch.minimum(size, 0.01 * (1 + z.abs().amax(-1)) / derivative.abs().amax(-1).clamp_min(1e-10))
    goal = torch.ones(z0.shape[0], dtype=torch.long, device=z0.device)  # index of the next time to reach
    running = torch.arange(z0.shape[0], device=z0.device)
    smallest = 1e-13 * float(end - moments[0])
    for _ in range(MOST_STEPS * len(moments)):
        lands = h >= (end - t) * (1 - 1e-12)
        step = torch.where(lands, end - t, h)[:, None]
        after, slopes = tableau.step(law, z, derivative, step)
        scale = tolerance + tolerance * torch.maximum(z.abs(), after.abs())
        error = tableau.error(slopes, step[:, 0], scale)
        finite = torch.isfinite(error) & torch.isfinite(after).all(-1)
        good = finite & (error <= 1)
        if bool((after.abs().amax(-1)[good] > largest).any()):
            bad = (good & (after.abs().amax(-1) > largest)).nonzero()[0, 0]
            raise StepFailure(int(running[bad]), float(t[bad]))
        factor = 0.9 * error.clamp_min(1e-12) ** (-1 / (tableau.order + 1))
        h = step[:, 0] * torch.where(finite, factor, 0.2).clamp(0.2, 10.0)
        arrives = torch.where(good, torch.where(lands, end, t + step[:, 0]), t)
        passed = torch.maximum(torch.searchsorted(moments, arrives, right=True), goal)
        count = passed - goal
        if bool(count.any()):
            recorded = count.nonzero()[:, 0]
            parts = tableau.interpolant(
                law, z[recorded], after[recorded], slopes[:, recorded], step[recorded]
            )
            for some in _alike(count[recorded]):
                steps = recorded[some]
                first, each = goal[steps], torch.arange(int(count[steps[0]]), device=z.device)
                asked = ahead.unfold(0, len(each), 1).index_select(0, first)
                share = asked.sub_(t[steps, None]).div_(step[steps])
                values = tableau.read_off(z[steps], parts[some], share)
                rows = (running[steps] * len(moments) + first)[:, None] + each
                rows.masked_fill_(each >= count[steps, None], nowhere)
                states.index_copy_(0, rows.flatten(), values.flatten(0, 1))
        z = torch.where(good[:, None], after, z)
        derivative = torch.where(good[:, None], slopes[-1], derivative)
        t, goal = arrives, passed
        left = goal < len(moments)
        if bool((left & (h < smallest)).any()):
            bad = (left & (h < smallest)).nonzero()[0, 0]
            raise StepFailure(int(running[bad]), float(t[bad]))
        if not bool(left.all()):
            running, z, derivative, t, h, goal = (x[left] for x in (running, z, derivative, t, h, goal))
            if not len(running):
                return result
    raise StepFailure(int(running[0]), float(t[0]))
