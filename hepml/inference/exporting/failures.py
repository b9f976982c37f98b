"""Why a graph could not be recorded: the layer, and the operation in it, out of torch's long messages."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from hepml.errors import ModelError
from hepml.inference.exporting.tagger import name_of

_MEND = (
    "an exported graph knows no values and no lengths of its data: write the layer without .item(), int(), "
    "nonzero() and boolean indexing, or run the tagger with `hepml predict`"
)


def failure(
    problem: BaseException,
    model: nn.Module,
    *,
    network: nn.Module | None = None,
    program: torch.export.ExportedProgram | None = None,
) -> ModelError:
    """The error for users.

    Args:
        problem: what torch raised.
        model: the tagger.
        network: what was recorded, where recording failed.
        program: the recorded graph, where its operators could not be written.
    """
    place = _in_code(problem, network) if network is not None else _in_graph(problem, program)
    return ModelError(
        f"{name_of(model)} cannot be exported: {place}{_first_line(problem)}",
        mend=_MEND if network is not None else "write the layer with other operators, or --format pt2",
    )


def _in_code(problem: BaseException, network: nn.Module) -> str:
    """The innermost layer of the network that was running."""
    names = {
        id(layer): name.removeprefix("padded.").removeprefix("model")
        for name, layer in network.named_modules()
    }
    place = ""
    for one in _chain(problem):
        for frame, line in traceback.walk_tb(_traceback(one)):
            layer = frame.f_locals.get("self")
            if isinstance(layer, nn.Module) and id(layer) in names and frame.f_code.co_name != "_call_impl":
                name = names[id(layer)].lstrip(".")
                where = f"{Path(frame.f_code.co_filename).name} line {line}"
                place = f"layer '{name or 'the tagger itself'}' ({type(layer).__name__}, {where}): "
        if place:
            return place
    return ""


def _in_graph(problem: BaseException, program: torch.export.ExportedProgram | None) -> str:
    """The layer of the first node whose operator is in the message."""
    text = " ".join(str(one) for one in _chain(problem))
    asked = re.search(r"OpOverload\(op='([\w.:]+)'", text) or re.search(r"(aten[:.]+[\w.]+)", text)
    if program is None or asked is None:
        return ""
    operator = asked[1].replace("::", ".")
    bare = operator.rpartition(".")[2]  # torch may have put another operator of that name in its place
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack and bare in str(node.target):
            name, kind = list(stack.values())[-1]
            short = getattr(kind, "__name__", str(kind).rpartition(".")[2])
            return f"layer '{name.removeprefix('padded.').removeprefix('model.')}' ({short}) has {operator}: "
    return f"{operator}: "


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for one in reversed(list(_chain(problem))) for line in str(one).splitlines()]
    line = next((line for line in lines if line), type(problem).__name__)
    return line if len(line) <= 240 else line[:239] + "…"


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _traceback(problem: BaseException) -> TracebackType | Any:
    return problem.__traceback__
