"""MLflow's model registry: a run's tagger under a name and an alias, and back from there by
`models:/NAME@ALIAS`.

A version of a registered model is the model that the run has in MLflow already, which builds itself again and
answers to `mlflow models serve`; its ONNX file is a further artifact of the run, with a signature of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from hepml import objectives
from hepml.errors import TrackingError
from hepml.models.identity import identify
from hepml.tracking.runs import Run, open_directory
from hepml.tracking.store import (
    authenticated,
    open_store,
    prepare_environment,
    public_uri,
    reason,
    tracking_uri,
)
from hepml.tracking.syncing import sync

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

SCHEME = "models:/"
_ONNX = "onnx"  # folder of the run's artifacts


@dataclass(frozen=True)
class Promoted:
    """A new version of a registered model.

    Args:
        name, version, alias: in the registry.
        run_id: where it comes from.
        store: the MLflow store.
        onnx: address of the ONNX artifact, or why there is none.
    """

    name: str
    version: str
    alias: str | None
    run_id: str
    store: str
    onnx: str

    @property
    def address(self) -> str:
        """What `hepml predict`, `hepml export` and MLflow take."""
        return f"{SCHEME}{self.name}@{self.alias}" if self.alias else f"{SCHEME}{self.name}/{self.version}"


def promote(
    run: Run,
    name: str,
    alias: str | None = None,
    *,
    onnx: Path | str | None = None,
    uri: str | None = None,
) -> Promoted:
    """Registers the model of a run as the next version of a name.

    Args:
        run: finished or not; what MLflow has not got of it is sent first.
        name: of the registered model, made where there is none.
        alias: moved to the new version.
        onnx: the exported tagger, kept as an artifact of the run; or a sentence that says why there is none.
        uri: the store; that of the run where left out.

    Raises:
        TrackingError: the run has no model or cannot be sent; MLflow does not take the name.
    """
    if run.uri is None and uri is None:
        raise TrackingError(
            "this run is not in MLflow: its tracking was off",
            where=str(run.path),
            mend=f"hepml runs sync {run.path} --uri sqlite:///mlflow.db, or give --uri",
        )
    if run.waiting != 0 or run.run_id is None or uri is not None:
        [state] = sync(run.path, uri, force=True)
        if state.problem:
            raise TrackingError(
                f"the run cannot be sent to MLflow: {state.problem}",
                where=str(run.path),
                mend="mend the store",
            )
        run = open_directory(run.path)
    assert run.run_id is not None
    store = authenticated(tracking_uri(uri or run.uri))
    with _refusals(store):
        client = open_store(store)
        if not any(artifact.path == "model" for artifact in client.list_artifacts(run.run_id)):
            raise TrackingError(
                "MLflow has no model of this run",
                where=str(run.path),
                mend="a run reports its model when it ends: train it to the end (hepml train --resume)",
            )
        onnx_uri = _send_onnx(client, run.run_id, Path(onnx)) if isinstance(onnx, Path) else str(onnx or "")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        source = f"{client.get_run(run.run_id).info.artifact_uri}/model"
        version = client.create_model_version(name, source=source, run_id=run.run_id)
        if alias:
            client.set_registered_model_alias(name, alias, str(version.version))
    return Promoted(name, str(version.version), alias, run.run_id, public_uri(store), onnx_uri)


def fetch(address: str, folder: Path, uri: str | None = None) -> Path:
    """Downloads a registered model (`models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/NAME/latest`).

    Returns:
        the folder of what `hepml.tracking.packaging.save` wrote.

    Raises:
        TrackingError: no such model, version or alias; names those there are.
    """
    store = authenticated(tracking_uri(uri))
    prepare_environment()
    with _refusals(store):
        import mlflow.artifacts

        client = open_store(store)
        name, version = _version(client, address, store)
        place = client.get_model_version_download_uri(name, version)
        downloaded = Path(
            mlflow.artifacts.download_artifacts(place, dst_path=str(folder), tracking_uri=store)
        )
    description = next(downloaded.rglob("model.json"), None)
    if description is None:
        raise TrackingError(
            "this registered model is not one of hepml's",
            where=address,
            mend="register a run with `hepml runs promote`",
        )
    return description.parent


def load(address: str, uri: str | None = None) -> nn.Module:
    """A registered model, in evaluation mode, with what it was trained for.

    Raises:
        TrackingError: see `fetch`.
    """
    from hepml.tracking.packaging import _arguments
    from hepml.tracking.pyfunc import PackagedModel

    with tempfile.TemporaryDirectory(prefix="hepml-registered-") as scratch:
        packaged = PackagedModel(fetch(address, Path(scratch), uri))
    description, model = packaged.description, packaged.module
    head = description["objective"]
    objective = objectives.objective(head["name"], **_arguments(head, int(description["outputs"])))
    identify(
        model,
        objective=objective,
        classes=tuple(description["classes"]),
        target=description.get("target"),
        layout=description.get("layout"),
    )
    return model.eval()


def _version(client: MlflowClient, address: str, store: str) -> tuple[str, str]:
    word = address.removeprefix(SCHEME).strip("/")
    name, at, alias = word.partition("@")
    if not at:
        name, _, version = word.partition("/")
    versions = client.search_model_versions(f"name = '{name}'")
    if not versions:
        names = ", ".join(m.name for m in client.search_registered_models()) or "none"
        raise TrackingError(
            f"no registered model '{name}'",
            where=public_uri(store),
            mend=f"registered are: {names}; hepml runs promote RUN --name {name} makes one",
        )
    if at:
        aliases = dict(client.get_registered_model(name).aliases)
        if alias not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise TrackingError(
                f"'{name}' has no alias '{alias}'",
                where=public_uri(store),
                mend=f"aliases: {known}; hepml runs promote RUN --name {name} --alias {alias}",
            )
        return name, str(aliases[alias])
    numbers = sorted(int(v.version) for v in versions)
    if version in ("", "latest"):
        return name, str(numbers[-1])
    if version not in map(str, numbers):
        raise TrackingError(
            f"'{name}' has no version '{version}'",
            where=public_uri(store),
            mend=f"versions: {', '.join(map(str, numbers))}",
        )
    return name, version


def _send_onnx(client: MlflowClient, run_id: str, path: Path) -> str:
    """The ONNX file as an MLflow model of its own among the run's artifacts; its address."""
    import mlflow.onnx
    import onnx

    network = onnx.load(path)
    metadata = {entry.key: entry.value for entry in network.metadata_props}
    with tempfile.TemporaryDirectory(prefix="hepml-onnx-") as scratch:
        folder = Path(scratch) / _ONNX
        mlflow.onnx.save_model(
            network,
            str(folder),
            signature=signature_of(network),
            pip_requirements=["onnx", "onnxruntime", "mlflow"],
            metadata={"hepml": {k: metadata[k] for k in ("hepml.model", "hepml.classes") if k in metadata}},
        )
        client.log_artifacts(run_id, str(folder), _ONNX)
    return f"runs:/{run_id}/{_ONNX}"


def signature_of(network: Any) -> ModelSignature:
    """Inputs and outputs of an ONNX file by name, as MLflow knows them."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    def specs(values: Any) -> Any:
        tensors: list[Any] = []
        for value in values:
            tensor = value.type.tensor_type
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
            tensors.append(TensorSpec(tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name))
        return Schema(tensors)

    return ModelSignature(inputs=specs(network.graph.input), outputs=specs(network.graph.output))


@contextmanager
def _refusals(store: str) -> Iterator[None]:
    """MLflow's own errors as one line."""
    prepare_environment()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as problem:
        raise TrackingError(
            reason(problem), where=public_uri(store), mend="see docs/tracking.md"
        ) from problem


def describes_registered(word: Any) -> bool:
    """Whether this names a registered model rather than a path."""
    return isinstance(word, str) and word.startswith(SCHEME)
