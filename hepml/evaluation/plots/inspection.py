"""The picture of `hepml inspect`: the main jet distributions of a file, one panel a column, one line a
class."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hepml.data.reading.inspection import Inspection
from hepml.errors import DataError
from hepml.evaluation.plots.names import words
from hepml.evaluation.plots.style import HouseFigure, looks, style


def plot_inspection(inspection: Inspection) -> Figure:
    """Normalised distributions of each class.

    Raises:
        DataError: there is nothing to draw, since the file holds no jets that could be read.
    """
    if not inspection.columns:
        raise DataError(
            "there is nothing to draw: no jets could be read", where=inspection.file, mend="give a layout"
        )
    across = min(3, len(inspection.columns))
    down = ceil(len(inspection.columns) / across)
    shown = list(dict.fromkeys(name for column in inspection.columns.values() for name in column.histograms))
    look = dict(zip(shown, looks(len(shown)), strict=True))
    with style(12):
        figure = HouseFigure(4.2 * across, 3.0 * down + 0.8)
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis, (name, column) in zip(axes, inspection.columns.items(), strict=False):
            for label, histogram in column.histograms.items():
                total, (colour, line) = histogram.sum(), look[label]
                share = histogram / total if total else histogram
                axis.stairs(share, column.edges, color=colour, linestyle=line, linewidth=1.5)
            axis.set_xlabel(words(name))
            axis.set_ylabel("Share of jets")
            axis.set_xlim(column.edges[0], column.edges[-1])
            axis.set_ylim(bottom=0)
        for axis in axes[len(inspection.columns) :]:
            axis.set_axis_off()
        handles = [Line2D([], [], color=c, linestyle=line, linewidth=2) for c, line in look.values()]
        if shown != ["jets"]:
            figure.legend(handles, shown, loc="outside upper right", ncols=min(6, len(shown)))
        figure.suptitle(
            f"{Path(inspection.file).name}: {inspection.jets:,} jets", x=0.02, ha="left", fontsize="medium"
        )
    return figure
