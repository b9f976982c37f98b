"""Weights that give every class the same spectrum: flat, or that of one class.

    reweight: {columns: {jet_pt: [200, 300, 500, 1000], jet_eta: [-2.4, 0, 2.4]}, to: flat}

A jet's weight is the target's content of its bin over its own class's, from one histogram a class; weights of
a class keep their sum. Jets outside all bins keep weight zero and are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np

from hepml.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True)
class Reweighting:
    """What to reweight to.

    Args:
        columns: jet column -> rising edges.
        to: `flat`, or the name of a class.
    """

    columns: Mapping[str, tuple[float, ...]]
    to: str = "flat"

    @classmethod
    def parse(cls, value: object, key: str = "data.reweight") -> Reweighting:
        """From YAML.

        Raises:
            ConfigError: an unknown key, or edges that do not rise.
        """
        if not isinstance(value, Mapping) or "columns" not in value:
            raise ConfigError(
                "reweight needs columns", where=key, mend="columns: {jet_pt: [200, 300, 500]}, to: flat"
            )
        for word in value:
            if word not in ("columns", "to"):
                raise ConfigError(
                    f"unknown key '{word}'", where=key, mend=did_you_mean(str(word), ("columns", "to"))
                )
        return cls(edges_by_column(value["columns"], f"{key}.columns"), str(value.get("to", "flat")))

    def bins(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The bin of each jet [N], -1 outside."""
        out: np.ndarray | None = None
        inside: np.ndarray | None = None
        for name, edges in self.columns.items():
            at = np.searchsorted(edges, columns[name], side="right") - 1
            there = (at >= 0) & (at < len(edges) - 1)
            out = at if out is None else out * (len(edges) - 1) + at
            inside = there if inside is None else inside & there
        assert out is not None
        assert inside is not None
        return np.where(inside, out, -1)

    def _named(self, bin: int) -> str:
        """A bin in words."""
        words = []
        for name, edges in reversed(list(self.columns.items())):
            bin, at = divmod(bin, len(edges) - 1)
            words.append(f"{name} {edges[at]:g} to {edges[at + 1]:g}")
        return ", ".join(reversed(words))

    def _check(
        self,
        columns: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        histograms: np.ndarray,
        wanted: np.ndarray,
        rows: slice | np.ndarray,
    ) -> None:
        """Refuses spectra in which a whole class of jets would weigh nothing.

        Args:
            histograms: [classes, bins].
            wanted: [bins] where the target has jets.
            rows: of the jets that were measured.
        """
        for c, name in enumerate(classes):
            own = labels[rows] == c
            if self.to == name and not own.any():
                raise DataError(f"no jets of class '{name}' to reweight to", where="data.reweight.to")
            if not own.any() or (histograms[c] > 0)[wanted].any():
                continue
            missing = [n for n, v in columns.items() if not np.isfinite(v[rows][own]).any()]
            why = f": '{missing[0]}' is NaN for all of them" if missing else ""
            held = "the bins" if self.to in ("flat", name) else f"bins that '{self.to}' has jets in"
            raise DataError(
                f"none of {int(own.sum()):,} jets of class '{name}' is within {held} of data.reweight{why}",
                mend="widen the edges, or name a column that all classes have",
            )

    def lacking(
        self,
        columns: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        fit: np.ndarray | None = None,
    ) -> str:
        """Which classes have no jets in bins that others fill, where no weight brings spectra together; empty
        where all have some. Arguments as those of `factors`."""
        there = self._histograms(columns, labels, classes, None, fit) > 0
        filled, words = there.any(axis=0), []
        for name, own in zip(classes, there, strict=True):
            empty = np.flatnonzero(filled & ~own & own.any())
            if len(empty):
                bins = f"{len(empty)} of {int(filled.sum())} bins"
                words.append(f"{name} none in {bins}, as in {self._named(int(empty[0]))}")
        return "; ".join(words)

    def _histograms(
        self,
        columns: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        weights: np.ndarray | None,
        fit: np.ndarray | None,
    ) -> np.ndarray:
        """The sum of weights of each class in each bin, [C, bins].

        Raises:
            DataError: weights that cancel within a bin.
        """
        bins, rows = self.bins(columns), slice(None) if fit is None else fit
        own = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
        size = int(np.prod([len(e) - 1 for e in self.columns.values()]))
        histograms = np.zeros((len(classes), size))
        b, y, w = bins[rows], labels[rows], own[rows]
        for c in range(len(classes)):
            chosen = (y == c) & (b >= 0)
            histograms[c] = np.bincount(b[chosen], weights=w[chosen], minlength=size)
            squares = np.bincount(b[chosen], weights=w[chosen] ** 2, minlength=size)
            lost = (squares > 0) & ((histograms[c] <= 0) | (histograms[c] ** 2 < (1 - 1e-9) * squares))
            if lost.any():
                k = int(np.argmax(lost))
                raise DataError(
                    f"the weights of class {classes[c]} cancel in {int(lost.sum())} bins of data.reweight, "
                    f"as in {self._named(k)}: {histograms[c][k]:.3g} ± {np.sqrt(squares[k]):.3g}",
                    mend="widen the edges, or train without event weights (data.weights: false)",
                )
        return histograms

    def factors(
        self,
        columns: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        weights: np.ndarray | None = None,
        fit: np.ndarray | None = None,
    ) -> np.ndarray:
        """What each jet's weight is multiplied by, [N].

        Args:
            columns: the jet columns [N].
            labels: [N] class of each jet.
            classes: their names.
            weights: [N] weights so far.
            fit: positions of the jets whose spectra are measured (the training jets); all where left out.

        Raises:
            ConfigError: no such class. DataError: no jets within the bins, or none of some class.
        """
        if self.to != "flat" and self.to not in classes:
            raise ConfigError(
                f"no class '{self.to}' to reweight to",
                where="data.reweight.to",
                mend=did_you_mean(self.to, [*classes, "flat"]),
            )
        bins, histograms = self.bins(columns), self._histograms(columns, labels, classes, weights, fit)
        size, rows = histograms.shape[1], slice(None) if fit is None else fit
        if not (histograms > 0).any():
            raise DataError("no jets within the bins of data.reweight", mend="widen the edges")
        occupied = (histograms > 0).any(axis=0)
        target = occupied.astype(float) if self.to == "flat" else histograms[list(classes).index(self.to)]
        self._check(columns, labels, classes, histograms, target > 0, rows)
        out = np.zeros(len(labels))
        for c in range(len(classes)):
            own_bins = histograms[c] > 0
            ratio = np.divide(target, histograms[c], out=np.zeros(size), where=own_bins)
            total = (ratio * histograms[c]).sum()
            if total > 0:  # a class keeps the sum of its weights
                ratio *= histograms[c].sum() / total
            chosen = (labels == c) & (bins >= 0)
            out[chosen] = ratio[bins[chosen]]
        return out


def edges_by_column(value: object, key: str) -> dict[str, tuple[float, ...]]:
    """Columns with the edges of their bins.

    Raises:
        ConfigError: no mapping, an empty one, or edges that do not rise.
    """
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(
            f"columns with edges are needed, found {value!r}", where=key, mend="{jet_pt: [200, 300, 500]}"
        )
    return {str(name): rising_edges(edges, f"{key}.{name}") for name, edges in value.items()}


def rising_edges(edges: object, key: str) -> tuple[float, ...]:
    """The edges of a column's bins.

    Raises:
        ConfigError: no numbers, fewer than two, or such that do not rise.
    """
    try:
        numbers = tuple(float(e) for e in cast(Iterable[float], edges))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) < 2 or not all(b > a for a, b in pairwise(numbers)):  # NaN is above nothing
        raise ConfigError("edges must rise", where=key, mend="give two or more numbers")
    return numbers
