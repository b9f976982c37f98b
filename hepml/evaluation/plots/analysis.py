"""Figures that an analysis asks of a tagger: the background's mass after cuts, and the reliability of
probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hepml.evaluation.calibration import reliability
from hepml.evaluation.plots.style import HouseFigure, looks, style
from hepml.evaluation.sculpting import mass_sculpting


def plot_sculpting(
    labels: ArrayLike,
    scores: ArrayLike,
    masses: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    signal_efficiencies: Sequence[float] = (0.3, 0.5),
    bins: int = 30,
    unit: str = "GeV",
) -> Figure:
    """The background's mass without a cut and behind cuts, normalised, with each cut's divergence.

    Raises:
        DataError: as `mass_sculpting`.
    """
    sculpting = mass_sculpting(labels, scores, masses, weights, signal_efficiencies=signal_efficiencies)
    y, s, m = np.asarray(labels), np.asarray(scores), np.asarray(masses, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    low, high = np.quantile(m[y == 0], (0.0, 0.995)).tolist()
    edges = np.linspace(low, high, bins + 1)
    curves = [("all background", y == 0)]
    for point, values in sculpting.items():
        shown = "none passes" if values["divergence"] is None else f"JSD {values['divergence']:.3f} bit"
        curves.append((rf"$\epsilon_S$ = {point}: {shown}", (y == 0) & (s >= values["threshold"])))
    with style():
        figure = HouseFigure(8, 6)
        axes = figure.subplots()
        for (label, chosen), (colour, line) in zip(curves, looks(len(curves)), strict=True):
            counts, _ = np.histogram(m[chosen], edges, weights=w[chosen])
            share = counts / max(counts.sum(), 1e-300)
            mplhep.histplot(share, edges, ax=axes, color=colour, linestyle=line, label=label)
        axes.set_xlabel(f"Jet mass [{unit}]")
        axes.set_ylabel("Share of the background")
        axes.legend()
    return figure


def plot_reliability(samples: Mapping[str, Sequence[Any]], *, bins: int = 15) -> Figure:
    """Share of signal against score, in bins of the score.

    Args:
        samples: by name (labels, scores, weights).
        bins: of equal width.

    Raises:
        DataError: as `reliability`.
    """
    with style():
        figure = HouseFigure(7, 6)
        axes = figure.subplots()
        axes.plot((0, 1), (0, 1), color="#717581", linewidth=1)
        for (name, (y, s, w)), (colour, line) in zip(samples.items(), looks(len(samples)), strict=True):
            table = reliability(y, s, w, bins=bins)
            x, share, error = (
                [row[key] for row in table["bins"]] for key in ("score", "signal_share", "error")
            )
            axes.errorbar(
                x, share, yerr=error, color=colour, linestyle=line, marker="o", markersize=4, capsize=2,
                label=f"{name}, ECE {table['ece']:.3f}",
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("Score")
        axes.set_ylabel("Share of signal")
        axes.legend()
    return figure
