"""The picture of `hepml inspect`: the main jet distributions of a file, one panel a column, one line a
class."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from hepml.data.reading.inspection import Inspection
from hepml.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "jet_pt": "jet $p_T$ [GeV]",
    "jet_eta": r"jet $\eta$",
    "jet_phi": r"jet $\phi$",
    "jet_mass": "jet mass [GeV]",
    "jet_sdmass": "soft-drop mass [GeV]",
    "jet_nparticles": "constituents",
    "jet_tau1": r"$\tau_1$",
    "jet_tau2": r"$\tau_2$",
    "jet_tau3": r"$\tau_3$",
    "jet_tau4": r"$\tau_4$",
    "weight": "event weight",
    "aux_pthat": r"$\hat{p}_T$ [GeV]",
}


def plot_inspection(found: Inspection) -> Figure:
    """Normalised distributions of each class.

    Raises:
        DataError: there is nothing to draw, since the file holds no jets that could be read.
    """
    from matplotlib.figure import Figure

    if not found.columns:
        raise DataError(
            "there is nothing to draw: no jets could be read", where=found.file, mend="give a layout"
        )
    across = min(3, len(found.columns))
    down = ceil(len(found.columns) / across)
    figure = Figure(figsize=(4.2 * across, 3.0 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (name, column) in zip(axes, found.columns.items(), strict=False):
        for label, histogram in column.histograms.items():
            total = histogram.sum()
            axis.stairs(histogram / total if total else histogram, column.edges, label=label, linewidth=1.3)
        axis.set_xlabel(LABELS.get(name, name))
        axis.set_ylabel("share of jets")
        axis.margins(x=0)
    for axis in axes[len(found.columns) :]:
        axis.set_axis_off()
    if len(found.classes) <= 12:
        axes[0].legend(fontsize="small", frameon=False)
    figure.suptitle(f"{found.file}: {found.jets} jets", fontsize="medium")
    return figure
