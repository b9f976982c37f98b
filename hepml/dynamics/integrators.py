"""Integrators that batch and differentiate: Störmer-Verlet, Yoshida 4, implicit midpoint, Runge-Kutta 4; and
two adaptive ones.

A law of motion is anything that maps states z = (q, p), [..., 2 d], to dz/dt: a `System`, a network, a
function. Verlet and Yoshida step a *separable* law by its `force(q)` and `velocity(p)`. All batch over
leading axes, keep dtype and device, and differentiate. Without gradients, `adaptive` gives every trajectory
of a batch its own step, and `rk45` hands the whole batch to SciPy's solver as one system.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from hepml.dynamics.adaptive import StepFailure, adaptive_rollout
from hepml.errors import ConfigError, DataError, HepmlError, did_you_mean

Law = Callable[[Tensor], Tensor]
Step = Callable[[Any, Tensor, float], Tensor]

# A state this many times larger than where it began has left for good.
RUNAWAY = 1e6


class SeparableLaw(Protocol):
    """What explicit symplectic steps need: the two halves of the field, each of one half of the state."""

    separable: bool

    def force(self, q: Tensor) -> Tensor: ...

    def velocity(self, p: Tensor) -> Tensor: ...


class DivergenceError(HepmlError):
    """A step size at which the integration runs away or an implicit step finds no solution."""


def verlet(law: SeparableLaw, z: Tensor, h: float) -> Tensor:
    """One Störmer-Verlet step (kick, drift, kick): second order, symplectic, reversible.

    p' = p + h/2 F(q),  q1 = q + h v(p'),  p1 = p' + h/2 F(q1).
    """
    q, p = z.chunk(2, dim=-1)
    p = p + 0.5 * h * law.force(q)
    q = q + h * law.velocity(p)
    p = p + 0.5 * h * law.force(q)
    return torch.cat((q, p), dim=-1)


_W1 = 1 / (2 - 2 ** (1 / 3))
_W0 = 1 - 2 * _W1


def yoshida4(law: SeparableLaw, z: Tensor, h: float) -> Tensor:
    """One step of Yoshida's fourth-order composition of three Verlet steps: symplectic, reversible (Phys.
    Lett. A 150 (1990) 262)."""
    for weight in (_W1, _W0, _W1):
        z = verlet(law, z, weight * h)
    return z


def implicit_midpoint(
    law: Law, z: Tensor, h: float, *, tolerance: float | None = None, most: int = 60
) -> Tensor:
    """One implicit midpoint step, z1 = z + h f((z + z1)/2): second order, symplectic for any Hamiltonian,
    reversible.

    Solved by fixed-point iteration, which contracts where h times the law's largest rate is below 2.

    Args:
        tolerance: largest change of the last iteration relative to the state; 4 units in the last place where
            left out.
        most: iterations.

    Raises:
        DivergenceError: the iteration does not converge.
    """
    if tolerance is None:
        tolerance = 4 * torch.finfo(z.dtype).eps
    after = z + h * law(z)
    for _ in range(most):
        last, after = after, z + h * law(0.5 * (z + after))
        change = (after - last).detach().abs().amax()
        if change <= tolerance * after.detach().abs().amax().clamp_min(1e-300):
            return after
        if not bool(torch.isfinite(change)):
            break
    else:
        if change <= 1e3 * tolerance * after.detach().abs().amax():
            return after  # rounding keeps the last digits busy
    raise DivergenceError(
        f"implicit midpoint finds no solution with step {h:.3g}",
        mend=f"use a step ≤ {_safe_step(law, z, h):.2g}",
    )


def rk4(law: Law, z: Tensor, h: float) -> Tensor:
    """One classical Runge-Kutta step: fourth order, neither symplectic nor reversible."""
    k1 = law(z)
    k2 = law(z + 0.5 * h * k1)
    k3 = law(z + 0.5 * h * k2)
    k4 = law(z + h * k3)
    return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


STEPS: dict[str, Step] = {
    "verlet": verlet,
    "yoshida4": yoshida4,
    "implicit_midpoint": implicit_midpoint,
    "rk4": rk4,
}
EXPLICIT_SYMPLECTIC = ("verlet", "yoshida4")
METHODS = (*STEPS, "adaptive", "rk45")


def rollout(
    law: Any, z0: Tensor, times: Tensor, method: str = "rk4", *, substeps: int = 1, tolerance: float = 1e-9
) -> Tensor:
    """States of a batch of trajectories at given times.

    Args:
        law: a `System`, network or function; separable for `verlet` and `yoshida4`.
        z0: [B, 2 d] or [2 d] at the first of `times`.
        times: [T], monotone.
        method: one of `STEPS`, or `adaptive` or `rk45` (SciPy), which give no gradients.
        substeps: steps between two times of the methods with fixed steps.
        tolerance: relative tolerance of the adaptive methods.

    Returns:
        [B, T, 2 d] (or [T, 2 d]).

    Raises:
        ConfigError: an unknown method, or one that this law does not allow.
        DataError: initial states that are not finite.
        DivergenceError: a trajectory runs away; names the step and suggests another.
    """
    check_finite(z0, "initial states")
    if method == "rk45":
        return _rk45(law, z0, times, tolerance)
    if method == "adaptive":
        flat = z0.reshape(-1, z0.shape[-1])
        try:
            return adaptive_rollout(law, flat, times, tolerance).reshape(
                *z0.shape[:-1], len(times), z0.shape[-1]
            )
        except StepFailure as problem:
            raise DivergenceError(
                f"the motion runs away or meets a singularity at t = {problem.time:.3g}",
                where=f"trajectory {problem.trajectory}",
                mend="shorten the span, soften the law, or train longer",
            ) from None
    if method not in STEPS:
        raise ConfigError(
            f"unknown integrator '{method}'", mend=did_you_mean(method, METHODS, noun="integrators")
        )
    if method in EXPLICIT_SYMPLECTIC and not getattr(law, "separable", False):
        raise ConfigError(
            f"{method} needs a separable Hamiltonian T(p) + V(q)", mend="use implicit_midpoint or rk4"
        )
    step, states, z = STEPS[method], [z0], z0
    moments = times.tolist()
    bound = RUNAWAY * (1.0 + float(z0.detach().abs().max()))
    for begin, end in itertools.pairwise(moments):
        h = (end - begin) / substeps
        for _ in range(substeps):
            z = step(law, z, h)
        size = z.detach().abs().amax(dim=-1)
        if not bool((size <= bound).all()):  # also where it is NaN
            raise _diverged(law, z0, size, bound, method, h, end)
        states.append(z)
    return torch.stack(states, dim=-2)


def check_finite(z: Tensor, what: str = "states") -> None:
    """Refuses NaN and infinities.

    Raises:
        DataError: names the first that is not finite.
    """
    good = torch.isfinite(z)
    if not bool(good.all()):
        at = tuple((~good).nonzero()[0].tolist())
        raise DataError(
            f"{what} are not finite",
            where=f"index {at} of shape {tuple(z.shape)}",
            mend="drop or repair that trajectory",
        )


def _rk45(law: Law, z0: Tensor, times: Tensor, tolerance: float) -> Tensor:
    moments = times.detach().cpu().numpy().astype(np.float64)

    def right_hand_side(_: float, flat: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            z = torch.as_tensor(flat.reshape(tuple(z0.shape)), dtype=z0.dtype, device=z0.device)
            out = law(z).detach().cpu().numpy().astype(np.float64).ravel()
        if not np.isfinite(out).all():
            raise DivergenceError(
                "a trajectory runs away under rk45", mend="shorten the span, or train longer"
            )
        return out

    # SciPy's error norm is a mean over all components: hold each trajectory of the batch, not only their
    # mean, to the tolerance.
    each = tolerance / max(1.0, z0.numel() / z0.shape[-1]) ** 0.5
    each = max(each, 3e-14)
    start = z0.detach().cpu().numpy().astype(np.float64).ravel()
    solution = solve_ivp(
        right_hand_side,
        (moments[0], moments[-1]),
        start,
        "DOP853" if tolerance < 1e-9 else "RK45",
        moments,
        rtol=each,
        atol=each,
    )
    if not solution.success:
        raise DivergenceError(
            f"rk45 stopped at t = {solution.t[-1] if len(solution.t) else moments[0]:.3g} "
            f"({solution.message})",
            mend="shorten the span, or soften the law",
        )
    states = torch.as_tensor(solution.y.T.copy(), dtype=z0.dtype, device=z0.device)
    return states.reshape(len(moments), *z0.shape).movedim(0, -2)


def _diverged(
    law: Law, z0: Tensor, size: Tensor, bound: float, method: str, h: float, time: float
) -> DivergenceError:
    bad = (~(size <= bound)).reshape(-1).nonzero()[:, 0]
    where = (
        f"trajectory {int(bad[0])} and {len(bad) - 1} more" if len(bad) > 1 else f"trajectory {int(bad[0])}"
    )
    return DivergenceError(
        f"{method} with step {h:.3g} diverges before t = {time:.3g}",
        where=where,
        mend=f"use a step ≤ {_safe_step(law, z0, h):.2g}",
    )


def _safe_step(law: Law, z: Tensor, h: float) -> float:
    """A tenth of a period of the fastest motion at z (but at most half of h): the largest rate from power
    iteration on the Jacobian."""
    with torch.no_grad():
        z = z.detach().reshape(-1, z.shape[-1]).to(torch.float64)
        z = z[torch.isfinite(z).all(dim=-1)]
        try:
            if not len(z):
                return 0.5 * abs(h)
            direction = torch.ones_like(z) + 0.1 * torch.arange(z.shape[-1], dtype=z.dtype, device=z.device)
            step, logs = 1e-6 * (1 + z.abs().amax()), []
            for _ in range(24):
                direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-300)
                direction = (law(z + step * direction) - law(z - step * direction)) / (2 * step)
                logs.append(direction.norm(dim=-1).clamp_min(1e-300).log())
            rate = float(torch.stack(logs[8:]).mean(dim=0).exp().amax())
        except (RuntimeError, HepmlError):  # a float32 network, say
            return 0.5 * abs(h)
    return min(0.5 * abs(h), 0.6 / rate) if np.isfinite(rate) and rate > 0 else 0.5 * abs(h)
