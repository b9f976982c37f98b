"""The schema of a run: where jets come from, which model, which objective, how it is trained and where it is
recorded.

A run is described once, in YAML; `RunConfig` is that description after it has been checked. The `model` block
is checked against the signature of the named model's constructor, the `objective` block against that of the
objective, so neither is described here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field

from hepml import config as configs
from hepml import paths
from hepml.config import Config, Schema
from hepml.errors import ConfigError, ModelError, did_you_mean
from hepml.models import catalogue
from hepml.pretrained import published
from hepml.training.config_trust import check_names, import_plugins
from hepml.training.recipe_config import (
    AuxiliaryTask,
    DecorrelateConfig,
    DistillConfig,
    PretrainingConfig,
)
from hepml.training.report_config import EvaluationConfig, Positive, Share, TrackingConfig
from hepml.training.training_config import TrainingConfig

KINDS = ("model", "objective")  # blocks whose `name` says what they are

Source = str | list[str]
Count = Annotated[int, Field(ge=1)]


class DataConfig(Schema):
    """Where jets come from.

    Args:
        train: a path, a glob, a folder, or a list of those; ROOT (`file.root:tree`) or npz.
        val: the same, or the share of the training jets to hold out; without it 10 % are held out.
        test: the same, or a share, or a mapping from names to sources; the first is `test` in the summary.
        further_tests: more test sets by name, such as jets that not everyone has; one whose files are absent
            is left out, and said so.
        layout: name of a layout or an inline mapping; recognised from the branches where left out.
        jets: the jet collection of event files (`FatJet`); the widest with constituents where left out.
        samples: training files by sample, with class and cross-section, in place of `train`
            (docs/data-layouts.md).
        reweight: jet columns with edges, and what their spectra are made (`flat`, or a class) in the training
            jets.
        class_weights: `equal` gives every class the same sum of weights in the loss, {class: share} any
            other; as the jets come where left out.
        classes: label names in the order of the model's outputs; all that the layout has where left out.
        target: a jet column to regress instead of classifying.
        weights: column of event weights, `true` for the layout's own, `false` for none; the layout's own
            where left out.
        selection: an expression on jet columns that a jet must fulfil.
        max_jets: use only so many jets of each source.
        train_share: train on this share of the training jets only; validation and test jets stay whole
            (sample efficiency).
        folds: cut the training jets into so many parts of the same size (jets of one event stay together);
            `fold` is then not trained on and is a test set of its own, called `fold`.
        fold: which part that is, from 0 (`hepml benchmark --folds` takes each in turn).
        cache: folder for packed, memory-mapped copies of the jets; in memory where left out.
        stream: leave the jets in their files and read them again each epoch, in bounded memory.
        workers: processes that read ahead of the training with `stream`; one where a core is free.
        missing_columns: what to do with a column that some files of a list lack: `refuse`, `fill` or `drop`;
            what is needed is refused where left out.
        standardise: `auto` gives input columns without a published standardisation one of the training jets
            (median, 16 to 84 % range, clipped), `none` takes them as they stand; auto where left out and the
            layout does not say otherwise.
        split_seed: seed of the split where `val` or `test` are shares, of `train_share` and of `folds`.
        obtain: {`train`, `val` or the name of a test set: how to get its jets}, said where they are absent.
    """

    train: Source = Field(default_factory=list)
    val: Source | Share | None = None
    test: Source | Share | dict[str, Source | Share] | None = None
    further_tests: dict[str, Source] = Field(default_factory=dict)
    layout: str | dict[str, Any] | None = None
    jets: str | None = None
    samples: dict[str, Any] | None = None
    reweight: dict[str, Any] | None = None
    classes: list[str] | dict[str, str | list[str]] | None = None
    class_weights: Literal["equal"] | dict[str, Positive] | None = None
    target: str | None = None
    weights: bool | str | None = None
    selection: str | None = None
    max_jets: Count | None = None
    train_share: Share | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0
    cache: str | None = None
    stream: bool = False
    workers: Annotated[int, Field(ge=0)] | None = None
    missing_columns: Literal["refuse", "fill", "drop"] | None = None
    standardise: Literal["auto", "none"] | bool | None = None
    split_seed: int = 0
    obtain: dict[str, str] = Field(default_factory=dict)

    def tests(self) -> dict[str, Source | float]:
        """Test sources by name, with those further ones whose files are here; a single one is called
        `test`."""
        named = (
            dict(self.test)
            if isinstance(self.test, dict)
            else {}
            if self.test is None
            else {"test": self.test}
        )
        return {
            **named,
            **{name: source for name, source in self.further_tests.items() if paths.is_there(source)},
        }

    def absent(self) -> dict[str, Source]:
        """Further test sets of which no file is here."""
        return {name: source for name, source in self.further_tests.items() if not paths.is_there(source)}


# keys of the model block that are no hyperparameters of the model
MODEL_KEYS = ("name", "pretrained", "initialisation")


class RunConfig(Schema):
    """A run.

    Args:
        data: see `DataConfig`.
        model: `name` and that model's hyperparameters; `pretrained: PATH` starts from those weights and that
            architecture. With the `name` of the weights' own model, hyperparameters of the config go before
            those of the weights. `initialisation: published` starts as the paper does, also where a training
            begins far off with it.
        objective: bernoulli, categorical or gaussian, or `{name: …, …}`; categorical for classes and gaussian
            for a target where left out.
        training: see `TrainingConfig`.
        distill: learn from a teacher's scores; see `hepml.training.recipe_config`.
        decorrelate: keep the background's score independent of the jet mass.
        auxiliary: further heads by name, each with target, objective and weight.
        pretraining: learn from hidden constituents instead of labels.
        evaluation: see `EvaluationConfig`.
        tracking: see `TrackingConfig`.
        output: run folder; `runs/NAME-TIME` where left out.
        plugins: Python files or modules that register models of your own; imported before the config is
            checked.

    Example:
        >>> hepml.training.load_run_config('quickstart').model_name
        'particlenet_lite'
    """

    data: DataConfig
    model: dict[str, Any] | str
    objective: dict[str, Any] | str | None = None
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig | None = None
    decorrelate: DecorrelateConfig | None = None
    auxiliary: dict[str, AuxiliaryTask] = Field(default_factory=dict)
    pretraining: PretrainingConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    plugins: list[str] = Field(default_factory=list)
    name: str | None = None

    @property
    def model_name(self) -> str | None:
        return self.model if isinstance(self.model, str) else self.model.get("name")

    @property
    def pretrained(self) -> str | None:
        """Weights to start from, from either of the two keys that may name them."""
        named = None if isinstance(self.model, str) else self.model.get("pretrained")
        return named or self.training.init_from

    @property
    def initialisation(self) -> Any:
        """`published`, or None for ours."""
        return None if isinstance(self.model, str) else self.model.get("initialisation")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The model block without the keys that every model has."""
        if isinstance(self.model, str):
            return {}
        return {key: value for key, value in self.model.items() if key not in MODEL_KEYS}

    @property
    def objective_name(self) -> str:
        if self.objective is None:
            return "gaussian" if self.data.target else "categorical"
        return self.objective if isinstance(self.objective, str) else str(self.objective["name"])

    @property
    def objective_arguments(self) -> dict[str, Any]:
        return (
            {k: v for k, v in self.objective.items() if k != "name"}
            if isinstance(self.objective, dict)
            else {}
        )


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

    Example:
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
        others = {"distill": run.distill, "decorrelate": run.decorrelate, "auxiliary": run.auxiliary or None}
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

    if isinstance(run.objective, dict) and "name" not in run.objective:
        raise ConfigError(
            "the objective has no name", where=config.where(("objective",)), mend="objective: {name: …}"
        )
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
