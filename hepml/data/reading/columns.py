"""`Column`: where one column of a layout comes from, a branch or a number, and what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hepml.errors import ConfigError, did_you_mean

TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "abs": np.abs,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0)),
    "square": np.square,
    "log": lambda x: np.log(np.maximum(x, 1e-30)),
    "log1p": lambda x: np.log1p(np.maximum(x, 0)),
    "signed_log1p": lambda x: np.sign(x) * np.log1p(np.abs(x)),
    "exp": np.exp,
    "tanh": np.tanh,
    "arctan": np.arctan,
    "negate": np.negative,
    "is_zero": lambda x: (x == 0).astype(np.float32),
    "is_nonzero": lambda x: (x != 0).astype(np.float32),
    "is_positive": lambda x: (x > 0).astype(np.float32),
}


@dataclass(frozen=True)
class Column:
    """Where one column comes from: `clip((transform(branch * unit) - shift) * scale)`, or a constant.

    Args:
        branch: name of the branch; None for a constant.
        constant: value where there is no branch.
        unit: factor before the transform; 0.001 brings MeV to GeV.
        transform: a name in `TRANSFORMS`.
        shift, scale: applied after the transform.
        clip: bounds, applied last.
        missing: value of the branch that stands for "there is none" (-99), and is taken as NaN.
        fill: value of jets or constituents where the branch is NaN or infinite; without it such jets are bad.
        element: which element of a list is the jet's number, counted from 0 (jet columns only).
        standardise: whether a model that standardises its inputs does so with this column; not where the
            column has a shift, scale or clip of its own, if left out.
    """

    branch: str | None = None
    constant: float | None = None
    unit: float = 1.0
    transform: str | None = None
    shift: float = 0.0
    scale: float = 1.0
    clip: tuple[float, float] | None = None
    missing: float | None = None
    fill: float | None = None
    element: int | None = None
    standardise: bool | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the branch is taken as it is."""
        return replace(self, standardise=None) == Column(branch=self.branch)

    @property
    def is_as_written(self) -> bool:
        """Whether it enters a model as it is written here, without automatic standardisation."""
        own = self.shift != 0.0 or self.scale != 1.0 or self.clip is not None
        return own if self.standardise is None else not self.standardise

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The column from the branch's values, elementwise; float32 unless it is plain."""
        if self.is_plain:
            return values
        with np.errstate(all="ignore"):
            x = values.astype(np.float32)
            if self.missing is not None:
                x = np.where(values == self.missing, np.float32(np.nan), x)
            if self.fill is not None:
                x = np.where(np.isfinite(x), x, np.float32(self.fill))
            there = np.isfinite(x)
            if self.unit != 1.0:
                x = x * np.float32(self.unit)
            if self.transform is not None:
                x = TRANSFORMS[self.transform](x)
            if self.shift != 0.0 or self.scale != 1.0:
                x = (x - np.float32(self.shift)) * np.float32(self.scale)
            x = x if self.clip is None else np.clip(x, *self.clip)
        # no transform and no clip makes a number of what was none
        return x if there.all() else np.where(there, x, np.float32(np.nan))

    @classmethod
    def parse(cls, value: Any, key: str) -> Column:
        """A column from YAML: a branch name, a number, or a mapping with the fields of `Column`."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(branch=value)
        if isinstance(value, bool | int | float):
            return cls(constant=float(value))
        fields = checked(value, cls, key)
        if (fields.get("branch") is None) == (fields.get("constant") is None):
            raise ConfigError(
                "a column is either a branch or a constant", where=key, mend="give one of the two"
            )
        name = fields.get("transform")
        if name is not None and name not in TRANSFORMS:
            raise ConfigError(f"unknown transform '{name}'", where=key, mend=did_you_mean(name, TRANSFORMS))
        if fields.get("clip") is not None:
            fields["clip"] = tuple(float(x) for x in fields["clip"])
            if len(fields["clip"]) != 2:
                raise ConfigError(
                    "clip takes two bounds", where=f"{key}.clip", mend="clip: [lowest, highest]"
                )
        return cls(**fields)


def mapping_of(value: Any, key: str) -> dict[str, Any]:
    """A mapping from YAML by text; empty for nothing.

    Raises:
        ConfigError: something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"expected a mapping, found {type(value).__name__}", where=key, mend="see docs/data-layouts.md"
        )
    return {str(name): item for name, item in value.items()}


def columns_of(value: Any, key: str) -> dict[str, Column]:
    """Columns by name from YAML.

    Raises:
        ConfigError: no mapping of columns.
    """
    return {name: Column.parse(item, f"{key}.{name}") for name, item in mapping_of(value, key).items()}


def names_of(value: Any, key: str) -> tuple[str, ...]:
    """One name from YAML, or a list of them; empty for nothing.

    Raises:
        ConfigError: something else.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence | range) or not all(isinstance(n, str | int) for n in value):
        raise ConfigError("expected a list of names", where=key, mend="see docs/data-layouts.md")
    return tuple(str(name) for name in value)


def event_columns_of(value: Any, key: str) -> dict[str, str]:
    """Event columns from YAML, a branch, a list of them or a mapping: name -> branch.

    Raises:
        ConfigError: something else.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        return {value: value}
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return {str(v): str(v) for v in value}
    raise ConfigError("event is a list of branches", where=key, mend="event: [run, luminosityBlock, event]")


def text_of(value: Any, key: str) -> str | None:
    """A name or an expression from YAML, where there is one.

    Raises:
        ConfigError: something else.
    """
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"expected text, found {value!r}", where=key, mend="see docs/data-layouts.md")
    return value


def checked(value: Any, kind: type, key: str) -> dict[str, Any]:
    """The fields of a dataclass that YAML gives.

    Raises:
        ConfigError: no mapping, or an unknown key; names the nearest.
    """
    if value is None:
        raise ConfigError("expected a mapping, found NoneType", where=key, mend="see docs/data-layouts.md")
    fields = mapping_of(value, key)
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in fields:
        if name not in known:
            raise ConfigError(f"unknown key '{name}'", where=key, mend=did_you_mean(name, known))
    return fields
