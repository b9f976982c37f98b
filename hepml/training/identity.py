"""What a checkpoint says about its model, checked: a checkpoint is a file that anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hepml.errors import FileError

ENTRY = "hepml"
# What Lightning and hepml need to go on with a run, and of which kind.
_RESUMED: dict[str, type] = {
    "epoch": int, "global_step": int, "loops": dict, "callbacks": dict, "optimizer_states": list,
    "lr_schedulers": list, "state_dict": dict, "pytorch-lightning_version": str,
}  # fmt: skip


def identity_of(content: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """The entry `hepml` of a checkpoint; None where there is none (published weights).

    Raises:
        FileError: an entry that does not describe a model.
    """
    if ENTRY not in content:
        return None
    identity = content[ENTRY]
    if not isinstance(identity, dict):
        raise _malformed(path, f"'{ENTRY}' is a {_kind(identity)}, not a mapping")
    kinds: dict[str, tuple[type, ...]] = {
        "name": (str,), "hyperparameters": (dict,), "objective": (dict, type(None)),
        "classes": (list, tuple, type(None)), "target": (str, list, type(None)),
        "layout": (str, dict, type(None)), "config": (dict, type(None)),
    }  # fmt: skip
    for key, allowed in kinds.items():
        if key in ("name", "hyperparameters") and key not in identity:
            raise _malformed(path, f"'{ENTRY}.{key}' is missing")
        if not isinstance(identity.get(key), allowed) and key in identity:
            raise _malformed(path, f"'{ENTRY}.{key}' is a {_kind(identity[key])}")
    if not all(isinstance(name, str) for name in identity["hyperparameters"]):
        raise _malformed(path, f"'{ENTRY}.hyperparameters' has names that are no text")
    if not all(isinstance(name, str) for name in identity.get("classes") or ()):
        raise _malformed(path, f"'{ENTRY}.classes' has names that are no text")
    head = identity.get("objective")
    if head is not None and not (
        isinstance(head.get("name"), str) and isinstance(head.get("arguments"), dict)
    ):
        raise _malformed(path, f"'{ENTRY}.objective' has no name and arguments")
    return identity


def weights_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint of a run, under the model's own names.

    Raises:
        FileError: there are none, or other things among them.
    """
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise _malformed(
            path, "'state_dict' is missing" if state is None else f"'state_dict' is a {_kind(state)}"
        )
    weights = {str(n).removeprefix("model."): t for n, t in state.items() if str(n).startswith("model.")}
    odd = next((name for name, tensor in weights.items() if not isinstance(tensor, Tensor)), None)
    if odd is not None:
        raise _malformed(path, f"the weight '{odd}' is a {_kind(weights[odd])}")
    return weights


def check_resumable(content: Mapping[str, Any], path: Path) -> None:
    """Raises FileError where a checkpoint lacks what a run needs to go on."""
    for key, kind in _RESUMED.items():
        if key not in content:
            raise _malformed(path, f"'{key}' is missing")
        if not isinstance(content[key], kind):
            raise _malformed(path, f"'{key}' is a {_kind(content[key])}")


def _malformed(path: Path, what: str) -> FileError:
    return FileError(f"not a checkpoint of hepml: {what}", where=str(path), mend="name another checkpoint")


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
