"""Runs of the dynamics tasks: train every network of a config on the same motion, roll them out, compare
energies, draw, record.

The run folder holds config, environment, git state, journal, weights, plots and `summary.json`; MLflow gets
what the journal has.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hepml import config as configs
from hepml import tracking
from hepml.errors import FileError, HepmlError, did_you_mean
from hepml.pretrained.archives import read_archive
from hepml.training.checkpoints import write_atomically
from hepml.training.dynamics.config import DynamicsConfig, load_dynamics_config
from hepml.training.dynamics.tasks import Task, Trained, make_task
from hepml.training.ranks import refuse_ranks
from hepml.training.run_directory import CONFIG, SUMMARY, RunDirectory, new_folder

__all__ = ["Progress", "load_dynamics_config", "load_network", "run_dynamics"]

# Numbers of a report that are averaged over seeds.
AVERAGED = (
    "train_loss",
    "test_loss",
    "energy_mse",
    "energy_mse_median",
    "coordinate_mse",
    "energy_mse_radius",
    "energy_mse_frames",
    "seconds",
)


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
        output: run folder; the config's own, else `runs/dynamics-NAME-TIME`.
        progress: is told how far it is.

    Returns:
        the summary: for each label a mapping with `energy_mse` (mean over seeds), its `energy_mse_spread`,
            losses, parameters and seconds;
        `energy_mse` by label; the `published` numbers.

    Raises:
        HepmlError: a config that does not fit, motion that diverges, a folder that holds a run already.
    """
    refuse_ranks(os.environ, "a training of trajectories")
    folder = RunDirectory(output or config.output or new_folder(f"dynamics-{config.name or 'run'}"))
    task = make_task(config)
    folder.prepare(resume=False)
    write_atomically(folder.path / CONFIG, configs.dump_yaml(configs.plain_values(config)).encode())
    folder.write_json("environment.json", tracking.capture_environment())
    folder.write_json("git.json", tracking.capture_source())
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
        tags={"task": task.system.name, "config": config.name or ""},
    )
    with tracker:
        began = time.perf_counter()
        per_seed: dict[str, list[dict[str, Any]]] = {label: [] for label in config.models}
        for seed in config.seeds:
            task.prepare(seed)
            trained: dict[str, Trained] = {}
            for label in config.models:
                report, trained[label] = _train_one(task, label, seed, tracker, progress or Progress())
                per_seed[label].append(report)
            if seed == config.seeds[0]:
                for label, result in trained.items():
                    _save(folder, task, label, result.network)
                for path in task.draw(folder, trained):
                    tracker.artifact(path, "plots")
        summary = _summarise(task, folder, per_seed, time.perf_counter() - began)
        tracker.metrics(
            {f"{k}/energy_mse": v for k, v in summary["energy_mse"].items()}, step=len(config.seeds)
        )
        folder.write_json(SUMMARY, summary)
        tracker.artifact(folder.path / SUMMARY)
    return summary


def load_network(run: Path | str, label: str) -> nn.Module:
    """A trained network of a run folder, in evaluation mode.

    Raises:
        FileError: there is no such network.
    """
    path = Path(run) / "models" / f"{label}.pt"
    if not path.is_file():
        there = [p.stem for p in path.parent.glob("*.pt")]
        raise FileError(
            f"no network '{label}' in this run",
            where=str(run),
            mend=did_you_mean(label, there, noun="it has"),
        )
    saved = read_archive(path, "network")
    try:
        block = {"name": saved["name"], **saved["arguments"]}
        config = DynamicsConfig.model_validate({"system": saved["system"], "models": {label: block}})
        net = make_task(config).build(label)
        net.load_state_dict(saved["weights"])
    except HepmlError:
        raise
    except Exception as problem:  # a file of other things than `_save` writes
        raise FileError(
            f"not a network of hepml ({' '.join(str(problem).split())[:120]})",
            where=str(path),
            mend="train it again",
        ) from None
    return net.eval()


# ---------------------------------------------------------------------- helpers


def _train_one(
    task: Task, label: str, seed: int, tracker: tracking.Tracker, progress: Progress
) -> tuple[dict[str, Any], Trained]:
    settings = task.config.settings(label)
    prefix = label if len(task.config.seeds) == 1 else f"seed{seed}/{label}"

    def tell(step: int, losses: dict[str, float]) -> None:
        tracker.metrics({f"{prefix}/{key}": value for key, value in losses.items()}, step=step)
        progress.step(label, step, losses)

    torch.manual_seed(seed)
    progress.begin(label, seed, settings.steps + settings.polish)
    began = time.perf_counter()
    metrics, trained = task.train(label, seed, tell)
    report = {
        "seed": seed,
        **metrics,
        "seconds": time.perf_counter() - began,
        "parameters": sum(p.numel() for p in trained.network.parameters()),
    }
    tracker.metrics(
        {f"{prefix}/final_{k}": report[k] for k in AVERAGED if k in report},
        step=settings.steps + settings.polish,
    )
    progress.end(label, seed, report)
    return report, trained


def _summarise(
    task: Task, folder: RunDirectory, per_seed: Mapping[str, list[dict[str, Any]]], seconds: float
) -> dict[str, Any]:
    config = task.config
    summary: dict[str, Any] = {
        "task": config.name,
        "system": task.system.name,
        "run": str(folder.path),
        "seeds": list(config.seeds),
        "energy_mse": {},
        "published": config.published,
        "paper": config.paper,
        "seconds": seconds,
    }
    for label, reports in per_seed.items():
        entry: dict[str, Any] = {
            "network": config.architecture(label)[0],
            "parameters": reports[0]["parameters"],
        }
        for key in AVERAGED:
            values = [r[key] for r in reports if r.get(key) is not None]
            if values:
                entry[key] = float(np.mean(values))
        energies = [r["energy_mse"] for r in reports]
        many = len(energies) > 1 and all(math.isfinite(e) for e in energies)
        entry["energy_mse_spread"] = float(np.std(energies, ddof=1)) if many else None
        entry["energy_mse_worst"] = float(np.max(energies))
        entry["energy_mse_error"] = reports[0]["energy_mse_error"]
        entry["diverged"] = int(sum(r["diverged"] for r in reports))
        entry["per_seed"] = reports
        summary[label] = entry
        summary["energy_mse"][label] = entry["energy_mse"]
    return summary


def _save(folder: RunDirectory, task: Task, label: str, net: nn.Module) -> None:
    name, arguments = task.config.architecture(label)
    buffer = io.BytesIO()
    torch.save(
        {"name": name, "arguments": arguments, "system": task.config.system, "weights": net.state_dict()},
        buffer,
    )
    write_atomically(folder.path / "models" / f"{label}.pt", buffer.getvalue())
