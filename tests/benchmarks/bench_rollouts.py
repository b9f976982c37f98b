"""How fast networks are rolled out and differentiated: `python tests/benchmarks/bench_rollouts.py` prints a
table and JSON.

Batched rollouts against the loop of the published code (one trajectory at a time through
`scipy.integrate.solve_ivp` with the notebooks' tolerances, span and times, a float32 network with a batch of
one), and against torchdiffeq and diffrax where they are installed; the vector field by one vector-Jacobian
product against a Jacobian; eager against `torch.compile`. Processor time of one thread, interleaved, medians.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rollout_peers import peer_rollouts
from scipy.integrate import solve_ivp
from torch import Tensor

from hepml.dynamics.integrators import rollout
from hepml.dynamics.networks import network
from hepml.dynamics.systems import TwoBody, system


def timed(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each, run in turn."""
    for job in work.values():
        job()
    seen: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, job in work.items():
            began = time.process_time()
            job()
            seen[name].append(time.process_time() - began)
    return {name: statistics.median(times) for name, times in seen.items()}


def scipy_loop(net: torch.nn.Module, z0: Tensor, times: Tensor) -> np.ndarray:
    """The published evaluation: each trajectory alone, at a relative tolerance of 1e-9 and SciPy's absolute
    one, 1e-6."""
    moments, paths = times.numpy(), []
    for z in z0.numpy():

        def slope(_: float, y: np.ndarray) -> np.ndarray:
            x = torch.tensor(y, dtype=torch.float32).view(1, -1)
            return net(x).detach().numpy().ravel().astype(np.float64)

        paths.append(solve_ivp(slope, (moments[0], moments[-1]), z, t_eval=moments, rtol=1e-9).y.T)
    return np.stack(paths)


def rollouts(batch: int, rounds: int) -> dict[str, float]:
    """Trajectories a second, of a published-size HNN on the two-body problem, and the ratio to the loop."""
    torch.manual_seed(0)
    net = network("hnn", 8)
    double = copy.deepcopy(net).double()
    z0 = TwoBody().sample(batch, np.random.default_rng(0))
    times = torch.linspace(0, 25, 500, dtype=torch.float64)
    few = z0[:4]

    def single(z: Tensor) -> Tensor:
        """Float32 network, float64 states, as the published loop has it."""
        return net(z.float()).double()

    def quiet(job: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return job()

        return run

    work = {
        "scipy loop, one trajectory at a time (published)": quiet(lambda: scipy_loop(net, few, times)),
        "adaptive, batched": quiet(lambda: rollout(single, z0, times, "adaptive", tolerance=1e-6)),
        "adaptive, batched, float64 network": quiet(
            lambda: rollout(double, z0, times, "adaptive", tolerance=1e-6)
        ),
        **{name: quiet(job) for name, job in peer_rollouts(net, z0, times, 1e-6).items()},
        "rk4 at the 500 times, batched": quiet(lambda: rollout(net, z0.float(), times, "rk4")),
    }
    with torch.no_grad():
        apart = scipy_loop(net, few, times) - rollout(single, few, times, "adaptive", tolerance=1e-6).numpy()
    seconds = timed(work, rounds)
    loop = next(iter(work))
    rates = {name: (len(few) if name == loop else batch) / s for name, s in seconds.items()}
    return {
        "largest difference from the loop": float(np.abs(apart).max()),
        **rates,
        **{f"{name}: ratio": rate / rates[loop] for name, rate in rates.items() if name != loop},
    }


def fields(rounds: int) -> dict[str, float]:
    """Seconds for the field of 2,000 points in 36 dimensions: one product, a Jacobian, compiled."""
    torch.manual_seed(0)
    net = network("hnn", 36)
    z = torch.randn(2000, 36)
    gradient = torch.func.vmap(torch.func.grad(lambda x: net.network(x)[0]))
    summed = torch.func.grad(lambda x: net.network(x).sum())
    compiled = torch.compile(summed)

    def jacobian() -> Tensor:
        return torch.func.vmap(torch.func.jacfwd(lambda x: net.network(x)))(z)

    def product() -> Tensor:
        with torch.no_grad():
            return net(z)

    return timed(
        {
            "one vector-Jacobian product": product,
            "torch.func.grad": lambda: summed(z),
            "torch.func.vmap(grad)": lambda: gradient(z),
            "Jacobian, forward mode": jacobian,
            "torch.compile of torch.func.grad": lambda: compiled(z),
        },
        rounds,
    )


def steps(rounds: int) -> dict[str, float]:
    """Seconds for one training step of the published HNN, 750 points: eager, and with the gradient
    compiled."""
    torch.manual_seed(0)
    net = network("hnn", 2)
    z, dz = torch.randn(750, 2), torch.randn(750, 2)

    def loss(x: Tensor) -> Tensor:
        by_q, by_p = torch.func.grad(lambda y: net.network(y).sum())(x).chunk(2, dim=-1)
        return (torch.cat((by_p, -by_q), dim=-1) - dz).square().mean()

    compiled = torch.compile(loss)

    def eager() -> None:
        (net(z) - dz).square().mean().backward()

    return timed({"eager": eager, "compiled": lambda: compiled(z).backward()}, rounds)


def generation(rounds: int) -> dict[str, float]:
    """Seconds for 100 exact three-body orbits: all at once, and one by one through SciPy."""
    s = system("three_body")
    z0 = s.sample(100, np.random.default_rng(0))
    times = torch.linspace(0, 5, 20, dtype=torch.float64)

    def loop() -> None:
        for z in z0[:10].numpy():
            solve_ivp(
                lambda _, y: s.field(torch.as_tensor(y)).numpy(), (0, 5), z, t_eval=times.numpy(), rtol=1e-9
            )

    found = timed(
        {"batched": lambda: rollout(s, z0, times, "adaptive", tolerance=1e-9), "scipy loop": loop}, rounds
    )
    return {**found, "ratio": 10 * found["scipy loop"] / found["batched"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    report = {
        "rollouts": rollouts(chosen.batch, chosen.rounds),
        "exact three-body orbits": generation(chosen.rounds),
    }
    if not chosen.no_compile:
        report |= {
            "field of 2,000 points in 36 dimensions": fields(chosen.rounds),
            "training step": steps(chosen.rounds),
        }
    for title, rows in report.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:<52} {value:>12.4g}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
