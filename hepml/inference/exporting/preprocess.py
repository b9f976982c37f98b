"""`preprocess.json`, as CMSSW's ONNX producers read it: which columns make the inputs of a network, and how
they are shifted, scaled, bounded, cut and padded.

One file serves both ways: `hepml export --form cmssw` writes it beside a network, and `hepml predict` runs
any network that has one. A variable is `clip((x - median) * norm_factor, lower_bound, upper_bound)`; what is
not finite is replaced first, and a jet's list is cut at `max_length` and padded with `pad` up to
`min_length`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepml import outputs
from hepml.errors import FileError

NAME = "preprocess.json"
_LARGE = 1e32  # CMSSW takes what is larger for infinite


@dataclass(frozen=True)
class Variable:
    """How one column becomes one row of an input."""

    median: float = 0.0
    norm_factor: float = 1.0
    replace_inf_value: float = 0.0
    lower_bound: float = -_LARGE
    upper_bound: float = _LARGE
    pad: float = 0.0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The scaled column, float32, elementwise."""
        x = values.astype(np.float32)
        x = np.where(self.is_replaced(x), np.float32(self.replace_inf_value), x)
        x = (x - np.float32(self.median)) * np.float32(self.norm_factor)
        return np.clip(x, np.float32(self.lower_bound), np.float32(self.upper_bound))

    def is_replaced(self, values: np.ndarray) -> np.ndarray:
        """Where a value is taken for infinite."""
        with np.errstate(invalid="ignore"):
            out: np.ndarray = ~(np.abs(values) <= np.float32(_LARGE))
            return out


@dataclass(frozen=True)
class Block:
    """One input of the network, [jets, variables, constituents].

    Args:
        variables: by column, in order.
        min_length, max_length: bounds of the number of constituents.
    """

    variables: Mapping[str, Variable]
    min_length: int
    max_length: int

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        """Constituents that the network sees of each jet, padding counted."""
        out: np.ndarray = np.clip(counts, self.min_length, self.max_length)
        return out

    def fill(self, columns: Mapping[str, tuple[np.ndarray, np.ndarray]], jets: np.ndarray) -> np.ndarray:
        """The input of some jets that have the same length.

        Args:
            columns: flat content and offsets [B + 1], by name.
            jets: which of them.
        """
        first = next(iter(self.variables))
        counts = np.diff(columns[first][1])[jets]
        length = int(self.lengths(counts).max()) if len(jets) else self.min_length
        place = np.arange(length)
        there = place < counts[:, None]
        out = np.empty((len(jets), len(self.variables), length), np.float32)
        for row, (name, variable) in enumerate(self.variables.items()):
            content, offsets = columns[name]
            at = np.where(there, offsets[jets][:, None] + place, 0)
            values = variable(content)[at] if len(content) else np.zeros(at.shape, np.float32)
            out[:, row] = np.where(there, values, np.float32(variable.pad))
        return out

    def as_json(self) -> dict[str, Any]:
        length = (
            {"var_length": self.max_length}
            if self.min_length == self.max_length
            else {"min_length": self.min_length, "max_length": self.max_length}
        )
        infos = {name: vars(variable) for name, variable in self.variables.items()}
        return {"var_names": list(self.variables), "var_infos": infos, **length}


@dataclass(frozen=True)
class Preprocess:
    """The content of a `preprocess.json`.

    Args:
        inputs: by name, in order.
        outputs: what the network's outputs stand for, in order.
    """

    inputs: Mapping[str, Block]
    outputs: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """All columns, in first-use order."""
        return list(dict.fromkeys(name for block in self.inputs.values() for name in block.variables))

    def companions(self, name: str) -> list[str]:
        """Inputs of the same collection: those whose names begin alike, as `pf_points` and `pf_mask`."""
        collection = name.partition("_")[0]
        return [other for other in self.inputs if other.partition("_")[0] == collection]

    def groups(self, counts: Mapping[str, np.ndarray], most: int) -> Iterator[np.ndarray]:
        """Jets whose inputs have the same lengths, at most so many at a time, as CMSSW would see each."""
        lengths = np.stack([block.lengths(counts[name]) for name, block in self.inputs.items()], axis=1)
        _, which = np.unique(lengths, axis=0, return_inverse=True)
        order = np.argsort(which.ravel(), kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(which.ravel()[order])) + 1):
            for first in range(0, len(group), most):
                yield group[first : first + most]

    def as_json(self) -> dict[str, Any]:
        inputs = {name: block.as_json() for name, block in self.inputs.items()}
        return {"output_names": list(self.outputs), "input_names": list(self.inputs), **inputs}

    def write(self, path: Path, *, of: Path) -> None:
        """Writes it beside the network `of`.

        Raises:
            FileError: another network's, which stands there, would be replaced.
        """
        text = json.dumps(self.as_json(), indent=2) + "\n"
        if path.is_file() and path.read_text() != text:
            others = [p for p in path.parent.glob("*.onnx") if p.name != of.name and beside(p) == path]
            if others:
                raise FileError(
                    f"{path.name} is there already and belongs to {others[0].name}",
                    where=str(path.parent),
                    mend="write each network into a folder of its own",
                )
        outputs.write_bytes(path, text.encode())


def beside(network: Path) -> Path | None:
    """The `preprocess.json` of a network: `NAME.preprocess.json` or `preprocess.json` in its folder."""
    for path in (network.with_suffix(f".{NAME}"), network.parent / NAME):
        if path.is_file():
            return path
    return None


def read(path: Path) -> Preprocess:
    """A `preprocess.json`.

    Raises:
        FileError: not JSON, or without the keys that CMSSW reads; names the key.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise FileError(f"not JSON ({problem})", where=str(path), mend="copy it again") from None
    inputs = {str(name): _block(content, str(name), path) for name in _get(content, "input_names", path)}
    if not inputs:
        raise FileError("no input_names", where=str(path), mend="give CMSSW's preprocess.json")
    return Preprocess(inputs, tuple(str(name) for name in content.get("output_names", ())))


def _block(content: Any, name: str, path: Path) -> Block:
    block = _get(content, name, path)
    names: Sequence[str] = _get(block, "var_names", path, name)
    infos = _get(block, "var_infos", path, name)
    variables = {}
    for variable in names:
        info = _get(infos, variable, path, f"{name}.var_infos")
        wanted = {key: float(info[key]) for key in Variable.__dataclass_fields__ if key in info}
        for key in ("median", "norm_factor"):
            _get(info, key, path, f"{name}.var_infos.{variable}")
        variables[str(variable)] = Variable(**wanted)
    if not variables:
        raise FileError(f"'{name}' has no var_names", where=str(path), mend="name its columns")
    if "var_length" in block:
        length = int(block["var_length"])
        return Block(variables, length, length)
    least, most = (int(_get(block, key, path, name)) for key in ("min_length", "max_length"))
    if not 0 <= least <= most:
        raise FileError(f"'{name}' has lengths from {least} to {most}", where=str(path), mend="mend them")
    return Block(variables, least, most)


def _get(content: Any, key: str, path: Path, within: str = "") -> Any:
    if not isinstance(content, Mapping) or key not in content:
        raise FileError(
            f"no '{key}'" + (f" in '{within}'" if within else ""),
            where=str(path),
            mend="give the preprocess.json that belongs to the network (docs/export.md)",
        )
    return content[key]
