"""The answer of `hepml inspect`: what a file, or several, hold (`inspection.py` finds it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepml.data.formats.event_scan import Census
from hepml.data.reading.ranges import Range

BINS = 32  # of a histogram


@dataclass(frozen=True)
class Tree:
    """One tree (or, in an npz file, the arrays): kind, entries, branch -> type."""

    kind: str
    entries: int
    branches: Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """The distribution of one column: range, mean, and a histogram over all jets and of each class.

    Args:
        lowest, highest, mean: over all finite values.
        edges: [BINS + 1].
        histograms: class name (or "jets" without classes) -> [BINS] counts.
    """

    lowest: float
    mean: float
    highest: float
    edges: np.ndarray
    histograms: Mapping[str, np.ndarray]

    @property
    def total(self) -> np.ndarray:
        """Histogram over all classes, [BINS]."""
        return np.asarray(sum(self.histograms.values()))


@dataclass(frozen=True)
class Inspection:
    """The answer of `inspect`.

    Args:
        file: as it was given.
        bytes: size of the file, or None for remote ones.
        trees: by name.
        tree: the one that is read as jets, or None.
        layout: name of the layout that fits, or None.
        jets: number of jets, or None without a layout.
        classes: class name -> jets; empty without labels.
        columns: main distributions by name.
        constituents: names of the raw constituent columns at hand.
        ranges: of those columns, in the first jets.
        problems: what is wrong, one line each.
        hints: how to map a file whose layout is not known.
        collections: the jet collections of an event file; one, `jets`, of a file with one jet an entry.
        units: of the momenta in the file.
        leaks: single columns that alone tell a class (`hepml.data.sampling.leaks`).
        files: of several files together, one entry a file: file, layout, tree, entries, problem.
    """

    file: str
    bytes: int | None
    trees: Mapping[str, Tree]
    tree: str | None = None
    layout: str | None = None
    jets: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    constituents: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    collections: tuple[Census, ...] = ()
    units: str | None = None
    leaks: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "file": self.file,
            **({"files": list(self.files)} if self.files else {}),
            "bytes": self.bytes,
            "layout": self.layout,
            "tree": self.tree,
            "trees": {
                name: {"kind": t.kind, "entries": t.entries, "branches": dict(t.branches)}
                for name, t in self.trees.items()
            },
            "jets": self.jets,
            "collections": [entry.as_dict() for entry in self.collections],
            "units": self.units,
            "leaks": list(self.leaks),
            "classes": dict(self.classes),
            "constituents": list(self.constituents),
            "constituent_ranges": {name: entry.as_dict() for name, entry in self.ranges.items()},
            "ranges": {
                name: {"min": c.lowest, "mean": c.mean, "max": c.highest} for name, c in self.columns.items()
            },
            "problems": list(self.problems),
            "hints": list(self.hints),
        }
