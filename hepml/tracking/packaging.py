"""A model as a folder that says by itself how to build it, and that folder as an MLflow model.

`save` needs no MLflow and is done when the run reports its model; `package` wraps the folder for MLflow, in
the background or when a run is replayed. The MLflow model takes packed arrays (`four_momenta` [ΣN, 4],
`offsets` [B + 1]) and returns what a user reads: probabilities.
"""

from __future__ import annotations

import inspect
import json
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

import hepml
from hepml import objectives
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import FileError, TrackingError
from hepml.models.identity import identity_of
from hepml.nn.modes import evaluation_mode

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

DESCRIPTION, WEIGHTS, EXAMPLE = "model.json", "weights.pt", "example.npz"
LOADER = "hepml.tracking.pyfunc"
EXAMPLE_JETS = 4


def save(
    folder: Path,
    module: nn.Module,
    example_batch: JetBatch,
    *,
    objective: Any = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Writes `model.json`, `weights.pt` and `example.npz` (a few jets and their scores) into `folder`.

    Raises:
        TrackingError: the module was not made by `hepml.models.create`.
        FileError: the folder cannot be written.
    """
    identity = identity_of(module)
    if identity.name is None:
        raise TrackingError(
            f"{type(module).__name__} does not say how it was made",
            mend="make models with hepml.models.create",
        )
    inputs = cast(Inputs, module.inputs)
    head = objective_spec(objective if objective is not None else identity.objective)
    names = classes if classes is not None else identity.classes
    description: dict[str, Any] = {
        "format": 1,
        "hepml": hepml.__version__,
        "name": identity.name,
        "hyperparameters": dict(identity.hyperparameters),
        "objective": head,
        "classes": list(names or ()),
        "features": list(inputs.features) if _given(inputs.features) else [],
        "jet_features": [n for n in inputs.jet_features if not _derived(n)],
        "max_constituents": inputs.max_constituents,
        "standards": identity.standards,
        "target": identity.target,
        "layout": identity.layout,
    }
    jets = example_batch.take(torch.arange(min(EXAMPLE_JETS, len(example_batch))))
    arrays = {"four_momenta": jets.four_momenta, "offsets": jets.offsets}
    if description["features"]:
        arrays["features"] = jets.select(inputs.features)
    if description["jet_features"]:
        arrays["jet_features"] = jets.select_jets(description["jet_features"])
    scores = _scores(module, jets, head)
    description["outputs"] = int(scores.shape[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, default=str) + "\n")
        torch.save({k: v.detach().cpu() for k, v in module.state_dict().items()}, folder / WEIGHTS)
        _write_example(folder / EXAMPLE, {**arrays, "scores": scores})
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise FileError(
            f"the model cannot be written: {error}", where=str(folder), mend="make room on the disk"
        ) from error


def objective_spec(objective: Any) -> dict[str, Any]:
    """An objective (an instance, its name, a mapping with `name`, or None for categorical) as {name,
    arguments}."""
    if objective is None:
        return {"name": "categorical", "arguments": {}}
    if isinstance(objective, str):
        return {"name": objective, "arguments": {}}
    if isinstance(objective, Mapping):
        arguments = objective.get("arguments") or {
            k: v for k, v in objective.items() if k not in ("name", "arguments")
        }
        return {"name": objective["name"], "arguments": dict(arguments)}
    parameters = inspect.signature(type(objective)).parameters
    return {
        "name": objective.name,
        "arguments": {p: getattr(objective, p) for p in parameters if hasattr(objective, p)},
    }


def package(data: Path, folder: Path, run_id: str | None = None, model_id: str | None = None) -> Path:
    """Makes the MLflow model `folder` around what `save` wrote to `data`; returns it."""
    # MLflow's own type hints, of which it speaks when it is imported
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType.*")
    import mlflow.pyfunc
    from mlflow.models import Model

    warnings.filterwarnings(
        "ignore", message=".*input example was not provided.*"
    )  # the folder holds example.npz
    description = json.loads((data / DESCRIPTION).read_text())
    copy = folder.parent / "hepml-model"
    shutil.copytree(data, copy)
    # A checkout that was not installed matters to whoever loads the model elsewhere, not to the run that
    # saves it.
    versions = logging.getLogger("mlflow.utils.requirements_utils")
    versions.disabled = True
    try:
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(copy),
            signature=_signature(description),
            # Named here because MLflow would otherwise load the model in a fresh process to find them out,
            # which takes a minute.
            pip_requirements=[
                f"hepml-jets=={description['hepml']}",
                f"torch=={torch.__version__.partition('+')[0]}",
                "mlflow",
            ],
            mlflow_model=Model(run_id=run_id, model_id=model_id, artifact_path=folder.name),
            metadata={"hepml": {k: description[k] for k in ("name", "objective", "classes")}},
        )
    finally:
        versions.disabled = False
    return folder


def register(client: MlflowClient, experiment: str, run_id: str, name: str) -> str | None:
    """The logged model of that name of the run, made where there is none; None on a server that does not know
    logged models."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    try:
        for logged in client.search_logged_models([experiment], filter_string=f"name = '{name}'"):
            if logged.source_run_id == run_id:
                return str(logged.model_id)
        logged = client.create_logged_model(
            experiment, name=name, source_run_id=run_id, model_type="jet tagger"
        )
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except (MlflowException, AttributeError) as error:
        if isinstance(error, MlflowException) and error.error_code not in (
            "ENDPOINT_NOT_FOUND",
            "NOT_IMPLEMENTED",
        ):
            raise
        return None
    return str(logged.model_id)


def _signature(description: dict[str, Any]) -> ModelSignature:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs: list[Any] = [
        TensorSpec(np.dtype("float32"), (-1, 4), "four_momenta"),
        TensorSpec(np.dtype("int64"), (-1,), "offsets"),
    ]
    columns = {key: len(description[key]) for key in ("features", "jet_features") if description[key]}
    inputs += [TensorSpec(np.dtype("float32"), (-1, width), key) for key, width in columns.items()]
    outputs = [TensorSpec(np.dtype("float32"), (-1, description["outputs"]))]
    return ModelSignature(inputs=Schema([*inputs]), outputs=Schema([*outputs]))


def _given(names: Sequence[str]) -> bool:
    """Whether some of these features do not follow from four-momenta, so that they must be given."""
    return any(not set(feature_table.lookup(n).needs) <= set(feature_table.MOMENTUM_COLUMNS) for n in names)


def _derived(name: str) -> bool:
    from hepml.data.jet_columns import DERIVED

    return name in DERIVED


def _scores(module: nn.Module, jets: JetBatch, head: dict[str, Any]) -> torch.Tensor:
    first = next(iter(module.parameters()), None)
    with evaluation_mode(module), torch.inference_mode():
        parameters = module(jets if first is None else jets.to(first.device)).float()
        return (
            objectives.objective(head["name"], **_arguments(head, parameters.shape[1]))
            .activation(parameters)
            .cpu()
        )


def _arguments(head: dict[str, Any], outputs: int) -> dict[str, Any]:
    """The objective's arguments; an objective known by name only takes its number of classes or targets from
    the outputs."""
    arguments = dict(head["arguments"])
    if head["name"] == "categorical":
        arguments.setdefault("classes", outputs)
    if head["name"] == "gaussian":
        arguments.setdefault("targets", outputs // 2)
    return arguments


def _write_example(path: Path, arrays: Mapping[str, torch.Tensor]) -> None:
    import numpy as np

    content: dict[str, Any] = {k: v.detach().cpu().numpy() for k, v in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, **content)
