"""Jets drawn on their eta-phi disc: constituents as circles of area proportional to pT, coloured by what a
tagger sees in them.

Positions are relative to the jet axis. A `Disc` is one drawn jet; figures lay several side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from hepml.errors import DataError
from hepml.evaluation.plots.names import all_words
from hepml.evaluation.plots.style import COLOURS, HouseFigure, style
from hepml.evaluation.saliency import Filters

Array = NDArray[Any]
SIGNED = "RdBu_r"
AMOUNT = "viridis"
_FILTERS = 32


@dataclass(frozen=True)
class Disc:
    """One jet as it is drawn.

    Args:
        positions: [N, 2] delta_eta, delta_phi.
        pt_share: [N] of the jet's transverse momentum.
        title: above the panel.
    """

    positions: Array
    pt_share: Array
    title: str

    @property
    def reach(self) -> float:
        """Distance of the farthest constituent from the axis."""
        return float(np.hypot(*self.positions.T).max(initial=0.0))


def plot_saliency(
    discs: Sequence[Disc], rows: Mapping[str, Sequence[Array]], *, toward: str, radius: float
) -> Figure:
    """One column a jet, one row a kind of saliency; red pulls towards `toward`, blue away from it. One colour
    scale a row.

    Args:
        discs: the jets.
        rows: for each kind, [N] a jet.
        toward: what a positive value pulls towards.
        radius: of the drawn circle.

    Raises:
        DataError: no jet.
    """
    _some(discs)
    with style(13):
        figure = HouseFigure(3.3 * len(discs) + 1.3, 3.15 * len(rows) + 0.9)
        panels = figure.subplots(len(rows), len(discs), squeeze=False, sharex=True, sharey=True)
        for row, (line, (kind, values)) in enumerate(zip(panels, rows.items(), strict=True)):
            limit = _limit(np.concatenate([np.abs(v) for v in values]))
            norm = Normalize(-limit, limit)
            for k, (axes, disc, value) in enumerate(zip(line, discs, values, strict=True)):
                _frame(axes, disc, radius, title=row == 0)
                shown = _circles(axes, disc, value, SIGNED, norm)
                _labels(axes, left=k == 0, bottom=row == len(rows) - 1)
            figure.colorbar(
                shown, ax=list(line), label=f"{kind}\n(+: {toward})", shrink=0.85, pad=0.015, aspect=24,
                extend=_extend(np.concatenate(list(values)), norm),
            )  # fmt: skip
    return figure


def plot_edges(
    discs: Sequence[Disc],
    layers: Sequence[str],
    edges: Sequence[Sequence[tuple[Array, Array | None]]],
    *,
    weight: str,
    radius: float,
    received: Sequence[Sequence[Array]] | None = None,
) -> Figure:
    """One row a jet, one column a layer: lines between constituents that the layer joins, darker for larger
    weights.

    Args:
        discs: the jets.
        layers: titles of the columns.
        edges: for each jet and layer, [2, E] (source, target) and [E] weights or None. The colour of a circle
            is the weight that goes out from it (or the number of edges), that is how much others listen to
            it.
        weight: what a weight is, for the colour bar.
        radius: of the drawn circle.
        received: for each jet and layer, [N] colours, where the edges that are drawn are not all there are.

    Raises:
        DataError: no jet.
    """
    _some(discs)
    with style(13):
        figure = HouseFigure(3.5 * len(layers) + 1.4, 3.5 * len(discs) + 0.7)
        panels = figure.subplots(len(discs), len(layers), squeeze=False, sharex=True, sharey=True)
        for row, (line, disc, own) in enumerate(zip(panels, discs, edges, strict=True)):
            heard = (
                [_heard(len(disc.pt_share), *joined) for joined in own] if received is None else received[row]
            )
            norm = Normalize(0, max([float(h.max(initial=0.0)) for h in heard] + [1e-9]))
            for k, (axes, name, (pairs, weights), value) in enumerate(
                zip(line, layers, own, heard, strict=True)
            ):
                _frame(axes, disc, radius, title=False)
                _lines(axes, disc, pairs, weights)
                shown = _circles(axes, disc, value, AMOUNT, norm)
                _labels(axes, left=k == 0, bottom=row == len(discs) - 1)
                if row == 0:
                    axes.set_title(name, fontsize="medium")
                if k == 0:
                    axes.set_ylabel(f"{disc.title}\n$\\Delta\\phi$", loc="center")
            figure.colorbar(
                shown, ax=list(line), label=weight, shrink=0.85, pad=0.015, aspect=24,
                extend=_extend(np.concatenate(list(heard)), norm),
            )  # fmt: skip
    return figure


def plot_average(
    maps: Mapping[str, Array], extent: float, *, toward: str, radius: float, jets: Mapping[str, int]
) -> Figure:
    """The average saliency of each class over the disc, jet after jet on its own axis: sum a cell and jet.

    Args:
        maps: for each class, [bins, bins] with delta_eta along the first axis.
        extent: of the square, from -extent to extent.
        toward: what a positive value pulls towards.
        radius: of the drawn circle.
        jets: how many were averaged, by class.
    """
    limit = _limit(np.concatenate([np.abs(m).ravel() for m in maps.values()]), share=99.8)
    with style(14):
        figure = HouseFigure(4.6 * len(maps) + 1.2, 4.9)
        panels = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
        for k, (axes, (name, values)) in enumerate(zip(panels, maps.items(), strict=True)):
            shown = axes.imshow(
                values.T,
                origin="lower",
                extent=(-extent, extent, -extent, extent),
                cmap=SIGNED,
                norm=TwoSlopeNorm(0, -limit, limit),
                interpolation="nearest",
            )
            axes.add_patch(Circle((0, 0), radius, fill=False, color="0.4", linestyle=":", linewidth=1))
            axes.set_title(f"{name}, {jets[name]} jets", fontsize="medium")
            _labels(axes, left=k == 0, bottom=True)
        figure.colorbar(
            shown, ax=list(panels), label=f"mean saliency a cell\n(+: {toward})", shrink=0.9, pad=0.015,
            extend=_extend(np.concatenate([m.ravel() for m in maps.values()]), Normalize(-limit, limit)),
        )  # fmt: skip
    return figure


def plot_features(means: Mapping[str, Mapping[str, float]], *, kind: str) -> Figure:
    """Mean saliency by input, a bar a class; the strongest on top.

    Args:
        means: for each class, by input.
        kind: of saliency, for the axis.
    """
    classes = list(means)
    names = sorted(means[classes[0]], key=lambda n: max(means[c][n] for c in classes))
    height = 0.8 / len(classes)
    with style(14):
        figure = HouseFigure(7.5, max(3.2, 0.42 * len(names) + 1.6))
        axes = figure.subplots()
        at = np.arange(len(names))
        for k, name in enumerate(classes):
            shift = (k - (len(classes) - 1) / 2) * height
            axes.barh(
                at - shift,
                [means[name][n] for n in names],
                height,
                color=COLOURS[k % len(COLOURS)],
                label=name,
            )
        axes.set_yticks(at, all_words(names))
        axes.minorticks_off()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"Mean |{kind}| of a jet")
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.legend(loc="lower right")
    return figure


def plot_filters(filters: Filters) -> Figure:
    """The first kernels of a model: pictures for images, a table of weights for maps and sequences."""
    kernels = filters.kernels.float().cpu().numpy()
    limit = _limit(np.abs(kernels), share=99.5)
    norm = Normalize(-limit, limit)
    with style(12):
        if kernels.ndim == 4:
            shown_of = kernels[:_FILTERS, :4].reshape(-1, *kernels.shape[2:])[:_FILTERS]
            columns = min(8, len(shown_of))
            rows = -(-len(shown_of) // columns)
            figure = HouseFigure(1.25 * columns + 1.2, 1.25 * rows + 0.8)
            panels = figure.subplots(rows, columns, squeeze=False).ravel()
            for axes in panels:
                axes.set_axis_off()
            for axes, kernel in zip(panels, shown_of, strict=False):
                shown = axes.imshow(kernel, cmap=SIGNED, norm=norm)
            figure.suptitle(f"{filters.layer}: {len(shown_of)} of {len(kernels)} filters", fontsize="medium")
            extend = _extend(shown_of, norm)
            figure.colorbar(shown, ax=list(panels), label="weight", shrink=0.8, extend=extend)
            return figure
        table = kernels.reshape(len(kernels), -1)
        names = all_words(filters.inputs) or tuple(str(i) for i in range(kernels.shape[1]))
        places = kernels.shape[2] if kernels.ndim == 3 else 1
        order = np.argsort(-np.abs(table).max(axis=1), kind="stable")
        figure = HouseFigure(min(14.0, 0.09 * len(table) + 4.2), max(3.0, 0.27 * table.shape[1] + 1.5))
        axes = figure.subplots()
        shown = axes.imshow(table[order].T, cmap=SIGNED, norm=norm, aspect="auto", interpolation="nearest")
        axes.set_yticks(np.arange(len(names)) * places + (places - 1) / 2, names)
        axes.minorticks_off()
        axes.tick_params(axis="both", length=0)
        axes.set_xlabel(f"units of {filters.layer}, strongest first")
        for k in range(1, len(names)):
            if places > 1:
                axes.axhline(k * places - 0.5, color="0.7", linewidth=0.8)
        figure.colorbar(shown, ax=axes, label="weight", pad=0.015, extend=_extend(table, norm))
    return figure


def strongest(weights: Array, edges: int = 150) -> tuple[Array, Array]:
    """The largest off-diagonal entries of an attention matrix [N, N] (row attends to column) as [2, E]
    (source, target) and [E]."""
    own = weights - np.diag(np.diag(weights))
    flat = np.argsort(-own, axis=None, kind="stable")[: min(edges, own.size)]
    target, source = np.unravel_index(flat, own.shape)
    kept = own[target, source] > 0
    return np.stack((source, target))[:, kept], own[target, source][kept]


def _heard(count: int, pairs: Array, weights: Array | None) -> Array:
    apart = pairs[0] != pairs[1]
    return np.bincount(pairs[0][apart], None if weights is None else weights[apart], minlength=count).astype(
        float
    )


def _lines(axes: Axes, disc: Disc, pairs: Array, weights: Array | None) -> None:
    if not pairs.shape[1]:
        return
    ends = disc.positions[pairs.T]  # [E, 2 ends, 2]
    if weights is None:
        strength = np.full(len(ends), min(0.5, 60 / len(ends)) + 0.04)
    else:
        strength = 0.02 + 0.78 * (weights / max(float(weights.max()), 1e-12)) ** 1.5
    colours = np.zeros((len(ends), 4))
    colours[:, :3], colours[:, 3] = 0.25, strength
    axes.add_collection(LineCollection(list(ends), colors=colours, linewidths=0.9, zorder=1))


def _circles(axes: Axes, disc: Disc, values: Array, colours: str, norm: Normalize) -> Any:
    order = np.argsort(-disc.pt_share, kind="stable")  # the soft on top of the hard
    x, y = disc.positions[order].T
    return axes.scatter(
        x,
        y,
        s=14 + 900 * disc.pt_share[order],
        c=values[order],
        cmap=colours,
        norm=norm,
        edgecolors="0.35",
        linewidths=0.5,
        zorder=2,
    )


def _frame(axes: Axes, disc: Disc, radius: float, *, title: bool) -> None:
    axes.add_patch(Circle((0, 0), radius, fill=False, color="0.6", linestyle=":", linewidth=1.2))
    axes.set_aspect("equal")
    side = 1.08 * radius
    axes.set_xlim(-side, side)
    axes.set_ylim(-side, side)
    if title:
        axes.set_title(disc.title, fontsize="medium")


def _labels(axes: Axes, *, left: bool, bottom: bool) -> None:
    if bottom:
        axes.set_xlabel(r"$\Delta\eta$", loc="center")
    if left:
        axes.set_ylabel(r"$\Delta\phi$", loc="center")


def _limit(values: Array, share: float = 98.0) -> float:
    known = values[np.isfinite(values)]
    high = float(np.percentile(known, share)) if known.size else 0.0
    return high if high > 0 else max(float(known.max(initial=0.0)), 1e-9)


def _extend(values: Array, norm: Normalize) -> Any:
    """The arrows of a colour bar: at the ends beyond which there are values."""
    known = values[np.isfinite(values)]
    low = bool((known < norm.vmin).any()) if norm.vmin is not None else False
    high = bool((known > norm.vmax).any()) if norm.vmax is not None else False
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        low, high
    ]


def _some(discs: Sequence[Disc]) -> None:
    if not discs:
        raise DataError("there is no jet with constituents to draw", mend="give a file that has some")
