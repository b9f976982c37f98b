"""Files of weights to plain state dicts, whatever they were wrapped in.

Files are read with `weights_only=True`: a downloaded checkpoint never runs code here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hepml.pretrained.archives import read_archive

# What training scripts put around a model (DataParallel, weaver, Lightning, torch.compile) and around its
# state dict.
PREFIXES = ("module.", "mod.", "model.", "net.", "network.", "_orig_mod.")
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")


def read(path: Path) -> Any:
    """The content of a file of weights, on the CPU.

    Raises:
        FileError: no such file, or not a file that torch wrote.
        ModelError: the file holds Python objects, which are not loaded.
    """
    return read_archive(path, "file of weights")


def state_of(content: Any) -> dict[str, Tensor] | None:
    """The state dict in the content of a file, without wrappers and without prefixes that all names share;
    None where there is none."""
    if not isinstance(content, Mapping):
        return None
    for name in WRAPPERS:  # first: a loss may stand beside the weights as a tensor of its own
        if state := state_of(content.get(name)):
            return state
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        return None
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): v for name, v in tensors.items()}
    return tensors


def arguments_of(content: Any) -> dict[str, Any]:
    """The training arguments that a script left beside the weights, as `args`; empty where there are none."""
    arguments = content.get("args") if isinstance(content, Mapping) else None
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    return {str(k): v for k, v in arguments.items()} if isinstance(arguments, Mapping) else {}
