"""How a law of motion is learned: from derivatives as in arXiv:1906.01563, from denoised states, or along
symplectic steps.

`fit` is the loop: Adam, where asked with weights averaged over the end of it, and where asked L-BFGS after
it. What it minimises is one of `OBJECTIVES`. Everything is seeded; a loss that is not finite ends it with a
named error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepml.dynamics.fit_settings import FitSettings as FitSettings
from hepml.dynamics.integrators import DivergenceError
from hepml.dynamics.objectives import OBJECTIVES, Denoised
from hepml.dynamics.objectives import denoised as denoised
from hepml.dynamics.trajectories import Trajectories
from hepml.errors import ConfigError, did_you_mean

Progress = Callable[[int, dict[str, float]], None]


@dataclass
class Fit:
    """What training left.

    Args:
        train_loss, test_loss: mean squared error of dz/dt at all recorded states, whatever was minimised.
        history: step, train_loss of the batch, test_loss of as many test points, every so often.
    """

    train_loss: float
    test_loss: float
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    network: nn.Module,
    train: Trajectories,
    test: Trajectories,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fit:
    """Trains a network in place.

    Args:
        network: maps states [..., 2 d] to dz/dt.
        train, test: trajectories; cast to the network's dtype.
        settings: see `FitSettings`.
        seed: of the batches.
        progress: called with the step and the losses every so often.

    Raises:
        ConfigError: an unknown objective, loss or schedule.
        DivergenceError: the loss is not finite.
    """
    if settings.objective not in OBJECTIVES:
        raise ConfigError(
            f"unknown objective '{settings.objective}'", mend=did_you_mean(settings.objective, OBJECTIVES)
        )
    if settings.schedule not in ("constant", "cosine") or settings.loss not in ("mse", "relative"):
        raise ConfigError(
            f"schedule '{settings.schedule}' with loss '{settings.loss}'",
            mend="schedules: constant, cosine; losses: mse, relative",
        )
    parameter = next(network.parameters())
    objective = OBJECTIVES[settings.objective](network, train, settings, parameter)
    generator = torch.Generator().manual_seed(seed)
    x, dx = (t.to(parameter) for t in test.points())
    history: list[dict[str, float]] = []
    some = slice(None) if settings.batch_size is None else slice(0, settings.batch_size)

    def note(step: int, value: float) -> None:
        if not np.isfinite(value):
            raise DivergenceError(
                f"the training loss is {value} at step {step}",
                mend="lower learning_rate, or use shorter or more substeps",
            )
        weight = next(network.parameters())
        with torch.no_grad():
            error = float((network(x[some].to(weight)) - dx[some].to(weight)).square().mean())
        history.append({"step": step, "train_loss": value, "test_loss": error})
        if progress is not None:
            progress(step, {"train_loss": value, "test_loss": error})

    def loss() -> Tensor:
        batch = None
        if settings.batch_size is not None and settings.batch_size < objective.size:
            batch = torch.randint(objective.size, (settings.batch_size,), generator=generator).to(
                parameter.device
            )
        out: Tensor = objective(batch)
        return out

    walk(network, objective.extra, loss, settings, note)
    if settings.polish:
        _polish(network, train, settings, objective, note)
    return Fit(derivative_loss(network, train), derivative_loss(network, test), history)


def walk(
    network: nn.Module,
    free: list[nn.Parameter],
    loss: Callable[[], Tensor],
    settings: FitSettings,
    note: Callable[[int, float], None],
) -> None:
    """Adam for `settings.steps` steps, then the mean of the last weights where `settings.average` asks for
    it.

    Args:
        network: whose parameters are under the settings' weight decay.
        free: parameters that are not.
        loss: of a new batch.
        settings: see `FitSettings`.
        note: told the step and the loss every so often.
    """
    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    # one pass over all weights: of small networks, Adam's many small operations are a tenth of a step
    optimiser = torch.optim.Adam(
        groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    schedule = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
        if settings.schedule == "cosine"
        else None
    )
    mean = WeightMean(network, settings.steps, settings.average)
    for step in range(settings.steps + 1):
        optimiser.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        if step % settings.every == 0 or step == settings.steps:
            note(step, float(value.detach()))
        optimiser.step()
        if schedule is not None and step < settings.steps:
            schedule.step()
        mean.add(step)
    mean.set()


def descend(
    weights: list[nn.Parameter],
    free: list[nn.Parameter],
    objective: Callable[[], Tensor],
    settings: FitSettings,
    note: Callable[[int, float], None],
) -> None:
    """L-BFGS for `settings.polish` iterations.

    Args:
        weights: parameters under the settings' weight decay.
        free: parameters that are not.
        objective: the loss, always on the same data.
        settings: see `FitSettings`.
        note: told the step, counted on from Adam's, and the loss every so often.
    """
    optimiser = torch.optim.LBFGS(
        weights + free,
        history_size=50,
        tolerance_grad=1e-14,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )
    last = 0.0

    def penalised() -> Tensor:
        nonlocal last
        optimiser.zero_grad()
        loss = objective()
        last = float(loss.detach())
        if settings.weight_decay > 0:  # the same penalty as Adam's
            loss = loss + 0.5 * settings.weight_decay * torch.stack([w.square().sum() for w in weights]).sum()
        loss.backward()
        return loss.detach()

    for iteration in range(0, settings.polish, settings.every):
        now = min(settings.every, settings.polish - iteration)
        optimiser.param_groups[0].update(max_iter=now, max_eval=now * 5 // 4)
        optimiser.step(penalised)
        note(settings.steps + iteration + now, last)


class WeightMean:
    """The mean of a network's weights over the end of its training.

    Args:
        network: whose weights.
        steps: of the training.
        share: of the steps, at the end, that the mean is taken over.
    """

    def __init__(self, network: nn.Module, steps: int, share: float) -> None:
        self.weights = list(network.parameters())
        self.first, self.count = steps * (1 - share), 0
        self.mean = [w.detach().clone() for w in self.weights] if share > 0 else []

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Takes the weights in, if the step is among those averaged."""
        if self.mean and step >= self.first:
            self.count += 1
            for mean, weight in zip(self.mean, self.weights, strict=True):
                mean.lerp_(weight, 1 / self.count)

    @torch.no_grad()
    def set(self) -> None:
        """Gives the network its mean weights."""
        if self.count:
            for mean, weight in zip(self.mean, self.weights, strict=True):
                weight.copy_(mean)


def derivative_loss(network: nn.Module, data: Trajectories, chunk: int = 16384) -> float:
    """Mean squared error of dz/dt over all points, as the paper reports it."""
    parameter = next(network.parameters())
    x, dx = (t.to(parameter) for t in data.points())
    total = 0.0
    with torch.no_grad():
        for a, b in zip(x.split(chunk), dx.split(chunk), strict=True):
            total += float((network(a) - b).square().sum())
    return total / x.numel()


def _polish(
    network: nn.Module,
    train: Trajectories,
    settings: FitSettings,
    adams: Any,
    note: Callable[[int, float], None],
) -> None:
    """L-BFGS on all points in float64, from where Adam left the network and what was learned with it."""
    dtype = next(network.parameters()).dtype
    network.double()
    objective = OBJECTIVES[settings.objective](network, train, settings, next(network.parameters()))
    with torch.no_grad():
        for mine, learned in zip(objective.extra, adams.extra, strict=True):
            mine.copy_(learned)
    if isinstance(objective, Denoised):
        objective.in_units_of_states()
    descend(list(network.parameters()), objective.extra, lambda: objective(None), settings, note)
    network.to(dtype)
