"""Efficiency and rejection in bins of a jet's quantity, with their uncertainties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from hepml.errors import DataError
from hepml.evaluation.plots.names import BACKGROUND_REJECTION, SIGNAL_EFFICIENCY, words
from hepml.evaluation.plots.style import HouseFigure, looks, style


def plot_bins(
    taggers: Mapping[str, Sequence[Mapping[str, Any]]], quantity: str, *, title: str | None = None
) -> Figure:
    """Signal efficiency above, background rejection below, against a jet's quantity; arrows where only a
    lower limit is known.

    Args:
        taggers: {name: what `hepml.evaluation.binned.in_bins` gave}.
        quantity: name of it.
        title: of the legend, as what is told from what.

    Raises:
        DataError: no tagger.
    """
    if not taggers:
        raise DataError("there is no tagger to draw")
    with style():
        figure = HouseFigure(8, 8.4)
        above, below = figure.subplots(2, 1, sharex=True)
        for (name, bins), (colour, _) in zip(taggers.items(), looks(len(taggers)), strict=True):
            middles = [(b["low"] + b["high"]) / 2 for b in bins]
            halves = [(b["high"] - b["low"]) / 2 for b in bins]
            for axes, value, error in (
                (above, "signal_efficiency", "signal_efficiency_error"),
                (below, "rejection", "rejection_error"),
            ):
                known = [i for i, b in enumerate(bins) if b[value] is not None]
                axes.errorbar(
                    [middles[i] for i in known],
                    [bins[i][value] for i in known],
                    xerr=[halves[i] for i in known],
                    yerr=[bins[i][error] or 0.0 for i in known],
                    color=colour,
                    linestyle="none",
                    marker="o",
                    markersize=4,
                    label=name,
                )
            for i, b in enumerate(bins):
                if b["lower_limit"]:
                    below.annotate(
                        "",
                        (middles[i], 1.6 * b["rejection"]),
                        (middles[i], b["rejection"]),
                        arrowprops={"arrowstyle": "->", "color": colour},
                    )
        above.set_ylabel(SIGNAL_EFFICIENCY)
        below.set_ylabel(BACKGROUND_REJECTION)
        below.set_yscale("log")
        low, high = below.get_ylim()
        middle, factor = (
            (low * high) ** 0.5,
            max((high / low) ** 0.5, 5.0),
        )  # a decade at least has proper ticks
        below.set_ylim(middle / factor, middle * factor)
        below.set_xlabel(words(f"jet_{quantity}"))
        above.legend(title=title)
    return figure
