"""A run's config from a file or a mapping, composed and checked.

A run is described once, in YAML; `RunConfig` (`run_description.py`) is that description after it has been
checked here: every block against its schema, blocks against each other, and paths made absolute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from hepml import config as configs
from hepml import paths
from hepml.config import Config
from hepml.errors import ConfigError, ModelError, did_you_mean
from hepml.models import catalogue
from hepml.pretrained import published
from hepml.training.config_trust import check_names, import_plugins
from hepml.training.data_config import DataConfig
from hepml.training.recipe_config import DistillConfig
from hepml.training.report_config import EvaluationConfig, TrackingConfig
from hepml.training.run_description import MODEL_KEYS, RunConfig
from hepml.training.training_config import TrainingConfig

__all__ = [
    "KINDS",
    "DataConfig",
    "DistillConfig",
    "EvaluationConfig",
    "RunConfig",
    "TrackingConfig",
    "TrainingConfig",
    "check",
    "compose",
    "load_run_config",
]

KINDS = ("model", "objective")  # blocks whose `name` says what they are


def compose(config: Path | str | Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """A run's config from a file or a mapping, with overrides, not yet checked.

    Raises:
        ConfigError: see `hepml.config`.
    """
    if isinstance(config, Mapping):
        return configs.from_mapping(config, overrides, kinds=KINDS)
    return configs.load(config, overrides, kinds=KINDS)


def load_run_config(path: Path | str, overrides: Iterable[str] = (), *, trust: bool = False) -> RunConfig:
    """A run config from a file and overrides, checked, with absolute paths.

    Raises:
        ConfigError: see `hepml.config`.
        ModelError: an unknown model.

    Examples:
        >>> hepml.training.load_run_config('quickstart', ['training.epochs=3']).training.epochs
        3
    """
    return check(compose(path, overrides), trust=trust)


def check(config: Config, *, trust: bool = False) -> RunConfig:
    """A composed config as a run, every block checked against its schema.

    Args:
        config: the config; plugins that it names are imported, and named on the screen before that.
        trust: also those of a run folder that another user wrote.
    """
    config.values.setdefault("name", config.file.stem if config.file else "run")
    run = configs.validate(RunConfig, config)
    run = run.model_copy(update={"plugins": [_plugin_path(name, config) for name in run.plugins]})
    check_names(run, config)
    import_plugins(run, config, trust)
    _check_model(run, config)
    _check_objective(run, config)
    if run.data.folds is not None and run.data.fold >= run.data.folds:
        raise ConfigError(
            f"data.fold is {run.data.fold} of {run.data.folds} folds",
            where=config.where(("data", "fold")),
            mend=f"folds are counted from 0: give 0 to {run.data.folds - 1}",
        )
    _check_recipes(run, config)
    if (
        run.distill is not None
        and not run.distill.hard_labels
        and run.objective_arguments.get("label_smoothing")
    ):
        raise ConfigError(
            "label_smoothing changes labels, and distill takes none (hard_labels is 0)",
            where=config.where(("objective", "label_smoothing")),
            mend="leave it out (distill.temperature softens a teacher), or set distill.hard_labels",
        )
    if run.data.class_weights is not None and run.distill is not None and not run.distill.weights:
        raise ConfigError(
            "class_weights weigh jets by their class, and distill takes no weights",
            where=config.where(("data", "class_weights")),
            mend="set distill.weights: true, or leave class_weights out",
        )
    if run.training.monitor == "val_auc" and run.objective_name == "gaussian":
        raise ConfigError(
            "val_auc means nothing for a regression",
            where=config.where(("training", "monitor")),
            mend="monitor: val_loss",
        )
    return _with_paths(run, config)


# ------------------------------------------------------------------------------------------------------------
# helpers


def _check_recipes(run: RunConfig, config: Config) -> None:
    """Refuses blocks that do not go together."""
    if run.data.stream and run.distill is not None:
        raise ConfigError(
            "distill and data.stream do not go together",
            where=config.where(("data", "stream")),
            mend="pack the jets with data.cache instead of streaming them",
        )
    if run.decorrelate is not None and run.data.target is not None:
        raise ConfigError(
            "decorrelate is for classification, and data.target asks for a regression",
            where=config.where(("decorrelate",)),
            mend="leave one of them out",
        )
    watching = "pretraining" if run.pretraining is not None else "auxiliary" if run.auxiliary else None
    if watching is None:
        return
    if run.training.compile:
        raise ConfigError(
            f"{watching} watches the layers of the model, which a compiled one hides",
            where=config.where(("training", "compile")),
            mend="training.compile: false",
        )
    bad = next((name for name in run.auxiliary if not name.isidentifier()), None)
    if bad is not None:
        raise ConfigError(
            f"'{bad}' cannot name an auxiliary task",
            where=config.where(("auxiliary",)),
            mend="letters, digits and _",
        )
    if run.pretraining is not None:
        others = {
            "distill": run.distill,
            "decorrelate": run.decorrelate,
            "auxiliary": run.auxiliary or None,
            "data.class_weights": run.data.class_weights,
            "data.reweight": run.data.reweight,
        }
        also = [name for name, block in others.items() if block is not None]
        if also or run.training.monitor != "val_loss" or run.data.target is not None:
            what = also[0] if also else "training.monitor" if run.data.target is None else "data.target"
            raise ConfigError(
                f"pretraining uses no labels, and {what} does",
                where=config.where(("pretraining",)),
                mend="leave one of them out",
            )


def _plugin_path(name: str, config: Config) -> str:
    return paths.resolve_path(name, config.file) if name.endswith(".py") else name


def _check_model(run: RunConfig, config: Config) -> None:
    name = run.model_name
    if name is None:
        if run.pretrained is None:
            raise ConfigError(
                "the model has no name",
                where=config.where(("model",)),
                mend="model: {name: …}; see `hepml models`",
            )
        if run.hyperparameters:
            raise ConfigError(
                "hyperparameters without a model name",
                where=config.where(("model",)),
                mend="the pretrained weights bring their own, or give `name` too",
            )
        return
    try:
        entry = catalogue.entry(name)
    except ModelError:
        at = ("model",) if isinstance(run.model, str) else ("model", "name")
        raise ModelError(
            f"unknown model '{name}'",
            where=config.where(at),
            mend=did_you_mean(name, catalogue.registry(), noun="registered models"),
        ) from None
    known = get_args(catalogue.Initialisation)
    if run.initialisation not in (None, *known):
        raise ConfigError(
            f"model.initialisation should be {' or '.join(known)}, not {run.initialisation!r}",
            where=config.where(("model", "initialisation")),
        )
    schema = configs.signature_schema(entry.build, name, leave_out=("outputs",))
    _check_block(schema, run.hyperparameters, config, "model", (*schema.model_fields, *MODEL_KEYS))


def _check_objective(run: RunConfig, config: Config) -> None:
    from hepml import objectives

    name = run.objective_name
    if name not in objectives.OBJECTIVES:
        at = ("objective", "name") if isinstance(run.objective, dict) else ("objective",)
        raise ConfigError(
            f"unknown objective '{name}'",
            where=config.where(at),
            mend=did_you_mean(name, objectives.OBJECTIVES),
        )
    kind = objectives.OBJECTIVES[name]
    if (kind.task == "regression") != (run.data.target is not None):
        if run.data.target is None:
            raise ConfigError(
                f"objective {name} is a regression and the data names no target",
                where=config.where(("objective",)),
                mend="give data.target, a jet column",
            )
        raise ConfigError(
            f"objective {name} is a classification, and data.target asks for a regression",
            where=config.where(("objective",)),
            mend="use objective: gaussian, or leave data.target out",
        )
    schema = configs.signature_schema(kind, name, leave_out=("classes", "targets"))
    _check_block(schema, run.objective_arguments, config, "objective", (*schema.model_fields, "name"))


def _check_block(
    schema: type[BaseModel], values: dict[str, Any], config: Config, block: str, known: Iterable[str]
) -> None:
    for key in values:
        if key not in schema.model_fields:
            if key in ("outputs", "classes", "targets"):
                mend = "it follows from the data: leave it out"
            else:
                mend = did_you_mean(key, known)
            raise ConfigError(f"unknown key '{key}'", where=config.where((block, key)), mend=mend)
    part = Config({block: values}, config.origins, config.file)
    configs.validate(schema, part, (block,))


def _with_paths(run: RunConfig, config: Config) -> RunConfig:
    """The run with absolute paths, so that its saved config means the same jets from anywhere."""

    def absolute(source: Any) -> Any:
        if isinstance(source, str):
            return paths.resolve_path(source, config.file)
        if isinstance(source, list):
            return [absolute(word) for word in source]
        if isinstance(source, dict):
            return {name: absolute(below) for name, below in source.items()}
        return source

    weights = partial(published.resolve, config_file=config.file)
    sources = ("train", "val", "test", "further_tests")
    data = run.data.model_copy(update={key: absolute(getattr(run.data, key)) for key in sources})
    if data.samples:  # a sample without `files` is named by them
        placed = {
            name if (about or {}).get("files") is not None else absolute(name): {
                **(about or {}),
                **({"files": absolute(about["files"])} if (about or {}).get("files") is not None else {}),
            }
            for name, about in data.samples.items()
        }
        data = data.model_copy(update={"samples": placed})
    own = {key: how for key, how in data.obtain.items() if "command line" not in config.where(("data", key))}
    data = data.model_copy(update={"obtain": own})
    if isinstance(data.layout, str) and data.layout.endswith((".yaml", ".yml")):
        data = data.model_copy(update={"layout": absolute(data.layout)})
    model = run.model
    if isinstance(model, dict) and model.get("pretrained"):
        model = {**model, "pretrained": weights(model["pretrained"])}
    training = run.training
    if training.init_from:
        training = training.model_copy(update={"init_from": weights(training.init_from)})
    distill = None if run.distill is None else run.distill.with_paths(absolute, weights)
    changed = {"data": data, "model": model, "training": training, "distill": distill}
    return run.model_copy(update=changed)
