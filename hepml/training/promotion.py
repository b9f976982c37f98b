"""A run's tagger into MLflow's registry, with its ONNX file where it has one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hepml.errors import ModelError
from hepml.tracking import registry
from hepml.tracking.registry import Promoted
from hepml.tracking.runs import Run
from hepml.training.checkpoints import load_model


def promote(
    run: Run, name: str, alias: str | None = None, *, uri: str | None = None, onnx: bool = True
) -> Promoted:
    """Registers the tagger of a run as the next version of a name.

    Args:
        run: see `hepml.open_run`.
        name: of the registered model.
        alias: moved to the new version.
        uri: the MLflow store; that of the run where left out.
        onnx: whether to keep the exported tagger as an artifact of the run, where it can be exported.

    Raises:
        TrackingError: see `hepml.tracking.registry.promote`.
        FileError: the run has no checkpoint.
    """
    if not onnx:
        return registry.promote(run, name, alias, uri=uri)
    from hepml.inference.exporting import export
    from hepml.inference.exporting.metadata import of_run

    with tempfile.TemporaryDirectory(prefix="hepml-promote-") as scratch:
        path = Path(scratch) / f"{name}.onnx"
        try:
            export(load_model(run.path), path, metadata=of_run(run.path))
        except ModelError as problem:  # the registered model itself needs no graph
            return registry.promote(run, name, alias, onnx=f"none: {problem.what}", uri=uri)
        return registry.promote(run, name, alias, onnx=path, uri=uri)
