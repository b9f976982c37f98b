"""The field's figure of a tagger: background rejection against signal efficiency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.plots.names import BACKGROUND_REJECTION, SIGNAL_EFFICIENCY
from hepml.evaluation.plots.style import HouseFigure, is_crowded, looks_by_merit, style
from hepml.evaluation.published import Published
from hepml.evaluation.rejection import rejection_of
from hepml.evaluation.roc import Cuts, auc_with_error_of, make_cuts
from hepml.evaluation.tables import value_with_error

Jets = tuple[ArrayLike, ArrayLike, ArrayLike | None]
_GREYS = ("0.35", "0.55", "0.45", "0.65")
_MARKERS = "osD^vP"
_GRID = 400  # signal efficiencies at which curves are drawn
_MOST_BANDS = 5  # more curves than this hide each other under their bands


def plot_roc(
    taggers: Mapping[str, Jets | tuple[ArrayLike, ArrayLike]],
    *,
    reference: str | None = None,
    title: str | None = None,
    published: Sequence[Published] = (),
    areas: bool = True,
    smallest_efficiency: float = 0.05,
) -> Figure:
    """Background rejection against signal efficiency, with bands of one standard error, and the ratio to a
    reference below.

    Two to five taggers have the ratio panel, up to five have bands. A band spans R exp(±sigma_R / R), which
    is symmetric on the logarithmic axis and never negative. Where no background passes, arrows start from the
    lower limit at 90 % confidence. Of more than twelve taggers the ten of largest AUC are in colour, the rest
    in grey.

    Args:
        taggers: {name: (labels, scores, weights or None)}.
        reference: name of the tagger in the denominator of the ratio; the first where left out.
        title: of the legend: what is told from what.
        published: rows of a published table, drawn in grey through the working points that they quote.
        areas: write each tagger's AUC beside its name.
        smallest_efficiency: where the horizontal axis begins.

    Raises:
        DataError: no tagger, an unknown reference, or what `roc_curve` refuses.
    """
    if not taggers:
        raise DataError("there is no tagger to draw", mend="give {name: (labels, scores, weights)}")
    reference = next(iter(taggers)) if reference is None else reference
    if reference not in taggers:
        raise DataError(
            f"the reference '{reference}' is not among the taggers",
            mend="choose one of " + ", ".join(taggers),
        )
    grid = np.linspace(smallest_efficiency, 1.0, _GRID)
    curves = {name: _curve(make_cuts(*jets), grid) for name, jets in taggers.items()}
    few = len(curves) <= _MOST_BANDS
    with style():
        drawn = looks_by_merit({name: curve.area[0] for name, curve in curves.items()})
        many = bool(published) or is_crowded(len(curves))  # published points lie where the legend would
        figure = HouseFigure(13 if many else 8, 8.4 if few and len(curves) > 1 else 6.8)
        if few and len(curves) > 1:
            axes, ratio = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        else:
            axes, ratio = figure.subplots(), None
        base = curves[reference].value
        for name, look in drawn.items():
            curve, colour, line, label = curves[name], look.colour, look.line, look.label
            if areas and look.foremost:
                label = f"{name}, AUC {value_with_error(*curve.area)}"
            axes.plot(grid, curve.value, color=colour, linestyle=line, label=label, zorder=look.order)
            if few:
                band = np.exp(curve.relative_error)
                axes.fill_between(
                    grid, curve.value / band, curve.value * band, color=colour, alpha=0.2, linewidth=0
                )
                _draw_limit(axes, grid, curve, colour)
            if ratio is not None:
                share = curve.value / base
                ratio.plot(grid, share, color=colour, linestyle=line)
                ratio.fill_between(grid, share / band, share * band, color=colour, alpha=0.2, linewidth=0)
        axes.plot(grid, 1 / grid, color="0.6", linestyle=":", linewidth=1.5, label="random")
        points = _draw_published(axes, published)
        if few and any(curve.limit for curve in curves.values()):
            axes.plot(
                [],
                [],
                color="0.4",
                marker=r"$\uparrow$",
                markersize=13,
                linestyle=":",
                label="90 % CL lower limit",
            )
        axes.set_yscale("log")
        axes.set_xlim(smallest_efficiency, 1)
        axes.set_ylabel(BACKGROUND_REJECTION)
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        columns = 1 + (len(curves) > 5)
        legend = (
            figure.legend(loc="outside right upper", title=title)
            if many
            else axes.legend(loc="upper right", ncols=columns, title=title)
        )
        rows = 0 if many else math.ceil(len(legend.get_texts()) / columns) + bool(title)
        top = _top(grid, list(curves.values()), free=0.05 + 0.06 * rows * (1.35 if ratio else 1))
        axes.set_ylim(1, max([top, *(3 * y for y in points)]))
        bottom = axes
        if ratio is not None:
            _dress_ratio(ratio, [curve.value / base for curve in curves.values()], reference)
            bottom = ratio
        bottom.set_xlabel(SIGNAL_EFFICIENCY)
    return figure


class _Curve(NamedTuple):
    """1/eps_B on the grid (NaN where no background passes), its error over itself, the limit where none
    passes or None, and the area under the ROC curve with its error."""

    value: NDArray[np.float64]
    relative_error: NDArray[np.float64]
    limit: float | None
    area: tuple[float, float | None]


def _curve(cuts: Cuts, grid: NDArray[np.float64]) -> _Curve:
    efficiency = np.maximum.accumulate(cuts.signal / cuts.signal[-1])
    at = np.minimum(np.searchsorted(efficiency, grid * (1 - 1e-9)), len(efficiency) - 1)
    total, squares = float(cuts.background[-1]), float(cuts.background_squares[-1])
    passed = cuts.background[at].astype(np.float64)
    passed_squares = cuts.background_squares[at].astype(np.float64)
    # negative weights can leave next to nothing of many jets; a value is drawn where at least one jet's worth
    # passes
    enough = (passed > 0) & (passed**2 >= 0.999 * passed_squares)
    value = np.divide(total, passed, out=np.full(len(grid), np.nan), where=enough)
    variance = (
        (1 - 1 / value) ** 2 * passed_squares + (1 / value) ** 2 * (squares - passed_squares)
    ) / total**2
    tightest = rejection_of(cuts, float(grid[0]))
    return _Curve(
        value,
        np.sqrt(np.clip(variance, 0, None)) * value,
        tightest.value if tightest.lower_limit else None,
        auc_with_error_of(cuts),
    )


def _draw_published(axes: Axes, rows: Sequence[Published]) -> list[float]:
    """The working points of published taggers, joined: the curves themselves are in no paper. Returns the
    rejections."""
    values: list[float] = []
    for i, row in enumerate(rows):
        points = sorted((float(e), *value) for e, value in row.rejection.items())
        x, y, spread = zip(*points, strict=True)
        axes.errorbar(
            x, y, yerr=[s or 0.0 for s in spread], color=_GREYS[i % len(_GREYS)], linewidth=1.2, capsize=2,
            marker=_MARKERS[i % len(_MARKERS)], markersize=6,
            label=f"{row.name}, AUC {row.auc:.4f} (published)",
        )  # fmt: skip
        values += y
    return values


def _draw_limit(axes: Axes, grid: NDArray[np.float64], curve: _Curve, colour: str) -> None:
    """Arrows upwards from the limit, over the efficiencies at which no background passes."""
    if curve.limit is None:
        return
    reached = np.flatnonzero(np.isfinite(curve.value))
    end = grid[reached[0]] if len(reached) else grid[-1]
    axes.plot([grid[0], end], [curve.limit] * 2, color=colour, linestyle=":", linewidth=1.5)
    for x in np.linspace(grid[0], end, max(1, round(8 * (end - grid[0]))) + 2)[1:-1]:
        axes.annotate(
            "",
            xy=(x, curve.limit * 1.6),
            xytext=(x, curve.limit),
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0},
        )


def _top(grid: NDArray[np.float64], curves: list[_Curve], free: float) -> float:
    """Upper end of the axis: above every curve, and with a share `free` of the axis for the legend over the
    right half."""
    highest, right = 10.0, 1.0
    for curve in curves:
        level = np.where(np.isnan(curve.value), 2 * (curve.limit or 1.0), curve.value)  # arrows need room
        highest = max(highest, float(level.max()))
        right = max(right, float(level[grid > 0.5].max()))
    return max(highest * 3, float(right ** (1 / (1 - min(free, 0.6)))))


def _dress_ratio(axes: Axes, ratios: list[NDArray[np.float64]], reference: str) -> None:
    shown = np.concatenate(ratios)
    shown = shown[np.isfinite(shown)]
    low, high = np.quantile(shown, (0.01, 0.99)) if len(shown) else (1.0, 1.0)
    room = 0.15 * max(high - low, 0.1)
    axes.axhline(1.0, color="0.6", linewidth=1, zorder=0)
    axes.set_ylim(max(0.0, low - room), high + room)
    axes.set_ylabel(f"Ratio to\n{reference if len(reference) <= 14 else 'the first'}")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
