"""Efficiency and rejection in bins of a quantity of the jets, such as their pT: how one cut performs
there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml import kinematics
from hepml.errors import DataError
from hepml.evaluation.checks import adds_up, check_binary
from hepml.evaluation.rejection import CONFIDENCE, rejection_of
from hepml.evaluation.roc import make_cuts, weighted_share

BINS = 6


def in_bins(
    labels: ArrayLike,
    scores: ArrayLike,
    values: ArrayLike,
    signal_efficiency: float = 0.5,
    weights: ArrayLike | None = None,
    edges: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Signal efficiency, background efficiency (the mistag rate) and rejection in bins of `values`, at the
    one cut that has `signal_efficiency` on all jets.

    Args:
        labels: 1 for signal, [N].
        scores: higher is more signal-like, [N].
        values: of the jets, such as their pT, [N].
        signal_efficiency: of the cut, on all jets together.
        weights: one a jet, [N].
        edges: of the bins, rising; bins of equal numbers of jets where left out. Jets outside are in none.

    Returns:
        one entry a bin: {"low", "high", "signal_jets", "background_jets", "signal_efficiency",
        "signal_efficiency_error", "background_efficiency", "background_efficiency_error", "rejection",
        "rejection_error", "lower_limit"}. Errors are binomial (of weighted jets as in `accuracy`); where no
        background passes, the rejection is a lower limit at 90 % confidence. What cannot be known is None.

    Raises:
        DataError: as `evaluate`, or values that are no finite number a jet.
    """
    signal, s, w = check_binary(labels, scores, weights)
    x = np.asarray(values, dtype=np.float64)
    if x.shape != s.shape or not np.isfinite(x).all():
        raise DataError("the quantity of the bins is not one finite number a jet", mend="choose another one")
    passes = s >= rejection_of(make_cuts(signal, s, w), signal_efficiency).threshold
    limits = equal_bins(x) if edges is None else np.asarray(edges, dtype=np.float64)
    if len(limits) < 2 or (np.diff(limits) <= 0).any():
        raise DataError("the edges of the bins do not rise", mend="give at least two rising numbers")
    inside = np.digitize(x, limits) - 1
    inside[x == limits[-1]] = len(limits) - 2  # the last bin holds its upper edge
    rows = []
    for k, (low, high) in enumerate(pairwise(limits)):
        jets = inside == k
        entry: dict[str, Any] = {"low": float(low), "high": float(high)}
        for name, members in (("signal", jets & signal), ("background", jets & ~signal)):
            share = _share(passes[members], None if w is None else w[members])
            entry[f"{name}_jets"] = int(members.sum())
            entry[f"{name}_efficiency"], entry[f"{name}_efficiency_error"] = share
        background = jets & ~signal
        rows.append({**entry, **_rejection(entry, None if w is None else w[background])})
    return rows


def jet_pt(dataset: Any, step: int = 20_000) -> NDArray[np.float64]:
    """pT of every jet of a data set, [N] in GeV: the jet's own where the file has it, else that of the sum of
    its constituents."""
    pieces = [
        dataset.batch(np.arange(low, min(low + step, len(dataset)))) for low in range(0, len(dataset), step)
    ]
    return np.concatenate([kinematics.pt(piece.jets.double()).numpy() for piece in pieces])


def equal_bins(values: NDArray[np.float64], bins: int = BINS) -> NDArray[np.float64]:
    """Edges of bins of about equal numbers of jets; fewer where many values are equal."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.array([edges[0] - 0.5, edges[0] + 0.5])


def _share(passes: NDArray[np.bool_], w: NDArray[np.float64] | None) -> tuple[float | None, float | None]:
    if not len(passes) or (w is not None and not adds_up(w)):
        return None, None
    return weighted_share(passes, w)


def _rejection(entry: dict[str, Any], w: NDArray[np.float64] | None) -> dict[str, Any]:
    share, error = entry["background_efficiency"], entry["background_efficiency_error"]
    if share is None:
        return {"rejection": None, "rejection_error": None, "lower_limit": False}
    if share > 0:
        return {"rejection": 1 / share, "rejection_error": error / share**2, "lower_limit": False}
    if share < 0:  # negative weights: no limit follows from them here
        return {"rejection": None, "rejection_error": None, "lower_limit": False}
    jets = entry["background_jets"] if w is None else float(w.sum()) ** 2 / float(w @ w)
    upper = -math.expm1(math.log1p(-CONFIDENCE) / jets)
    return {"rejection": 1 / upper, "rejection_error": None, "lower_limit": True}
