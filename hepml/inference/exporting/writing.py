"""`export`: a trained tagger to a file of ONNX or of torch's `.pt2`."""

from __future__ import annotations

import copy
import json
import logging
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepml import outputs
from hepml.errors import ConfigError, ModelError
from hepml.inference.exporting.failures import failure
from hepml.inference.exporting.forms import athena_config, network_of, preprocess_of
from hepml.inference.exporting.metadata import describe
from hepml.inference.exporting.operators import OPSET, translations
from hepml.inference.exporting.preprocess import NAME
from hepml.inference.exporting.support import REASONS
from hepml.inference.exporting.tagger import (
    ATHENA,
    CMSSW,
    CONSTITUENTS,
    FORMS,
    GIVEN,
    PADDED,
    Form,
    form_of,
    name_of,
)

# A product or sum of the sizes of the inputs, equal to a number.
_FIXED = re.compile(r"Eq\([s\d*+\s()]*s\d[s\d*+\s()]*, [1-9]\d*\)")
FORMATS, PRECISIONS = ("onnx", "pt2"), ("float32", "float16")


def export(
    model: nn.Module,
    output: Path | str,
    *,
    format: str = "onnx",
    form: str = PADDED,
    jet_axis: str = CONSTITUENTS,
    precision: str = "float32",
    compiled: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Form:
    """Writes a tagger with its preprocessing into one file, for any number of jets and of constituents.

    Args:
        model: from `hepml.load_model`, `hepml.pretrained.load` or `hepml.models.create`.
        output: the file.
        format: `onnx`, or `pt2` of `torch.export`.
        form: `padded`; `cmssw`, standardised columns with a `preprocess.json` beside the file; or `athena`,
            one jet at a time.
        jet_axis: `constituents`, or `given` for a further input `jet_four_momenta` [jets, 4].
        precision: of the weights in the file, `float32` or `float16` (half the size); what is computed with
            them is float32 in either case.
        compiled: of `pt2`, machine code by AOTInductor, which needs a C++ compiler where it is made and a
            processor of that kind where it runs.
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
    if precision not in PRECISIONS:
        raise ConfigError(
            f"unknown precision '{precision}'",
            mend="float32, or float16 for weights of half the size; sums are always float32",
        )
    if precision != "float32" and format == "pt2":
        raise ConfigError("a pt2 file has float32 weights", mend="leave out --precision, or --format onnx")
    if compiled and format != "pt2":
        raise ConfigError("only a pt2 file can be compiled", mend="--format pt2, or leave out --compiled")
    if jet_axis not in (CONSTITUENTS, GIVEN):
        raise ConfigError(f"unknown jet axis '{jet_axis}'", mend=f"{CONSTITUENTS} or {GIVEN}")
    refuse(model)
    exported = form_of(model, jet_axis, form)
    program = exported_program(model, exported)
    entries = {**describe(model, exported), "hepml.precision": precision, **(metadata or {})}
    path = Path(output)
    if form == ATHENA:
        entries["gnn_config"] = json.dumps(athena_config(model, exported))
    try:
        with outputs.writing(path) as temporary:
            if format == "pt2" and (size := fixed_size(program)):
                raise ModelError(
                    f"{name_of(model)} cannot be exported as pt2: one of its layers fixes a size ({size})",
                    mend="write the layer with x.shape[0] in place of len(x), or --format onnx",
                )
            if format == "pt2" and compiled:
                _write_compiled(program, temporary, entries, model)
            elif format == "pt2":
                torch.export.save(program, temporary, extra_files={"hepml.json": json.dumps(entries)})
            else:
                _write_onnx(program, temporary, exported, entries, model, halved=precision == "float16")
            if form == CMSSW:
                preprocess_of(model, exported).write(path.parent / NAME, of=path)
    except OSError as problem:
        raise outputs.cannot_write(path, problem) from None
    return exported


def refuse(model: nn.Module) -> None:
    """Refuses a tagger that is known not to export.

    Raises:
        ModelError: why it does not.
    """
    name = name_of(model)
    if name in REASONS:
        raise ModelError(f"{name} cannot be exported: {REASONS[name]}", mend="hepml export --table lists all")
    if name == "ensemble":
        for member in model.members.children():  # type: ignore[union-attr]
            refuse(member)


def exported_program(model: nn.Module, form: Form) -> torch.export.ExportedProgram:
    """The graph of a padded tagger, with dynamic jets and constituents.

    Raises:
        ModelError: an operation of the model needs the data's values where a graph has none.
    """
    tagger = network_of(copy.deepcopy(model).cpu().eval().requires_grad_(False), form)
    example = example_inputs(form)
    dims = {name: torch.export.Dim(name) for name in ("jets", "constituents")}
    shapes = {
        name: {i: dims[size] for i, size in enumerate(sizes) if isinstance(size, str)}
        for name, sizes in form.inputs.items()
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
        raise failure(problem, model, network=tagger) from problem


def example_inputs(form: Form, jets: int = 3, constituents: int = 5) -> dict[str, Tensor]:
    """Some made-up jets in this form."""
    generator = torch.Generator().manual_seed(0)
    numbers = {"jets": jets, "constituents": constituents}
    tensors: dict[str, Tensor] = {}
    for name, sizes in form.inputs.items():
        shape = [numbers[size] if isinstance(size, str) else size for size in sizes]
        x = torch.rand(shape, generator=generator)
        if name in ("four_momenta", "jet_four_momenta", "jet_features", "track_features") and x.shape[-1] > 3:
            p = x[..., :4] * 20  # massless
            p = torch.cat((p[..., 1:].norm(dim=-1, keepdim=True), p[..., 1:]), dim=-1)
            x = torch.cat((p, x[..., 4:]), dim=-1)
        if name in ("pf_vectors", "jet_vectors"):
            p = x[:, :3] * 20
            x = torch.cat((p, p.norm(dim=1, keepdim=True)), dim=1)
        tensors[name] = x
    mask = torch.arange(constituents) < torch.arange(constituents - jets + 1, constituents + 1)[:, None]
    if "mask" in tensors:
        tensors["mask"] = mask
    if "pf_mask" in tensors:
        tensors["pf_mask"] = mask[:, None].float()
    return tensors


def _write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    form: Form,
    entries: Mapping[str, str],
    model: nn.Module,
    halved: bool = False,
) -> None:
    import onnx

    try:
        with _quiet():
            written = torch.onnx.export(
                without_einsum(program),
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
        raise failure(problem, model, program=program) from problem
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(entries))
    _name_sizes(proto, form)
    if halved:
        halve_weights(proto)
    onnx.save(proto, path)


def fixed_size(program: torch.export.ExportedProgram) -> str | None:
    """An assertion that makes a size of the example the only one there is, which a pt2 file would keep; None
    where no layer has made one."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            if "_assert_scalar" in str(node.target):
                match = _FIXED.search(str(node.args[1]))
                if match:
                    return match[0]
    return None


def without_einsum(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same in matrix products: of no jets, onnxruntime's own operator ends the process."""
    einsum = torch.ops.aten.einsum.default
    if all(node.target is not einsum for node in program.graph.nodes):
        return program
    table = {einsum: torch.export.default_decompositions()[einsum]}
    without: torch.export.ExportedProgram = program.run_decompositions(table)
    return without


def _write_compiled(
    program: torch.export.ExportedProgram, path: Path, entries: Mapping[str, str], model: nn.Module
) -> None:
    from torch._inductor import aoti_compile_and_package

    try:
        with _quiet(), tempfile.TemporaryDirectory(prefix="hepml-compiled-") as scratch:
            package = aoti_compile_and_package(
                program,
                package_path=str(Path(scratch) / "tagger.pt2"),
                inductor_configs={"aot_inductor.metadata": {"hepml.json": json.dumps(dict(entries))}},
            )
            shutil.copyfile(package, path)
    except Exception as problem:  # no compiler, or one that does not take the code
        raise failure(problem, model, program=program) from problem


def _name_sizes(proto: Any, form: Form) -> None:
    """Sizes under the names that users read: `jets` and `constituents`."""
    for value in proto.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, form.inputs[value.name], strict=True):
            if isinstance(size, str):
                dim.dim_param = size
    for value in proto.graph.output:
        sizes = value.type.tensor_type.shape.dim
        if sizes:
            sizes[0].dim_param = "jets"


def halve_weights(proto: Any) -> None:
    """Weights in float16, which a cast brings back: half the file, and the same operators as before."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < 64:
            continue
        values = numpy_helper.to_array(tensor)
        if not (abs(values) < 6e4).all():  # what float16 cannot hold stays as it is
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype("float16"), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
