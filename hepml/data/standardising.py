"""Automatic standardisation: shift and scale of input columns that have no published ones.

As weaver-core has it: the median is subtracted, and the larger of the distances to the 16 and 84 % quantiles
becomes one; then everything is clipped at 5 units. Measured once, on training jets, after which it belongs to
the model (`hepml.models.standardised`). Columns with a published standardisation (`hepml.data.features`) keep
that, and columns whose layout says how they are scaled are taken as they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from hepml.data.batch import JetBatch
from hepml.data.features import FEATURES, RAW
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED
from hepml.data.reading.layouts import Layout, columns_as_written

CLIP = 5.0  # units of the range
QUANTILES = (16, 50, 84)  # percent
MOST_JETS = 100_000  # jets that are looked at; more make no difference that training would notice


@dataclass(frozen=True)
class Standard:
    """What is done with one column: clip((x - shift) * scale).

    Args:
        shift: the median.
        scale: one over the larger distance from the median to the 16 and 84 % quantiles; 1 where both are
            zero.
        clip: bounds of the result, on either side.
    """

    shift: float
    scale: float
    clip: float = CLIP

    def as_dict(self) -> dict[str, float]:
        """Plain values, as a checkpoint and a summary hold them."""
        return asdict(self)

    @classmethod
    def measured(cls, values: np.ndarray) -> Standard:
        """That of these values; what is not finite does not count."""
        good = np.asarray(values, dtype=np.float64)
        good = good[np.isfinite(good)]
        if not len(good):
            return cls(0.0, 1.0)
        low, centre, high = (float(q) for q in np.percentile(good, QUANTILES))
        reach = max(high - centre, centre - low)
        return cls(centre, 1.0 / reach if reach > 0 else 1.0)


class Jets(Protocol):
    """Training jets, of which some can be asked for."""

    def __len__(self) -> int: ...

    def batch(self, indices: Any) -> JetBatch: ...


def wanted(inputs: Inputs, layout: Any) -> dict[str, tuple[str, ...]]:
    """The columns to standardise: of the constituents (under ""), of each further collection (under its
    name), and of the jets (under "jet").

    Args:
        inputs: what the model reads.
        layout: of the training files, as a config has it; None where it is recognised.
    """
    written = columns_as_written(layout)
    places = {"": inputs.features, "jet": inputs.jet_features, **dict(inputs.collections)}
    out = {}
    for place, names in places.items():
        known = DERIVED if place == "jet" else FEATURES
        own = written.get(place, frozenset())
        out[place] = tuple(n for n in names if n not in known and n.removeprefix(RAW) not in own)
    return {place: names for place, names in out.items() if names}


def settled(layout: Any, asked: str | bool | None) -> bool:
    """Whether to standardise: as the config asks, else as the layout says, else yes."""
    if asked is not None:
        return asked in ("auto", True)
    parsed = None if layout is None else Layout.parse(layout)
    return parsed is None or parsed.standardise != "none"


def measure(jets: Jets, names: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Standard]]:
    """The standardisation of these columns, from evenly spaced training jets.

    Args:
        jets: the training jets, without those held out.
        names: the answer of `wanted`.
    """
    count = len(jets)
    which = np.arange(count) if count <= MOST_JETS else np.linspace(0, count - 1, MOST_JETS).astype(np.int64)
    batch = jets.batch(which)
    return {place: _of(batch, place, columns) for place, columns in names.items()}


def _of(batch: JetBatch, place: str, names: Iterable[str]) -> dict[str, Standard]:
    names = tuple(names)
    if place == "jet":
        values = batch.select_jets(names)
    else:
        values = (batch.collections[place] if place else batch).select(names)
    return {name: Standard.measured(values[:, i].numpy()) for i, name in enumerate(names)}


def summary(standards: Mapping[str, Mapping[str, Standard]], jets: int) -> str:
    """The line that a run prints."""
    names = [f"{place}.{n}" if place else n for place, columns in standards.items() for n in columns]
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return (
        f"standardised by median and 16-84 % range of {min(jets, MOST_JETS):,} training jets, clipped at "
        f"{CLIP:g}: {some}"
    )
