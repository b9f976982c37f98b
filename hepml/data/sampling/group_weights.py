"""Weights by groups of jets and bins of two columns, as weaver-core makes them.

    reweight:
      columns: {jet_pt: [200, 300, 500], jet_sdmass: [20, 100, 500]}
      to: flat                                  # or ref: the spectrum of the first group
      groups: {label_QCD: 0.25, label_top: 1.0} # columns that are 1 for the group's jets -> its share
      threshold: 10
      histograms: {label_QCD: [[…], …], …}      # the weights themselves, where they are known already

A jet's weight lies between 0 and 1: weaver draws jets with it, here it weights their loss, which is the same
on average. Bins that hold less than the reference (a low quantile of the occupied ones) have weight one, so
that a sparse bin is never blown up; groups are then brought to their shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepml.data.sampling.reweighting import edges_by_column
from hepml.errors import ConfigError, DataError, did_you_mean

_MOST = 0.9  # of the largest weight, as weaver has it
_KEYS = ("columns", "to", "groups", "threshold", "histograms", "base", "outside")


@dataclass(frozen=True)
class GroupWeights:
    """How groups of jets are weighted.

    Args:
        edges: column -> rising edges.
        groups: column that is 1 for the jets of a group -> the group's share.
        to: `flat`, or `ref` for the first group's spectrum.
        threshold: percentile of the bins' contents (flat) or ratios (ref) that weighs one.
        histograms: group -> weights by bin, where they are known.
        base: column of weights that jets have already.
        keep_outside: whether jets outside the bins have the weight of the nearest; zero otherwise.
    """

    edges: Mapping[str, tuple[float, ...]]
    groups: Mapping[str, float]
    to: str = "flat"
    threshold: float = 10.0
    histograms: Mapping[str, np.ndarray] = field(default_factory=dict)
    base: str | None = None
    keep_outside: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The jet columns that are needed."""
        return (*self.edges, *self.groups, *(() if self.base is None else (self.base,)))

    @classmethod
    def parse(cls, value: Mapping[str, Any], key: str = "data.reweight") -> GroupWeights:
        """From YAML.

        Raises:
            ConfigError: an unknown key, edges that do not rise, or histograms of another shape.
        """
        for word in value:
            if word not in _KEYS:
                raise ConfigError(f"unknown key '{word}'", where=key, mend=did_you_mean(str(word), _KEYS))
        edges = edges_by_column(value.get("columns"), f"{key}.columns")
        try:
            groups = {str(n): float(share) for n, share in value["groups"].items()}
            threshold = float(value.get("threshold", 10))
            known = {
                str(n): np.asarray(h, dtype=np.float32) for n, h in (value.get("histograms") or {}).items()
            }
        except (KeyError, AttributeError, TypeError, ValueError):
            raise ConfigError(
                "group weights need columns with edges, and groups with shares",
                where=key,
                mend="columns: {jet_pt: [200, 300, 500]}, groups: {label_b: 1}",
            ) from None
        _check(groups, threshold, known, value, key)
        shape = tuple(len(given) - 1 for given in edges.values())
        for name, histogram in known.items():
            if histogram.shape != shape:
                raise ConfigError(
                    f"the weights of '{name}' have shape {histogram.shape}, the bins {shape}",
                    where=f"{key}.histograms.{name}",
                )
        if value.get("to", "flat") not in ("flat", "ref"):
            raise ConfigError(f"to is '{value['to']}'", where=f"{key}.to", mend="flat or ref")
        return cls(
            edges, groups, value.get("to", "flat"), threshold, known, value.get("base"),
            value.get("outside", "discard") == "keep",
        )  # fmt: skip

    def factors(
        self,
        columns: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        weights: np.ndarray | None = None,
        fit: np.ndarray | None = None,
    ) -> np.ndarray:
        """The weight of each jet, [N]; arguments as of `Reweighting.factors`."""
        rows: Any = slice(None) if fit is None else fit
        known = self.histograms or self.measured({n: c[rows] for n, c in columns.items()})
        return self.weights(columns, known)

    def weights(self, columns: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]) -> np.ndarray:
        """The weight of each jet by these histograms, [N] float32: zero in no group and outside the bins."""
        self._refuse_several(columns)
        values = [np.asarray(columns[name]) for name in self.edges]
        inside = np.ones(len(values[0]), dtype=bool)
        at = []
        for v, edges in zip(values, self.edges.values(), strict=True):
            inside &= (v >= edges[0]) & (v <= edges[-1])
            at.append(np.clip(np.digitize(v, edges) - 1, 0, len(edges) - 2))
        out = np.zeros(len(inside), dtype=np.float32)
        for name, histogram in known.items():
            chosen = np.asarray(columns[name]) == 1
            if not self.keep_outside:
                chosen &= inside
            out[chosen] = histogram[tuple(a[chosen] for a in at)]
        return out if self.base is None else out * np.asarray(columns[self.base], dtype=np.float32)

    def _refuse_several(self, columns: Mapping[str, np.ndarray]) -> None:
        """Refuses jets of several groups, which would have the weight of the last, and weights that are no
        numbers."""
        several = sum((np.asarray(columns[name]) == 1).astype(int) for name in self.groups) > 1
        if np.any(several):
            raise DataError(
                f"{int(np.sum(several)):,} jets belong to several of the groups {', '.join(self.groups)}",
                mend="name groups that share no jets",
            )
        if self.base is not None and not np.isfinite(np.asarray(columns[self.base])).all():
            raise DataError(
                f"the weights '{self.base}' that jets have before the reweighting are NaN or infinite",
                mend="name another column as base, or repair the files",
            )

    def measured(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights by bin of each group, from these jets.

        Raises:
            DataError: a group without jets within the bins.
        """
        self._refuse_several(columns)
        raw: dict[str, np.ndarray] = {}
        shares: dict[str, float] = {}
        factors: dict[str, np.ndarray] = {}
        edges = [np.asarray(e) for e in self.edges.values()]
        for name in self.groups:
            chosen = np.asarray(columns[name]) == 1
            values = [np.asarray(columns[n])[chosen] for n in self.edges]
            if self.keep_outside:
                values = [np.clip(v, e[0], e[-1]) for v, e in zip(values, edges, strict=True)]
            base = None if self.base is None else np.asarray(columns[self.base])[chosen]
            histogram = np.histogramdd(np.stack(values, axis=1), bins=edges, weights=base)[0]
            raw[name] = histogram.astype(np.float32)
            if not (raw[name] > 0).any():
                raise DataError(
                    f"no jets of group '{name}' within the bins of the reweighting",
                    mend="add jets of that group, or leave it out of layout.reweight",
                )
        first = next(iter(raw.values()))
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, share in self.groups.items():
                histogram = raw[name]
                if self.to == "flat":
                    least = np.median(histogram[histogram > 0]) * 0.01
                    reference = np.percentile(histogram[histogram > least], self.threshold)
                    ratio = np.nan_to_num(reference / histogram, posinf=0)
                else:
                    ratio = np.nan_to_num(first / histogram, posinf=0)
                    ratio = ratio / np.percentile(ratio[ratio > 0], 100 - self.threshold)
                factors[name] = np.clip(ratio, 0, 1)
                shares[name] = float(np.sum(histogram * factors[name])) / share
        least_events = min(shares.values()) * _MOST
        for name in self.groups:
            factors[name] = factors[name] * np.float32(least_events / shares[name])
        if self.base is not None:
            reference = np.percentile(self.weights(columns, factors), 100 - self.threshold)
            factors = {name: histogram / reference for name, histogram in factors.items()}
        return factors


def _check(
    groups: Mapping[str, float],
    threshold: float,
    known: Mapping[str, np.ndarray],
    value: Mapping[str, Any],
    key: str,
) -> None:
    """Refuses numbers that no weights follow from, and words that mean nothing."""
    if not groups:
        raise ConfigError("no groups", where=f"{key}.groups", mend="groups: {label_b: 1, label_light: 1}")
    for name, share in groups.items():
        if not 0 < share < np.inf:
            raise ConfigError(
                f"the share of '{name}' is {share:g}", where=f"{key}.groups.{name}", mend="a positive number"
            )
    if not 0 <= threshold <= 100:
        raise ConfigError(f"threshold is {threshold:g}", where=f"{key}.threshold", mend="0 to 100 percent")
    for name, histogram in known.items():
        if not ((histogram >= 0) & (histogram < np.inf)).all():
            raise ConfigError(
                f"weights of '{name}' are negative or no numbers",
                where=f"{key}.histograms.{name}",
                mend="numbers from 0 on",
            )
    if known and known.keys() != groups.keys():
        differ = ", ".join(sorted(known.keys() ^ groups.keys()))
        raise ConfigError(
            f"groups and their weights differ: {differ}", where=f"{key}.histograms", mend="one of each group"
        )
    if value.get("outside", "discard") not in ("keep", "discard"):
        raise ConfigError(f"outside is '{value['outside']}'", where=f"{key}.outside", mend="keep or discard")
