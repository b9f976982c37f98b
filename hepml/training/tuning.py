"""Hyperparameter search with Optuna: each trial is an ordinary run in a folder of its own, stopped early
where its validation loss is hopeless.

The study's journal file stands beside the trials, so that a search goes on where it stopped, and so that
several processes (local workers, tasks of a job array) can share it: one at a time takes a trial, and holds
the lock of its folder as long as it works on it. A trial whose process died goes on from its checkpoint.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepml import config as configs
from hepml import outputs
from hepml.errors import ConfigError, DataError, FileError, MissingExtraError
from hepml.tracking.names import flatten
from hepml.training.config_digest import CONTENTS, OPEN, SIZES, dependencies
from hepml.training.progress import Progress
from hepml.training.ranks import refuse_ranks
from hepml.training.run import train
from hepml.training.run_config import RunConfig, load_run_config
from hepml.training.run_directory import CONFIG

STORAGE, TRIALS, BEST = "study.journal", "trials", "best.yaml"
_FOLDER = "folder"  # attribute of a trial: where its run is
_CONFIG = "config"  # attribute of a study: what its trials share, without which they cannot be compared
_ENDED = ("COMPLETE", "PRUNED")


@dataclass(frozen=True)
class Dimension:
    """What one key may be.

    Args:
        key: of the config, as `training.learning_rate`.
        choices: the values to choose from, or None.
        low, high: the range otherwise; whole numbers where both are.
        log: whether to draw on a logarithmic scale.
        step: between values, or None.
    """

    key: str
    choices: tuple[Any, ...] | None = None
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    step: float | int | None = None

    def suggest(self, trial: Any) -> Any:
        """A value for this trial."""
        if self.choices is not None:
            # as words of the command line: Optuna keeps plain values only, and a list is a choice too
            return trial.suggest_categorical(
                self.key, [c if isinstance(c, str) else json.dumps(c) for c in self.choices]
            )
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=self.step)


def read_space(path: Path | str) -> list[Dimension]:
    """A search space from YAML: `key: [a, b, c]` or `key: {low: 1, high: 9, log: true, step: 2}`.

    Raises:
        ConfigError: not that form.
    """
    values = configs.read_yaml(Path(path))
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(
            "no search space", where=str(path), mend="training.learning_rate: {low: 1e-4, high: 1e-2}"
        )
    return [_dimension(str(key), value, str(path)) for key, value in values.items()]


def open_study(folder: Path, *, storage: str | None = None, pruner: str = "median") -> Any:
    """The study of a folder: a new one, or the one that stopped there.

    Args:
        folder: of the search.
        storage: an SQLAlchemy address (`sqlite:///study.db`); the study's journal file where left out.
        pruner: median, hyperband or none.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    if storage is None:
        backend = optuna.storages.journal.JournalFileBackend(str(folder / STORAGE))
        store: Any = optuna.storages.JournalStorage(backend)
    else:
        store = storage
    pruners = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        "hyperband": optuna.pruners.HyperbandPruner,
        "none": optuna.pruners.NopPruner,
    }
    if pruner not in pruners:
        raise ConfigError(f"no pruner '{pruner}'", where="--pruner", mend=", ".join(pruners))
    return optuna.create_study(
        study_name=folder.name, storage=store, pruner=pruners[pruner](), direction="minimize",
        load_if_exists=True,
    )  # fmt: skip


def search(
    study: Any,
    config: Path | str,
    overrides: Sequence[str],
    space: Sequence[Dimension],
    folder: Path,
    trials: int,
    *,
    seed: int = 0,
    parent: str | None = None,
    tell: Callable[[Any], None] = lambda trial: None,
) -> None:
    """Carries out trials until the study has as many as asked for, those of other processes counted in.

    Args:
        study: from `open_study`.
        config: what every trial starts from.
        overrides: for every trial.
        space: what differs between them.
        folder: of the search.
        trials: in all.
        seed: of what is tried; each trial draws from this and its number, whichever process has it.
        parent: MLflow run that the trials are children of.
        tell: called with each trial that ended.

    Raises:
        ConfigError: several ranks, which would each try something else; another config, or other jets, than
            those that the study's trials so far were trained by; choices that it does not know.
        Killed: a signal; the trial it met goes on when the search does.
    """
    refuse_ranks(os.environ, "a search")
    optuna = _optuna()
    _refuse_another(study, config, overrides, space, folder)
    while (trial := _next(study, folder, trials, held := ExitStack())) is not None:
        drawn = np.random.SeedSequence([seed, trial.number]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(drawn), constant_liar=True)
        place = Path(trial.user_attrs[_FOLDER])
        try:
            values = {dimension.key: dimension.suggest(trial) for dimension in space}
            run = _config(config, [*overrides, *_words(values)], trial.number, folder.name, parent)
            summary = train(run, place, resume=(place / CONFIG).is_file(), progress=_Pruning(trial))
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except DataError as problem:  # a loss that is not a number is a bad trial, and the search goes on
            trial.set_user_attr("problem", str(problem))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if not _lost_its_way(problem):
                raise
        else:
            test = summary.get("test") or {}
            trial.set_user_attr("test_auc", test.get("auc"))
            trial.set_user_attr("seconds", summary["seconds"])
            study.tell(trial, summary["validation"]["val_loss"])
        finally:
            held.close()
        tell(study.trials[trial.number])


def report(study: Any, config: Path | str, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """What the study has found, in plain values; leaves the best config as YAML and the figures.

    Raises:
        ConfigError: no trial has ended well.
    """
    trials = [t for t in study.trials if t.state.name == "COMPLETE" and t.value is not None]
    if not trials:
        raise ConfigError(
            "no trial has ended well", where=str(folder), mend="see its trials, or a wider space"
        )
    best = min(trials, key=lambda t: float(t.value))
    run = load_run_config(config, [*overrides, *_words(best.params)])
    text = f"# trial {best.number} of {len(study.trials)}: val_loss {best.value:.6g}\n"
    outputs.write_bytes(folder / BEST, (text + configs.dump_yaml(configs.plain_values(run))).encode())
    return {
        "study": study.study_name,
        "folder": str(folder),
        "trials": [
            {
                "number": t.number,
                "state": t.state.name.lower(),
                "val_loss": t.value,
                "epochs": len(t.intermediate_values),
                "parameters": dict(t.params),
                "test_auc": t.user_attrs.get("test_auc"),
                "run": t.user_attrs.get(_FOLDER),
            }
            for t in study.trials
        ],
        "best": {"number": best.number, "val_loss": best.value, "parameters": dict(best.params)},
        "best_config": str(folder / BEST),
        "importance": _importance(study, trials),
        "figures": _figures(study, trials, folder),
    }


# ------------------------------------------------------------------------------------------------------------
# helpers


class _Pruning(Progress):
    """Tells the study each epoch's validation loss, and ends a hopeless trial."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def epoch(self, epoch: int, values: Mapping[str, float], best: bool) -> None:
        loss = values.get("val_loss", math.nan)
        if math.isfinite(loss):
            self.trial.report(loss, epoch)
        if self.trial.should_prune():
            raise _optuna().TrialPruned


def _optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise MissingExtraError("optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _config(
    config: Path | str, words: Sequence[str], number: int, study: str, parent: str | None
) -> RunConfig:
    run = load_run_config(config, [*words, f"name=trial-{number:04d}"])
    settings = run.tracking
    tags = {**settings.tags, **({"mlflow.parentRunId": parent} if parent else {})}
    tracking = settings.model_copy(
        update={"tags": tags, "name": f"{study} trial {number}", "experiment": settings.experiment or study}
    )
    return run.model_copy(update={"tracking": tracking, "output": None})


def _refuse_another(
    study: Any, config: Path | str, words: Sequence[str], space: Sequence[Dimension], folder: Path
) -> None:
    """Trials of different configs are not compared: refuses one that is not that of the study, or makes it
    that of a new one."""
    run = _config(config, words, 0, folder.name, None)
    now: dict[str, Any] = {
        "values": flatten(dependencies(run, results=False)),
        "choices": {d.key: list(d.choices) for d in space if d.choices is not None},
        "searched": [d.key for d in space],
    }
    before = study.user_attrs.get(_CONFIG)
    if before is None:
        if not study.trials:
            study.set_user_attr(_CONFIG, now)
        return
    dropped = [key for key in before["searched"] if key not in now["searched"]]
    if dropped:
        raise ConfigError(
            f"the trials of this search have tried {dropped[0]}, which is fixed now: they cannot be compared",
            where=str(folder),
            mend="keep it in the space, or give a search of its own: -o FOLDER",
        )
    was, is_now = before["values"], now["values"]
    free = (*OPEN, SIZES, CONTENTS)  # elsewhere a key that only one has is of another version
    keys = [k for k in sorted({*was, *is_now}) if k.startswith(free) or (k in was and k in is_now)]
    other = [k for k in keys if was.get(k) != is_now.get(k) and not _within(k, before["searched"])]
    both = sorted({*before["choices"]} & {*now["choices"]})
    other += [f"choice of {k}" for k in both if before["choices"][k] != now["choices"][k]]
    if other:
        raise ConfigError(
            "the trials of this search were trained with another "
            f"{', '.join(map(_in_words, other[:4]))}: they cannot be compared",
            where=str(folder),
            mend="a search of its own: -o FOLDER",
        )


def _within(key: str, searched: Sequence[str]) -> bool:
    """Whether a key, or one below or above it, is searched."""
    return any(f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in searched)


def _in_words(key: str) -> str:
    """What a user calls an entry of `dependencies`."""
    what, _, of = key.partition(".")
    return {SIZES: "size of the jet files", CONTENTS: f"content of {of}"}.get(what, key)


def _words(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _counted(study: Any) -> int:
    """Trials that have ended well or run; those that are to go on are counted when they run."""
    return sum(t.state.name in (*_ENDED, "RUNNING") or "problem" in t.user_attrs for t in study.trials)


def _next(study: Any, folder: Path, trials: int, held: ExitStack) -> Any:
    """The next trial, with the lock of its folder in `held`; None where there are as many as asked for."""
    with outputs.owning(folder / TRIALS, wait=True):  # one process at a time
        _take_up_the_dead(study)
        if _counted(study) >= trials:
            return None
        trial = study.ask()
        place = trial.user_attrs.get(_FOLDER) or str(folder / TRIALS / f"{trial.number:04d}")
        trial.set_user_attr(_FOLDER, place)
        held.enter_context(outputs.owning(Path(place)))
        return trial


def _take_up_the_dead(study: Any) -> None:
    """Trials that run in no process any more are queued again, to go on from their checkpoints."""
    optuna = _optuna()
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        place = trial.user_attrs.get(_FOLDER)
        if place is None or not _is_held(Path(place)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
            if place is not None:
                study.enqueue_trial(trial.params, user_attrs={_FOLDER: place})


def _is_held(place: Path) -> bool:
    try:
        with outputs.owning(place):
            return False
    except FileError:
        return True


def _lost_its_way(problem: DataError) -> bool:
    return "loss is" in problem.what


def _dimension(key: str, value: Any, where: str) -> Dimension:
    if isinstance(value, list) and value:
        return Dimension(key, tuple(value))
    if isinstance(value, Mapping) and {"low", "high"} <= set(value) <= {"low", "high", "log", "step"}:
        low, high, step = (_number(value.get(name), key, where) for name in ("low", "high", "step"))
        if low is not None and high is not None and low < high:
            return Dimension(key, None, low, high, bool(value.get("log", False)), step)
    raise ConfigError(
        f"'{key}' is no dimension of a search",
        where=where,
        mend="[a, b, c], or {low: 1e-4, high: 1e-2, log: true}",
    )


def _number(value: Any, key: str, where: str) -> float | int | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    try:
        return float(value)  # YAML takes 1e-4 for a word
    except (TypeError, ValueError):
        raise ConfigError(f"'{value}' of '{key}' is no number", where=where, mend="as 1e-4") from None


def _importance(study: Any, trials: Sequence[Any]) -> dict[str, float]:
    if len(trials) < 2:
        return {}
    try:
        return {k: float(v) for k, v in _optuna().importance.get_param_importances(study).items()}
    except (RuntimeError, ValueError):  # all alike, or too few
        return {}


def _figures(study: Any, trials: Sequence[Any], folder: Path) -> list[str]:
    """Importance, parallel coordinates and the course of the search, where there is something to draw."""
    if len(trials) < 2:
        return []
    import warnings

    import matplotlib.pyplot as plt
    import optuna.visualization.matplotlib as draw

    place = folder / "plots"
    place.mkdir(exist_ok=True)
    kinds: dict[str, Any] = {
        "importance": draw.plot_param_importances,
        "parallel": draw.plot_parallel_coordinate,
        "history": draw.plot_optimization_history,
    }
    paths = []
    for name, plot in kinds.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                plot(study)
            except (RuntimeError, ValueError):
                continue
            plt.gcf().savefig(place / f"{name}.png", dpi=150, bbox_inches="tight")
        plt.close("all")
        paths.append(str(place / f"{name}.png"))
    return paths
