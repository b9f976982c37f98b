"""Figures that compare taggers by more than their ROC curves: rejection against cost, accuracy against
boost, AUC against training jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepml.errors import DataError
from hepml.evaluation.plots.names import BACKGROUND_REJECTION
from hepml.evaluation.plots.style import COLOURS, HouseFigure, is_crowded, looks, looks_by_merit, style

Point = tuple[float, float, float | None]  # x, y, error of y or None
_MARKERS = "osD^vPX*<>"


def plot_cost(
    taggers: Mapping[str, Point],
    *,
    published: Mapping[str, Point] | None = None,
    cost: str,
    efficiency: str = "0.3",
) -> Figure:
    """Background rejection against what a tagger costs, both logarithmic; published taggers in grey.

    Args:
        taggers: {name: (cost, 1/eps_B, its error)}.
        published: the same for published figures.
        cost: what the cost is, for the axis ("FLOP a jet", "Parameters").
        efficiency: signal efficiency of the rejection.

    Raises:
        DataError: no tagger.
    """
    _need(taggers)
    with style():
        figure = HouseFigure(9.5, 7)
        axes = figure.subplots()
        for i, (name, (x, y, error)) in enumerate((published or {}).items()):
            axes.errorbar(
                x, y, yerr=error, fmt="o", color="0.75", markersize=6, label="published" if i == 0 else None
            )
            axes.annotate(name, (x, y), xytext=(5, -11), textcoords="offset points", fontsize=10, color="0.6")
        for i, (name, (x, y, error)) in enumerate(taggers.items()):
            colour = COLOURS[i % len(COLOURS)]
            marker = _MARKERS[(i // len(COLOURS) + i) % len(_MARKERS)]
            axes.errorbar(x, y, yerr=error, fmt=marker, color=colour, markersize=9, capsize=3)
            axes.annotate(name, (x, y), xytext=(7, 6), textcoords="offset points", fontsize=12, color=colour)
        axes.set_xscale("log")
        axes.set_yscale("log")
        drawn = [*taggers.values(), *(published or {}).values()]
        axes.set_xlim(*_decades([x for x, _, _ in drawn], 10.0))
        axes.set_ylim(*_decades([y for _, y, _ in drawn], 3.0))
        axes.set_xlabel(cost)
        axes.set_ylabel(BACKGROUND_REJECTION + rf" at $\varepsilon_S = {efficiency}$")
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        if published:
            axes.legend(loc="lower right")
    return figure


def plot_boost(
    taggers: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float | None]]],
) -> Figure:
    """Accuracy on boosted jets against the boost's velocity; the axis is that of the rapidity, so that fast
    boosts have room.

    Args:
        taggers: {name: (velocities in [0, 1), accuracies, standard deviations over seeds or None)}.

    Raises:
        DataError: no tagger.
    """
    _need(taggers)
    # the legend in the order of the curves
    taggers = dict(sorted(taggers.items(), key=lambda item: float(np.mean(item[1][1])), reverse=True))
    many = is_crowded(len(taggers))
    with style():
        figure = HouseFigure(12 if many else 9, 7)
        axes = figure.subplots()
        ticks: list[float] = []
        drawn = looks_by_merit({name: float(np.mean(values)) for name, (_, values, _) in taggers.items()})
        for name, look in drawn.items():
            betas, values, errors = taggers[name]
            x = np.arctanh(np.asarray(betas, dtype=float))
            axes.plot(
                x, values, color=look.colour, linestyle=look.line, marker="o", markersize=4, label=look.label,
                zorder=look.order,
            )  # fmt: skip
            if look.foremost:
                _band(axes, x, values, errors, look.colour)
            ticks = [float(b) for b in betas]
        chosen = [b for b in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999) if b <= max(ticks)]
        axes.set_xticks(np.arctanh(chosen), [f"{b:g}" for b in chosen])
        axes.minorticks_off()
        axes.set_xlabel(r"Velocity $\beta$ of the boost along x")
        axes.set_ylabel("Accuracy")
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        if many:
            figure.legend(loc="outside right upper")
        else:
            axes.legend(loc="best", ncols=1 + (len(taggers) > 6))
    return figure


def plot_fractions(
    taggers: Mapping[str, Sequence[Point]],
    *,
    ylabel: str = "AUC",
    logarithmic: bool = False,
    published: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """A figure of merit against the number of training jets.

    Args:
        taggers: {name: [(training jets, value, its spread over seeds), …]}.
        published: curves of others, {name: [(training jets, value), …]}, in grey.

    Raises:
        DataError: no tagger.
    """
    _need(taggers)
    with style():
        figure = HouseFigure(8.5, 7)
        axes = figure.subplots()
        for name, others in (published or {}).items():
            axes.plot(*zip(*others, strict=True), color="0.7", linestyle="--", marker="o", label=name)
        for (name, points), (colour, line) in zip(taggers.items(), looks(len(taggers)), strict=True):
            x, y = [p[0] for p in points], [p[1] for p in points]
            error = [p[2] or 0.0 for p in points]
            axes.errorbar(
                x,
                y,
                yerr=error,
                color=colour,
                linestyle=line,
                marker="o",
                markersize=6,
                capsize=3,
                label=name,
            )
        axes.set_xscale("log")
        if logarithmic:
            axes.set_yscale("log")
        axes.set_xlabel("Training jets")
        axes.set_ylabel(ylabel)
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        axes.legend(loc="lower right")
    return figure


def _band(
    axes: Axes, x: np.ndarray, values: Sequence[float], errors: Sequence[float | None], colour: str
) -> None:
    if all(e is None for e in errors):
        return
    spread = np.array([0.0 if e is None else e for e in errors])
    y = np.asarray(values)
    axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)


def _decades(values: Sequence[float], least: float) -> tuple[float, float]:
    """Ends of a logarithmic axis around the values, at least a factor `least` apart, with room for names."""
    low, high = min(values), max(values)
    room = max(1.6, (least * low / high) ** 0.5)
    return low / room, high * room


def _need(taggers: Mapping[str, object]) -> None:
    if not taggers:
        raise DataError("there is no tagger to draw", mend="give at least one")
