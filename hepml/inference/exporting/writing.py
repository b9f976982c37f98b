"""`export`: a trained tagger to a file of ONNX or of torch's `.pt2`."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepml.errors import ConfigError, ModelError
from hepml.inference.exporting.metadata import describe
from hepml.inference.exporting.operators import OPSET, translations
from hepml.inference.exporting.support import REASONS
from hepml.inference.exporting.tagger import CONSTITUENTS, GIVEN, Form, PaddedTagger, form_of, name_of

FORMATS, FORMS = ("onnx", "pt2"), ("padded",)


def export(
    model: nn.Module,
    output: Path | str,
    *,
    format: str = "onnx",
    form: str = "padded",
    jet_axis: str = CONSTITUENTS,
    metadata: Mapping[str, str] | None = None,
) -> Form:
    """Writes a tagger with its preprocessing into one file, for any number of jets and of constituents.

    Args:
        model: from `hepml.load_model`, `hepml.pretrained.load` or `hepml.models.create`.
        output: the file.
        format: `onnx`, or `pt2` of `torch.export`.
        form: `padded`.
        jet_axis: `constituents`, or `given` for a further input `jet_four_momenta` [jets, 4].
        metadata: further entries of the file.

    Returns:
        the file's inputs and outputs.

    Raises:
        ModelError: the model cannot be exported; names the layer and the operation.
        ConfigError: an unknown format.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format '{format}'", mend=f"one of {', '.join(FORMATS)}")
    if form not in FORMS:
        raise ConfigError(f"unknown form '{form}'", mend=f"one of {', '.join(FORMS)}")
    if jet_axis not in (CONSTITUENTS, GIVEN):
        raise ConfigError(f"unknown jet axis '{jet_axis}'", mend=f"{CONSTITUENTS} or {GIVEN}")
    refuse(model)
    made = form_of(model, jet_axis)
    program = exported_program(model, made)
    entries = {**describe(model, made), **(metadata or {})}
    path = Path(output)
    if format == "pt2":
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.export.save(program, path, extra_files={"hepml.json": json.dumps(entries)})
    else:
        _write_onnx(program, path, made, entries, model)
    return made


def refuse(model: nn.Module) -> None:
    """Refuses a tagger that is known not to export.

    Raises:
        ModelError: why it does not.
    """
    name = name_of(model)
    if name in REASONS:
        raise ModelError(f"{name} cannot be exported: {REASONS[name]}", mend="hepml export --table lists all")


def exported_program(model: nn.Module, form: Form) -> torch.export.ExportedProgram:
    """The graph of a padded tagger, with dynamic jets and constituents.

    Raises:
        ModelError: an operation of the model needs the data's values where a graph has none.
    """
    tagger = PaddedTagger(copy.deepcopy(model).cpu().eval().requires_grad_(False), form)
    example = example_inputs(form)
    jets, constituents = torch.export.Dim("jets"), torch.export.Dim("constituents")
    shapes = {
        name: {0: jets, 1: constituents} if name in ("four_momenta", "mask", "columns") else {0: jets}
        for name in example
    }
    try:
        with _quiet():
            return torch.export.export(
                tagger,
                (),
                example,
                dynamic_shapes=shapes,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as problem:
        raise ModelError(*_reason(problem, model)) from problem


def example_inputs(form: Form, jets: int = 3, constituents: int = 5) -> dict[str, Tensor]:
    """Some made-up jets in this form."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for name, size in form.inputs.items():
        before = (jets,) if name.startswith("jet_") else (jets, constituents)
        found[name] = torch.rand(*before, *size, generator=generator)
    for name in ("four_momenta", "jet_four_momenta"):
        if name in found:
            p = found[name] * 20
            found[name] = torch.cat((p[..., 1:].norm(dim=-1, keepdim=True), p[..., 1:]), dim=-1)
    found["mask"] = (
        torch.arange(constituents) < torch.arange(constituents - jets + 1, constituents + 1)[:, None]
    )
    return found


def _write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    form: Form,
    entries: Mapping[str, str],
    model: nn.Module,
) -> None:
    import onnx

    try:
        with _quiet():
            written = torch.onnx.export(
                program,
                (),
                kwargs=example_inputs(form),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(form.inputs),
                output_names=list(form.outputs),
                custom_translation_table=translations(),
                external_data=False,
            )
            assert written is not None
            proto = written.model_proto
    except Exception as problem:
        raise ModelError(*_reason(problem, model)) from problem
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(entries))
    _name_sizes(proto, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)


def _name_sizes(proto: Any, form: Form) -> None:
    """Sizes under the names that users read: `jets` and `constituents`."""
    for value in [*proto.graph.input, *proto.graph.output]:
        sizes = value.type.tensor_type.shape.dim
        if sizes:
            sizes[0].dim_param = "jets"
        if value.name in ("four_momenta", "mask", "columns"):
            sizes[1].dim_param = "constituents"


def _reason(problem: Exception, model: nn.Module) -> tuple[str]:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (f"{name_of(model)} cannot be exported: {' '.join(lines)[-400:] or type(problem).__name__}",)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
