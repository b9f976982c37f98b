"""Paired tests between all taggers of a table that were tested on the same jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from hepml.evaluation.multiclass import group_members, signal_against_background
from hepml.evaluation.paired import compare, compare_accuracy


class Tested(NamedTuple):
    """Labels [N], scores [N] or [N, C], weights [N] or None, and class names or None."""

    labels: Any
    scores: Any
    weights: Any
    classes: Sequence[str] | None


def compare_all(samples: Mapping[str, Tested], reports: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{first: {second: tests}} for every two taggers with the same labels and weights, in their order.

    Args:
        samples: by tagger.
        reports: what `evaluate` gave for them.
    """
    table: dict[str, dict[str, Any]] = {}
    for first, second in combinations(samples, 2):
        a, b = samples[first], samples[second]
        if not _same(a.labels, b.labels) or not _same(a.weights, b.weights):
            continue
        if np.ndim(a.scores) != np.ndim(b.scores) or np.shape(a.scores) != np.shape(b.scores):
            continue
        tests = _compare(a, b, reports[first], reports[second])
        if tests is not None:
            table.setdefault(first, {})[second] = tests
    return table


def _compare(a: Tested, b: Tested, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    if one.get("signal") != other.get("signal") or one.get("background") != other.get("background"):
        return None
    points = [float(point) for point in one["rejection"] if point in other["rejection"]]
    (labels, first, weights), (_, second, _) = _binary(a, one), _binary(b, other)
    if "classes" not in one:
        cuts = float(one["accuracy_threshold"]), float(other["accuracy_threshold"])
        return compare(labels, first, second, weights, thresholds=cuts, signal_efficiencies=points)
    if not np.any(labels) or np.all(labels):
        return None
    tests = compare(labels, first, second, weights, signal_efficiencies=points)
    right = [np.asarray(s.scores).argmax(axis=1) == np.asarray(s.labels) for s in (a, b)]
    tests["accuracy"] = compare_accuracy(right[0], right[1], a.weights)._asdict()
    tests["auc_kind"] = f"{one['signal']} against {one['background']}"
    return tests


def _binary(sample: Tested, report: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    scores = np.asarray(sample.scores)
    if "classes" not in report:
        names = [str(c) for c in sample.classes] if sample.classes is not None else ["0", "1"]
        chosen = names.index(str(report["signal"])) if "signal" in report else 1
        labels = np.asarray(sample.labels).astype(np.int64) == chosen
        if scores.ndim == 2:
            return labels, scores[:, chosen], sample.weights
        return labels, scores, sample.weights
    return signal_against_background(
        sample.labels,
        scores,
        sample.weights,
        classes=sample.classes,
        signal=group_members(str(report["signal"])),
        background=group_members(str(report["background"])),
    )


def _same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(np.asarray(first), np.asarray(second)))
