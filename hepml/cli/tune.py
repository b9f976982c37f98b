"""`hepml tune`: searches hyperparameters with Optuna; every trial is an ordinary run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

_PARENT = "mlflow_parent"  # attribute of the study: the MLflow run of the search


def command(
    config: Annotated[str, typer.Argument(help="Config that every trial starts from.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key.sub=value]...", help="Keys to set in all trials.", show_default=False),
    ] = None,
    search: Annotated[
        Path | None,
        typer.Option("--search", "-s", help="Search space (YAML): key: [a, b] or key: {low, high, log}."),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", "-n", min=1, help="Trials in all.")] = 20,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the search; runs/tune-CONFIG otherwise.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Trials at a time, here.")] = 1,
    pruner: Annotated[
        str, typer.Option("--pruner", help="median, hyperband or none: stops hopeless trials.")
    ] = "median",
    storage: Annotated[
        str | None, typer.Option("--storage", help="As sqlite:///study.db; a journal file otherwise.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sampler.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The result as one JSON document.")] = False,
    helper: Annotated[bool, typer.Option("--helper", hidden=True)] = False,
) -> int:
    """Search hyperparameters: trains trial after trial, stops hopeless ones, keeps the best config.

    The same command goes on with a search that was stopped; several of them (tasks of a job array) share it.

    Examples: hepml tune configs/quickstart.yaml --search space.yaml --trials 20 -o runs/tune
    ·  sbatch --array=0-7 --wrap "hepml tune CONFIG --search space.yaml --trials 100 -o runs/tune"
    """
    from hepml.cli import console
    from hepml.cluster.requeue import queue_again
    from hepml.errors import ConfigError
    from hepml.training import tuning
    from hepml.training.callbacks import Killed

    if search is None:
        mend = "a YAML file with training.learning_rate: {low: 1e-4, high: 1e-2, log: true}"
        raise ConfigError("no search space", where="--search", mend=mend)
    words = overrides or []
    space = tuning.read_space(search)
    folder = (output or Path("runs") / f"tune-{Path(config).stem}").absolute()
    study = tuning.open_study(folder, storage=storage, pruner=pruner)
    say = console.err()

    def tell(trial: Any) -> None:
        loss = f"val_loss {trial.value:.5f}" if trial.value is not None else "no loss"
        given = "  ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        say.print(f"trial {trial.number}: {trial.state.name.lower()}  {loss}  {given}")

    tracker = None if helper else _parent(config, words, folder, study, len(space), trials)
    line = [config, *words, "--search", str(search), "--trials", str(trials), "--output", str(folder)]
    line += ["--pruner", pruner, *(["--storage", storage] if storage else []), "--helper"]
    line += ["--seed", str(seed)]
    crew = [] if helper else _start_helpers(workers - 1, line)
    status = "FAILED"
    try:
        tuning.search(
            study,
            config,
            words,
            space,
            folder,
            trials,
            seed=seed,
            parent=study.user_attrs.get(_PARENT),
            tell=tell,
        )
        for process in crew:
            process.wait()
        if helper:
            return 0
        summary = tuning.report(study, config, words, folder)
        _keep(tracker, summary, folder)
        status = "FINISHED"
    except Killed as stop:
        status = "KILLED"
        say.print(f"stopped by {stop}; the same command goes on")
        queue_again(stop.signum)
        return 128 + stop.signum
    finally:
        for process in crew:
            if process.poll() is None:
                process.terminate()
        if tracker is not None:
            tracker.finish(status)
    if json:
        console.print_json(summary)
    else:
        _show(summary)
    return 0


def _parent(config: str, words: Sequence[str], folder: Path, study: Any, dimensions: int, trials: int) -> Any:
    """The MLflow run that the trials are children of, or None where another process of the search has it."""
    import time

    from hepml import tracking
    from hepml.errors import TrackingError
    from hepml.training.run_config import load_run_config

    settings = load_run_config(config, words).tracking
    try:
        tracker = tracking.start(
            folder,
            experiment=settings.experiment or folder.name,
            name=folder.name,
            uri=settings.uri,
            enabled=settings.enabled,
            parameters={"dimensions": dimensions, "trials": trials},
            system_interval=0,
        )
    except TrackingError:
        return None
    until = time.monotonic() + 120
    while settings.enabled and tracker.run_id is None and not tracker.problem and time.monotonic() < until:
        time.sleep(0.1)
    if tracker.run_id is not None:
        study.set_user_attr(_PARENT, tracker.run_id)
    return tracker


def _start_helpers(count: int, words: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    line = [sys.executable, "-m", "hepml", "tune", *words]
    return [subprocess.Popen(line, stdout=sys.stderr) for _ in range(count)]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _keep(tracker: Any, summary: dict[str, Any], folder: Path) -> None:
    """The table of trials, the best config and the figures, in the folder and in the parent run."""
    import json as jsons

    from hepml import outputs

    outputs.write_bytes(folder / "tune.json", (jsons.dumps(summary, indent=1, default=str) + "\n").encode())
    if tracker is None:
        return
    tracker.metrics({"best/val_loss": summary["best"]["val_loss"]}, 0)
    tracker.parameters({"best": summary["best"]["parameters"]})
    for path in (summary["best_config"], folder / "tune.json", *summary["figures"]):
        tracker.artifact(Path(path), "plots" if str(path).endswith(".png") else None)


def _show(summary: dict[str, Any]) -> None:
    from rich.table import Table

    from hepml.cli import console

    keys = list(summary["best"]["parameters"])
    table = Table(title=f"{len(summary['trials'])} trials of {summary['study']}", title_justify="left")
    for heading in ("trial", "state", "val_loss", "test AUC", *keys):
        table.add_column(heading, justify="right")
    ended = sorted(summary["trials"], key=lambda t: (t["state"] != "complete", t["val_loss"] or float("inf")))
    for row in ended:
        given = [_short(row["parameters"].get(key, "")) for key in keys]
        loss = "" if row["val_loss"] is None else f"{row['val_loss']:.5f}"
        auc = "" if row["test_auc"] is None else f"{row['test_auc']:.5f}"
        table.add_row(str(row["number"]), row["state"], loss, auc, *given)
    screen = console.out()
    screen.print(table)
    if summary["importance"]:
        shares = ", ".join(f"{name} {value:.0%}" for name, value in summary["importance"].items())
        screen.print(f"importance: {shares}")
    screen.print(f"best config: {summary['best_config']}")
