"""What a dynamics run does for each kind of task: motion whose coordinates are measured, and motion that is
only seen in pixels.

A task makes the data of a seed, trains one network of the config on it, judges it by rollouts, and draws what
came out.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepml.dynamics import pixels, plots
from hepml.dynamics.evaluation import Reference, Rollouts, energy_report, follow, reference
from hepml.dynamics.fitting import fit
from hepml.dynamics.integrators import DivergenceError
from hepml.dynamics.networks import network
from hepml.dynamics.recordings import read_recording
from hepml.dynamics.systems import System, system
from hepml.dynamics.trajectories import Trajectories, generate
from hepml.errors import DataError
from hepml.training.dynamics.config import DynamicsConfig
from hepml.training.run_directory import RunDirectory

Tell = Callable[[int, dict[str, float]], None]
PIXELS = "pixel_pendulum"


@dataclass(frozen=True)
class Trained:
    """A trained network with its history and its rollouts from the reference's starting points."""

    network: nn.Module
    history: list[dict[str, float]]
    rollouts: Rollouts


class Task(ABC):
    """One kind of task under a config.

    Attributes:
        system: what moves.
        truth: the motion that rollouts are compared with; there after `prepare`.
    """

    system: System
    truth: Reference

    def __init__(self, config: DynamicsConfig) -> None:
        self.config = config

    @abstractmethod
    def build(self, label: str) -> nn.Module:
        """The untrained network of a label."""

    @abstractmethod
    def prepare(self, seed: int) -> None:
        """Makes the data of a seed."""

    @abstractmethod
    def train(self, label: str, seed: int, tell: Tell) -> tuple[dict[str, Any], Trained]:
        """Trains the network of a label; returns its losses and energies, and what was trained."""

    def draw(self, folder: RunDirectory, trained: Mapping[str, Trained]) -> list[Path]:
        """Phase space, energy against time, training curves and the animation."""
        space = int(getattr(self.system, "space", 1 if self.system.dimension == 2 else 2))
        whole = {
            n: t.rollouts.states[0]
            for n, t in trained.items()
            if bool(torch.isfinite(t.rollouts.states[0]).all())
        }
        paths: dict[str, Tensor] = {plots.TRUTH: self.truth.states[0], **whole}
        energies = {n: self.system.hamiltonian(z) for n, z in paths.items()}
        plots_drawn = [
            folder.write_figure(
                "phase_space", plots.phase_space(paths, self.system.coordinates, space=space)
            ),
            folder.write_figure("energy", plots.energy_in_time(energies, self.truth.times)),
            folder.write_figure(
                "training", plots.training_curves({n: t.history for n, t in trained.items()})
            ),
        ]
        if self.config.animate:
            plots_drawn.append(plots.animate(folder.path / "plots" / "rollout.gif", paths, space=space))
        return plots_drawn


class MotionTask(Task):
    """Measured trajectories of a system."""

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__(config)
        self.system = system(**config.system)

    def build(self, label: str) -> nn.Module:
        name, arguments = self.config.architecture(label)
        return network(name, self.system.dimension, **arguments)

    def prepare(self, seed: int) -> None:
        self.training, self.test = make_data(self.config, self.system, seed)
        e = self.config.evaluation
        self.truth = reference(
            self.system,
            starts=e.starts,
            trajectories=e.trajectories,
            span=e.span,
            points=e.points,
            seed=e.seed,
            test=self.test,
        )

    def train(self, label: str, seed: int, tell: Tell) -> tuple[dict[str, Any], Trained]:
        net = self.build(label)
        fitted = fit(net, self.training, self.test, self.config.settings(label), seed=seed, progress=tell)
        e = self.config.evaluation
        rollouts = follow(net, self.truth, method=e.method, tolerance=e.tolerance, substeps=e.substeps)
        losses = {"train_loss": fitted.train_loss, "test_loss": fitted.test_loss}
        return {**losses, **energy_report(self.system, self.truth, rollouts)}, Trained(
            net, fitted.history, rollouts
        )

    def draw(self, folder: RunDirectory, trained: Mapping[str, Trained]) -> list[Path]:
        figures = super().draw(folder, trained)
        if self.system.dimension == 2:
            laws: dict[str, Any] = {plots.TRUTH: self.system}
            laws |= {n: copy.deepcopy(t.network).double() for n, t in trained.items()}
            reach = 1.2 * float(self.truth.states.abs().max())
            figures.append(folder.write_figure("vector_field", plots.vector_field(laws, reach)))
        return figures


class PixelTask(Task):
    """Movies of a pendulum; networks get frames only.

    The energy MSE is the paper's notebook's, `energy_mse_frames` the one that the predicted frames show.
    """

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__(config)
        self.system = pixels.PixelPendulum(**{k: v for k, v in config.system.items() if k != "name"})

    def build(self, label: str) -> nn.Module:
        name, arguments = self.config.architecture(label)
        return pixels.PixelLaw(name, **arguments)

    def prepare(self, seed: int) -> None:
        data = self.config.data
        movies = pixels.make_frames(data.trajectories, data.points, seed if data.seed is None else data.seed)
        cut = max(1, round(data.trajectories * (1 - data.train)))
        self.test = pixels.Frames(movies.pixels[:cut], movies.states[:cut])
        self.training = pixels.Frames(movies.pixels[cut:], movies.states[cut:])
        some = pixels.Frames(self.test.pixels, self.test.states[: self.config.evaluation.trajectories])
        between = some.between()
        self.truth = Reference(between, pixels.FRAME * torch.arange(between.shape[1], dtype=torch.float64))

    def train(self, label: str, seed: int, tell: Tell) -> tuple[dict[str, Any], Trained]:
        model = self.build(label)
        assert isinstance(model, pixels.PixelLaw)
        train_loss, test_loss, history = pixels.fit_pixels(
            model, self.training, self.test, self.config.settings(label), seed=seed, progress=tell
        )
        e = self.config.evaluation
        try:
            rollouts = Rollouts(pixels.follow_pixels(model, self.test, len(self.truth.states)), 0)
            notebook = pixels.notebook_energies(model, self.training, e.trajectories, e.seed)
        except DivergenceError:
            rollouts = Rollouts(torch.full_like(self.truth.states, torch.nan), len(self.truth.states))
            notebook = (self.truth, rollouts)
        shown = energy_report(self.system, self.truth, rollouts)
        report = {**energy_report(self.system, *notebook), "energy_mse_frames": shown["energy_mse"]}
        return {"train_loss": train_loss, "test_loss": test_loss, **report}, Trained(model, history, rollouts)


def make_task(config: DynamicsConfig) -> Task:
    """The task of a config; every network is built once, so that a mistake is found before anything runs."""
    task = PixelTask(config) if config.system["name"] == PIXELS else MotionTask(config)
    for label in config.models:
        task.build(label)
    return task


def make_data(config: DynamicsConfig, mechanics: System, seed: int) -> tuple[Trajectories, Trajectories]:
    """Training and test trajectories of a run.

    Raises:
        DataError: a recording with holes, or of another system; a split that leaves nothing.
    """
    data = config.data
    if data.file is not None:
        motion = read_recording(data.file)
        if motion.states.shape[-1] != mechanics.dimension:
            raise DataError(
                f"states have {motion.states.shape[-1]} coordinates, '{mechanics.name}' has "
                f"{mechanics.dimension}",
                where=data.file,
                mend=f"record {', '.join(mechanics.coordinates)}, or name the system that was recorded",
            )
        if len(motion) == 1:
            return motion.split_in_time(data.train)
    else:
        motion = generate(
            mechanics,
            trajectories=data.trajectories,
            points=data.points,
            span=data.span,
            noise=data.noise,
            seed=seed if data.seed is None else data.seed,
            finite_differences=data.finite_differences,
        )
    if data.split_in_time:
        return motion.split_in_time(data.train)
    return motion.split(data.train, test_first=data.test_first)
