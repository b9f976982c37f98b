"""The rollout of `bench_rollouts.py` by torchdiffeq and by diffrax, where they are installed (`pip install
torchdiffeq diffrax jax`): the same network, starting points, times and tolerance.

torchdiffeq takes one step for the whole batch. diffrax maps its solver over trajectories, so that each has
its own step, and compiles all of it; compiling is not counted.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def peer_rollouts(net: Any, z0: Tensor, times: Tensor, tolerance: float) -> dict[str, Callable[[], object]]:
    """A job a package: 500 trajectories of a Hamiltonian network, float32 network and float64 states."""
    jobs: dict[str, Callable[[], object]] = {}
    if importlib.util.find_spec("torchdiffeq"):
        import torchdiffeq

        jobs["torchdiffeq, one step for all"] = lambda: torchdiffeq.odeint(
            lambda _, z: net(z.float()).double(), z0, times, rtol=tolerance, atol=tolerance, method="dopri5"
        )
    if importlib.util.find_spec("diffrax"):
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
        jobs["diffrax, compiled"] = _diffrax(net, z0, times, tolerance)
    return jobs


def _diffrax(net: Any, z0: Tensor, times: Tensor, tolerance: float) -> Callable[[], object]:
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    layers = [
        (
            jnp.asarray(m.weight.detach().numpy()),
            0 if m.bias is None else jnp.asarray(m.bias.detach().numpy()),
        )
        for m in net.network
        if isinstance(m, nn.Linear)
    ]

    def energy(z: Any) -> Any:
        for weight, bias in layers[:-1]:
            z = jnp.tanh(weight @ z + bias)
        return (layers[-1][0] @ z)[0]

    def field(_: Any, z: Any, __: Any) -> Any:
        by_q, by_p = jnp.split(jax.grad(energy)(z.astype(jnp.float32)), 2)
        return jnp.concatenate((by_p, -by_q)).astype(z.dtype)

    moments, start = jnp.asarray(times.numpy()), jnp.asarray(z0.numpy())
    control = diffrax.PIDController(rtol=tolerance, atol=tolerance)

    def one(z: Any) -> Any:
        term, solver, save = diffrax.ODETerm(field), diffrax.Dopri5(), diffrax.SaveAt(ts=moments)
        return diffrax.diffeqsolve(
            term, solver, moments[0], moments[-1], None, z, saveat=save, stepsize_controller=control
        ).ys

    solve = jax.jit(jax.vmap(one))
    return lambda: solve(start).block_until_ready()
