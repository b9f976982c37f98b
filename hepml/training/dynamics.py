"""Runs of the dynamics tasks: train every network of a config on the same motion, roll them out, compare energies, draw, record.

The run folder holds config, environment, git state, journal, weights, plots and `summary.json`; MLflow gets what the journal has.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hepml
from hepml import config as configs
from hepml import tracking
from hepml.dynamics import plots
from hepml.dynamics.evaluation import Reference, Rollouts, energy_report, follow, reference
from hepml.dynamics.fitting import Fit, fit
from hepml.dynamics.networks import network
from hepml.dynamics.systems import System, system
from hepml.dynamics.trajectories import Trajectories, generate, read_pendulum
from hepml.errors import FileError, did_you_mean
from hepml.training.checkpoints import write_atomically
from hepml.training.dynamics_config import DynamicsConfig, load_dynamics_config
from hepml.training.run_directory import CONFIG, SUMMARY, RunDirectory

# Numbers of a report that are averaged over seeds.
AVERAGED = ("train_loss", "test_loss", "energy_mse", "coordinate_mse", "energy_mse_radius", "seconds")


class Progress:
    """What a run tells while it goes; this one is silent."""

    def begin(self, label: str, seed: int, steps: int) -> None:
        """A network begins to train."""

    def step(self, label: str, step: int, losses: Mapping[str, float]) -> None:
        """So many steps are done."""

    def end(self, label: str, seed: int, report: Mapping[str, Any]) -> None:
        """A network was trained and rolled out."""


def run_dynamics(
    config: DynamicsConfig, output: Path | str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Trains and compares the networks of a config.

    Args:
        config: see `DynamicsConfig`.
        output: run folder; the config's own, else `runs/NAME-TIME`.
        progress: is told how far it is.

    Returns:
        the summary: for each label a mapping with `energy_mse` (mean over seeds), its `energy_mse_spread`, losses, parameters and seconds;
        `energy_mse` by label; the `published` numbers.

    Raises:
        HepmlError: a config that does not fit, motion that diverges, a folder that holds a run already.
    """
    folder = RunDirectory(output or config.output or _new_folder(config))
    mechanics = system(**config.system)
    for label in config.models:  # fail before anything runs
        name, arguments = config.architecture(label)
        network(name, mechanics.dimension, **arguments)
    folder.prepare(resume=False)
    write_atomically(
        folder.path / CONFIG, configs.dump_yaml(config.model_dump(mode="json", exclude_none=True)).encode()
    )
    folder.write_json("environment.json", tracking.capture_environment())
    folder.write_json("git.json", tracking.capture_git(Path(hepml.__file__).parent))
    settings = config.tracking
    tracker = tracking.start(
        folder.path,
        experiment=settings.experiment or "hepml-dynamics",
        name=settings.name or folder.path.resolve().name,
        uri=settings.uri,
        enabled=settings.enabled,
        parameters=config.model_dump(
            mode="json", include={"system", "data", "models", "training", "evaluation", "seeds"}
        ),
        tags={"task": mechanics.name, "config": config.name or ""},
    )
    with tracker:
        began = time.perf_counter()
        per_seed: dict[str, list[dict[str, Any]]] = {label: [] for label in config.models}
        for seed in config.seeds:
            train, test = make_data(config, mechanics, seed)
            truth = make_reference(config, mechanics, test)
            trained: dict[str, tuple[nn.Module, Fit, Rollouts]] = {}
            for label in config.models:
                report, trained[label] = _train_one(
                    config, mechanics, label, seed, train, test, truth, tracker, progress or Progress()
                )
                per_seed[label].append(report)
            if seed == config.seeds[0]:
                for label, (net, _, _) in trained.items():
                    _save(folder, config, mechanics, label, net)
                for path in _draw(config, mechanics, folder, truth, trained):
                    tracker.artifact(path, "plots")
        summary = _summarise(config, mechanics, folder, per_seed, time.perf_counter() - began)
        tracker.metrics(
            {f"{label}/energy_mse": summary[label]["energy_mse"] for label in config.models}, step=len(config.seeds)
        )
        folder.write_json(SUMMARY, summary)
        tracker.artifact(folder.path / SUMMARY)
    return summary


def make_data(config: DynamicsConfig, mechanics: System, seed: int) -> tuple[Trajectories, Trajectories]:
    """Training and test trajectories of a run.

    Raises:
        DataError: a recording with holes, or a split that leaves nothing.
    """
    data = config.data
    if data.file is not None:
        motion = read_pendulum(data.file)
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
    if data.split_in_time or data.file is not None:
        return motion.split_in_time(data.train)
    return motion.split(data.train, test_first=data.test_first)


def make_reference(config: DynamicsConfig, mechanics: System, test: Trajectories) -> Reference:
    """The motion that rollouts of a run are compared with."""
    e = config.evaluation
    return reference(mechanics, starts=e.starts, trajectories=e.trajectories, span=e.span, points=e.points, test=test)


def load_network(run: Path | str, label: str) -> nn.Module:
    """A trained network of a run folder, in evaluation mode.

    Raises:
        FileError: there is no such run or network.
    """
    path = Path(run) / "models" / f"{label}.pt"
    if not path.is_file():
        there = [p.stem for p in path.parent.glob("*.pt")]
        raise FileError(
            f"no network '{label}' in this run", where=str(run), mend=did_you_mean(label, there, noun="it has")
        )
    saved = torch.load(path, map_location="cpu", weights_only=True)
    net = network(saved["name"], saved["dimension"], **saved["arguments"])
    net.load_state_dict(saved["weights"])
    return net.eval()


# ---------------------------------------------------------------------- helpers


def _train_one(
    config: DynamicsConfig,
    mechanics: System,
    label: str,
    seed: int,
    train: Trajectories,
    test: Trajectories,
    truth: Reference,
    tracker: tracking.Tracker,
    progress: Progress,
) -> tuple[dict[str, Any], tuple[nn.Module, Fit, Rollouts]]:
    name, arguments = config.architecture(label)
    settings = config.settings(label)
    torch.manual_seed(seed)
    net = network(name, mechanics.dimension, **arguments)
    prefix = label if len(config.seeds) == 1 else f"seed{seed}/{label}"

    def tell(step: int, losses: dict[str, float]) -> None:
        tracker.metrics({f"{prefix}/{key}": value for key, value in losses.items()}, step=step)
        progress.step(label, step, losses)

    progress.begin(label, seed, settings.steps)
    began = time.perf_counter()
    fitted = fit(net, train, test, settings, seed=seed, progress=tell)
    seconds = time.perf_counter() - began
    e = config.evaluation
    found = follow(net, truth, method=e.method, tolerance=e.tolerance, substeps=e.substeps)
    report = {
        "seed": seed,
        "train_loss": fitted.train_loss,
        "test_loss": fitted.test_loss,
        **energy_report(mechanics, truth, found),
        "seconds": seconds,
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    tracker.metrics({f"{prefix}/final_{key}": report[key] for key in AVERAGED if key in report}, step=settings.steps)
    progress.end(label, seed, report)
    return report, (net, fitted, found)


def _summarise(
    config: DynamicsConfig,
    mechanics: System,
    folder: RunDirectory,
    per_seed: Mapping[str, list[dict[str, Any]]],
    seconds: float,
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "task": config.name,
        "system": mechanics.name,
        "run": str(folder.path),
        "seeds": list(config.seeds),
        "energy_mse": {},
        "published": config.published,
        "paper": config.paper,
        "seconds": seconds,
    }
    for label, reports in per_seed.items():
        entry: dict[str, Any] = {"network": config.architecture(label)[0], "parameters": reports[0]["parameters"]}
        for key in AVERAGED:
            values = [r[key] for r in reports if r.get(key) is not None]
            if values:
                entry[key] = float(np.mean(values))
        energies = [r["energy_mse"] for r in reports]
        entry["energy_mse_spread"] = float(np.std(energies, ddof=1)) if len(energies) > 1 else None
        entry["energy_mse_worst"] = float(np.max(energies))
        entry["energy_mse_error"] = reports[0]["energy_mse_error"]
        entry["diverged"] = int(sum(r["diverged"] for r in reports))
        entry["per_seed"] = reports
        summary[label] = entry
        summary["energy_mse"][label] = entry["energy_mse"]
    return summary


def _draw(
    config: DynamicsConfig,
    mechanics: System,
    folder: RunDirectory,
    truth: Reference,
    trained: Mapping[str, tuple[nn.Module, Fit, Rollouts]],
) -> list[Path]:
    space = int(getattr(mechanics, "space", 1 if mechanics.dimension == 2 else 2))
    whole = {n: r for n, (_, _, r) in trained.items() if not bool(torch.isnan(r.states[0]).any())}
    paths: dict[str, Tensor] = {plots.TRUTH: truth.states[0], **{n: r.states[0] for n, r in whole.items()}}
    made = [folder.write_figure("phase_space", plots.phase_space(paths, mechanics.coordinates, space=space))]
    energies = {n: mechanics.hamiltonian(z) for n, z in paths.items()}
    made.append(folder.write_figure("energy", plots.energy_in_time(energies, truth.times)))
    made.append(
        folder.write_figure("training", plots.training_curves({n: f.history for n, (_, f, _) in trained.items()}))
    )
    if mechanics.dimension == 2:
        laws: dict[str, Any] = {plots.TRUTH: mechanics, **{n: m for n, (m, _, _) in _doubled(trained).items()}}
        reach = 1.2 * float(truth.states.abs().max())
        made.append(folder.write_figure("vector_field", plots.vector_field(laws, reach)))
    if config.animate:
        made.append(plots.animate(folder.path / "plots" / "rollout.gif", paths, space=space))
    return made


def _doubled(trained: Mapping[str, tuple[nn.Module, Fit, Rollouts]]) -> dict[str, tuple[nn.Module, Fit, Rollouts]]:
    return {n: (m.double(), f, r) for n, (m, f, r) in trained.items()}


def _save(folder: RunDirectory, config: DynamicsConfig, mechanics: System, label: str, net: nn.Module) -> None:
    name, arguments = config.architecture(label)
    buffer = io.BytesIO()
    torch.save(
        {"name": name, "dimension": mechanics.dimension, "arguments": arguments, "weights": net.state_dict()}, buffer
    )
    write_atomically(folder.path / "models" / f"{label}.pt", buffer.getvalue())


def _new_folder(config: DynamicsConfig) -> Path:
    base = Path("runs") / f"dynamics-{config.name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, n = base, 1
    while path.exists():
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


__all__ = ["Progress", "load_dynamics_config", "load_network", "make_data", "make_reference", "run_dynamics"]
