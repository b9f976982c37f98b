"""What a run trains, from its config: the model, its objective, the weights it starts from, and the
identity that goes into every checkpoint."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

import hepml
from hepml import models, objectives
from hepml.config import plain
from hepml.data import features as feature_table
from hepml.data import standardising
from hepml.data.inputs import Inputs
from hepml.data.layouts.event_layout import with_jets
from hepml.data.reading.layouts import load_mapping
from hepml.errors import ConfigError, DataError
from hepml.evaluation.multiclass import background_class, class_indices
from hepml.models import catalogue
from hepml.models.identity import identity_of, inputs_of
from hepml.models.standardised import standardise, standards_of
from hepml.objectives import Objective
from hepml.redaction import redacted
from hepml.training.checkpoints import initialise_from, load_model
from hepml.training.decorrelation import Decorrelation
from hepml.training.jets import RunJets, layout_of
from hepml.training.module import freeze
from hepml.training.pretraining import MaskedParticles, refuse_extras
from hepml.training.progress import Progress
from hepml.training.run_config import RunConfig
from hepml.training.side_tasks import SideTasks, build_tasks, probe_jets, with_columns


@dataclass(frozen=True)
class Built:
    """A model about to be trained.

    Args:
        model: with the given weights, and frozen where the config asks for it.
        fresh: names of tensors that given weights did not bring; None where none were given.
    """

    model: nn.Module
    fresh: frozenset[str] | None = None


def given_model(config: RunConfig) -> nn.Module | None:
    """The model whose weights this run starts from."""
    return load_model(config.pretrained) if config.pretrained else None


def create_model(config: RunConfig, given: nn.Module | None, outputs: int) -> nn.Module:
    """The model that the config names, with fresh weights."""
    name, hyperparameters = config.model_name, config.hyperparameters
    identity = identity_of(given)
    if given is not None and name in (None, identity.name):
        # the weights say how they were trained; what the config says goes before
        name = identity.name
        hyperparameters = {**identity.hyperparameters, **hyperparameters}
        hyperparameters.pop("outputs", None)
    assert name is not None
    if given is None:
        hyperparameters = {**_of_layout(config, name), **hyperparameters}
    return models.create(name, outputs=outputs, initialisation=config.initialisation, **hyperparameters)


def _of_layout(config: RunConfig, name: str) -> dict[str, Any]:
    """Hyperparameters that the layout names for a model whose config does not: its features, and how many
    constituents."""
    layout = layout_of(config.data)
    if layout is None:
        return {}
    arguments = {
        "features": layout.features,
        "max_constituents": layout.max_constituents,
        "collections": dict(layout.collection_features),
    }
    takes = inspect.signature(catalogue.entry(name).build).parameters
    return {key: value for key, value in arguments.items() if value and key in takes}


def model_inputs(config: RunConfig, given: nn.Module | None) -> Inputs:
    """What the model, and beside it side tasks and penalties, ask of the data; the number of outputs, which
    follows from the data, has no part in it."""
    inputs: Any = create_model(config, given, outputs=2).inputs
    assert isinstance(inputs, Inputs)
    if config.pretraining is not None:
        refuse_extras(inputs)
    if config.decorrelate is not None:
        inputs = with_columns(inputs, [("jet", config.decorrelate.column)])
    targets = [(task.of, task.target) for task in config.auxiliary.values()]
    return replace(
        with_columns(inputs, targets),
        targets=tuple(name for of, name in targets if of == "jet" and name not in inputs.jet_features),
    )


def build_side(config: RunConfig, model: nn.Module, objective: Objective, jets: RunJets) -> SideTasks | None:
    """The heads of the config's side tasks on a model, None where there are none.

    Raises:
        ConfigError: the model has no place for a head.
        DataError: a target that cannot be learnt.
    """
    probe = jets.train.batch(probe_jets(np.asarray(jets.train.counts)))
    if config.pretraining is not None:
        return MaskedParticles(model, probe, objective.outputs, config.pretraining.masked)
    tasks = build_tasks(config.auxiliary, jets.train)
    return SideTasks(model, tasks, probe, objective.outputs) if tasks else None


def build_decorrelation(config: RunConfig, jets: RunJets) -> Decorrelation | None:
    """The penalty that the config asks for."""
    if config.decorrelate is None:
        return None
    named = config.evaluation.background
    classes = list(jets.classes)
    background = [background_class(classes)] if named is None else class_indices(named, classes)
    return Decorrelation(config.decorrelate.column, config.decorrelate.strength, tuple(background))


def build_objective(config: RunConfig, jets: RunJets) -> Objective:
    """The objective that the config names, for the classes or targets of these jets.

    Raises:
        DataError: targets that are not finite.
    """
    arguments = dict(config.objective_arguments)
    name = config.objective_name
    if objectives.OBJECTIVES[name].task == "classification":
        return objectives.objective(name, classes=len(jets.classes) or _outputs_of(config), **arguments)
    targets = np.asarray(jets.train.labels, dtype=np.float64).reshape(len(jets.train), -1)
    if not np.isfinite(targets).all():
        raise DataError(
            f"target '{config.data.target}' has NaN or infinite values",
            mend="drop those jets with data.selection",
        )
    # in units of its own spread the target suits any learning rate
    arguments.setdefault("centre", float(targets.mean()))
    arguments.setdefault("width", float(targets.std()) or 1.0)
    return objectives.objective(name, targets=targets.shape[1], **arguments)


def _outputs_of(config: RunConfig) -> int:
    """Outputs of a pretraining, which has no labels: one for each class that the config names, of which there
    are at least two."""
    return max(2, len(config.data.classes or ()))


def build_model(
    config: RunConfig, given: nn.Module | None, objective: Objective, progress: Progress, jets: RunJets
) -> Built:
    """The model to train: created, started from given weights and frozen as the config says, its columns
    without a published standardisation standardised by the training jets.

    Raises:
        ConfigError: nothing is left to train; given weights of other inputs.
        ModelError: weights of another architecture.
    """
    model = create_model(config, given, objective.outputs)
    fresh = None
    if given is not None:
        fresh = _start(model, config, given, objective, jets.classes)
        listed = ", ".join(sorted({name.rpartition(".")[0] or name for name in fresh})) or "none"
        progress.message(f"weights from {config.pretrained}; new layers: {listed}")
    if config.training.freeze:
        frozen = freeze(model, config.training.freeze)
        left = catalogue.count_parameters(model)
        progress.message(f"{frozen} tensors frozen, {left:,} parameters left to train")
        if not left:
            raise ConfigError(
                "everything is frozen", where="training.freeze", mend="leave some layers to train"
            )
    _standardise(model, config, given, jets, progress)
    return Built(model, fresh)


def _start(
    model: nn.Module,
    config: RunConfig,
    given: nn.Module,
    objective: Objective,
    classes: tuple[str, ...],
) -> frozenset[str]:
    """Gives a model the weights that the config names; what keeps its fresh values. The last layer does where
    the outputs of the weights are the same classes in other places.

    Raises:
        ConfigError: all weights fit, but to inputs that mean something else.
    """
    assert config.pretrained is not None
    named = identity_of(given).bare_classes
    ours = tuple(str(name).removeprefix("label_") for name in classes)
    last = _shaped_by_outputs(config, given, objective)
    moved = any(a != b and (a in ours or b in named) for a, b in zip(named, ours, strict=False))
    fresh = frozenset(initialise_from(model, config.pretrained, last if moved else ()))
    before, now = _meanings(inputs_of(given)), _meanings(inputs_of(model))
    if fresh <= last and before != now:
        lost, new = ([n for n in a if n not in b] for a, b in ((before, now), (now, before)))
        what = (
            f"read {', '.join(lost)}, the model {', '.join(new)}" if new else "read inputs in another order"
        )
        raise ConfigError(
            f"all layers fit, but the given weights {what}",
            where=config.pretrained,
            mend="leave out what changes them (`features`, say), or train without given weights",
        )
    return fresh


def _meanings(inputs: Inputs) -> list[str]:
    """The inputs that a model reads by their places, in order."""
    own = [*feature_table.resolve(inputs.features), *inputs.jet_features, *inputs.extras]
    return [*own, *(f"{name}.{feature}" for name, features in inputs.collections for feature in features)]


def _shaped_by_outputs(config: RunConfig, given: nn.Module, objective: Objective) -> frozenset[str]:
    """Names of the tensors whose shape is that of the outputs."""
    one, other = (
        create_model(config, given, outputs).state_dict()
        for outputs in (objective.outputs, objective.outputs + 1)
    )
    return frozenset(name for name in one if name not in other or one[name].shape != other[name].shape)


def _standardise(
    model: nn.Module, config: RunConfig, given: nn.Module | None, jets: RunJets, progress: Progress
) -> None:
    """Gives a model the standardisation of its columns: given weights keep the one they were trained with."""
    inputs: Any = model.inputs
    if given is not None:
        if standards := standards_of(given):
            standardise(model, standards)
        return
    if not standardising.settled(config.data.layout, config.data.standardise):
        return
    names = standardising.wanted(inputs, with_jets(config.data.layout, config.data.jets))
    if not names:
        return
    measured = standardising.measure(jets.train, names)
    standardise(model, {p: {n: s.as_dict() for n, s in of.items()} for p, of in measured.items()})
    progress.message(standardising.summary(measured, len(jets.train)))


def checkpoint_identity(
    config: RunConfig, model: nn.Module, objective: Objective, jets: RunJets
) -> dict[str, Any]:
    """What `load_model` needs to build the model again, in plain values."""
    head = dict(config.objective_arguments)
    for key in ("classes", "targets", "centre", "width"):
        if hasattr(objective, key):
            head[key] = getattr(objective, key)
    layout = with_jets(config.data.layout, config.data.jets or jets.collection or None)
    if isinstance(layout, str) and layout.endswith((".yaml", ".yml")):
        layout = load_mapping(layout)  # the file may be gone when the model is used
    identity = identity_of(model)
    return {
        "version": hepml.__version__,
        "name": identity.name,
        "hyperparameters": plain(identity.hyperparameters),
        "objective": {"name": objective.name, "arguments": head},
        "classes": list(jets.classes) if objective.task == "classification" else [],
        "target": config.data.target,
        "standards": plain(identity.standards),
        "layout": plain(layout) if isinstance(layout, dict) else layout,
        "config": redacted(config.model_dump(mode="json")),
    }
