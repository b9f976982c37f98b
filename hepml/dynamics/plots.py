"""Pictures of motion: phase space, learned vector fields, energy against time, training curves, and animated
rollouts.

Every function returns a figure (or writes a gif) and takes {name: states} with the truth under `truth`;
nothing here touches pyplot. A law has the same colour in all of them (Petroff's colours, arXiv:2107.02270),
and the truth lies in grey under what a law makes of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor

from hepml import outputs

TRUTH = "truth"
COLOURS = {TRUTH: "#222222", "baseline": "#bd1f01", "hnn": "#3f90da", "best": "#832db6"}
_MORE = ["#e76300", "#ffa90e", "#a96b59", "#717581"]
_GHOST = "#c8c8c8"
_STYLE: Any = {  # keys are literals to the type checker
    "font.size": 11,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "mathtext.fontset": "dejavusans",
}


def colour(name: str, names: Sequence[str]) -> str:
    """The same colour for the same name in every picture."""
    others = [n for n in names if n not in COLOURS]
    return COLOURS.get(name) or _MORE[others.index(name) % len(_MORE)]


def phase_space(states: Mapping[str, Tensor], coordinates: Sequence[str], *, space: int = 1) -> Figure:
    """One trajectory of each law over the true one: (q, p) for one degree of freedom, else the paths of the
    bodies in the plane.

    Args:
        states: name -> [T, 2 d].
        coordinates: names of the coordinates.
        space: dimensions in which a body moves.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(2.9 * len(states) + 0.5, 3.3)
        true = _paths(states[TRUTH], space)
        x_label, y_label = (
            _symbol(coordinates[0]),
            _symbol(coordinates[len(coordinates) // 2 if space == 1 else 1]),
        )
        if space > 1:
            x_label, y_label = (label.split("_")[0].strip("$") for label in (x_label, y_label))
            x_label, y_label = f"${x_label}$", f"${y_label}$"
        axes = _row(figure, len(states), _bounds(true))
        for axis, (name, z) in zip(axes, states.items(), strict=True):
            shade = colour(name, list(states))
            for body, (line, wanted) in enumerate(zip(_paths(z, space), true, strict=True)):
                if name != TRUTH:
                    axis.plot(wanted[:, 0], wanted[:, 1], color=_GHOST, lw=2.4, zorder=1)
                axis.plot(line[:, 0], line[:, 1], color=shade, lw=1.3, alpha=_alpha(body), zorder=2)
                axis.plot(*line[0], "o", color=shade, mfc="white", ms=5, zorder=3)
                axis.plot(*line[-1], "o", color=shade, ms=5, alpha=_alpha(body), zorder=3)
            axis.set(title=name, xlabel=x_label)
        axes[0].set_ylabel(y_label)
    return figure


def energy_in_time(energies: Mapping[str, Tensor], times: Tensor) -> Figure:
    """Energy of one rollout of each law, name -> [T], above its distance from the true one, which has a
    logarithmic scale."""
    with mpl.rc_context(_STYLE):
        figure = _figure(6.0, 5.2)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        true = energies[TRUTH]
        for name, energy in energies.items():
            shade = colour(name, list(energies))
            front = (
                {"color": _GHOST, "lw": 5, "zorder": 1}
                if name == TRUTH
                else {"color": shade, "lw": 1.5, "zorder": 2}
            )
            above.plot(times, energy, label=name, **front)
            if name != TRUTH:
                off = (energy - true).abs()[1:]
                below.plot(times[1:], off.clamp_min(1e-16), color=shade, lw=1.5)
        above.set_ylabel("energy $E$")
        _show_all(above, list(energies.values()), true)
        above.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
        below.set(xlabel="time", ylabel=r"$|E - E_\mathrm{true}|$", yscale="log", xlim=(0, float(times[-1])))
        figure.align_ylabels()
    return figure


def _show_all(axes: Axes, energies: Sequence[Tensor], true: Tensor) -> None:
    """Bounds of an axis of energies that hold every curve whole; where one law runs away, the axis is linear
    near the truth, so that it does not flatten the others, and logarithmic beyond."""
    finite = [e[torch.isfinite(e)] for e in energies]
    low, high = min(float(e.min()) for e in finite), max(float(e.max()) for e in finite)
    off = sorted(float((e - true)[torch.isfinite(e)].abs().max()) for e in energies if e is not true)
    near = max(20 * off[0], 0.05 * float(true.abs().max())) if off else 0.0
    if off and off[-1] > 10 * near > 0:
        middle = float(true.mean())
        reach = near + float(true.max() - true.min())

        def forward(y: Any) -> Any:
            return np.arcsinh((np.asarray(y) - middle) / reach)

        def back(y: Any) -> Any:
            return middle + reach * np.sinh(np.asarray(y))

        axes.set_yscale("function", functions=(forward, back))
        axes.set_ylabel("energy $E$ (logarithmic far off)")
        axes.yaxis.set_major_locator(FixedLocator(_bent_ticks(low, high, middle, reach)))
        axes.yaxis.set_minor_locator(NullLocator())
        room = 0.06 * float(forward(high) - forward(low))
        axes.set_ylim(float(back(forward(low) - room)), float(back(forward(high) + room)))
        return
    room = 0.06 * (high - low) + 1e-12
    axes.set_ylim(low - room, high + room)


def _bent_ticks(low: float, high: float, middle: float, reach: float) -> list[float]:
    """Ticks of the bent axis: the middle, and powers of ten beyond it on either side."""
    first = math.ceil(math.log10(reach))
    last = math.ceil(math.log10(max(high - middle, middle - low, reach)))
    steps = [10.0**k for k in range(first, last + 1)][:: max(1, (last - first) // 3)]
    ticks = {round(middle, -first + 1), *(s for s in steps if s <= high), *(-s for s in steps if -s >= low)}
    return sorted(ticks)


def vector_field(laws: Mapping[str, Callable[[Tensor], Tensor]], reach: float, cells: int = 61) -> Figure:
    """Stream lines of one degree of freedom on [-reach, reach]², with the size of the error of each law in
    colour beneath."""
    line = torch.linspace(-reach, reach, cells, dtype=torch.float64)
    q, p = torch.meshgrid(line, line, indexing="xy")
    z = torch.stack((q, p), dim=-1).reshape(-1, 2)
    with torch.no_grad():
        fields = {name: law(z).reshape(cells, cells, 2).numpy() for name, law in laws.items()}
    off = {n: np.linalg.norm(dz - fields[TRUTH], axis=-1) for n, dz in fields.items() if n != TRUTH}
    with mpl.rc_context(_STYLE):
        figure = _figure(2.9 * len(laws) + 1.2, 3.4)
        axes = _row(figure, len(laws), ((-reach, reach), (-reach, reach)))
        # A law may have points where it is not finite (a mass matrix without an inverse): they stay blank.
        sizes = [float(np.quantile(o[np.isfinite(o)], 0.98)) for o in off.values() if np.isfinite(o).any()]
        top = max(sizes, default=1.0)
        reach_of_colour = max(1e-4 * top, 1e-12), max(top, 1e-11)
        norm = LogNorm(*reach_of_colour)
        shown = None
        for axis, (name, dz) in zip(axes, fields.items(), strict=True):
            if name in off:
                shown = axis.pcolormesh(
                    line.numpy(),
                    line.numpy(),
                    np.ma.masked_invalid(off[name]).clip(*reach_of_colour),
                    norm=norm,
                    cmap="YlOrRd",
                    rasterized=True,
                )
            flow = axis.streamplot(
                line.numpy(),
                line.numpy(),
                np.ma.masked_invalid(dz[..., 0]),
                np.ma.masked_invalid(dz[..., 1]),
                color="#222222",
                density=0.8,
                linewidth=0.8,
            )
            flow.arrows.set_zorder(3)
            axis.set(title=name, xlabel="$q$", xlim=(-reach, reach), ylim=(-reach, reach))
        axes[0].set_ylabel("$p$")
        if shown is not None:
            figure.colorbar(shown, ax=axes, label=r"error of $\dot z$", extend="both", pad=0.02)
    return figure


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """What was minimised and the test loss against the step, name -> entries with `step`, `train_loss`,
    `test_loss`."""
    with mpl.rc_context(_STYLE):
        figure = _figure(6.6, 3.7)
        axis = figure.add_subplot()
        for name, history in histories.items():
            steps, shade = [entry["step"] for entry in history], colour(name, list(histories))
            axis.plot(steps, [e["train_loss"] for e in history], ls=":", color=shade, lw=1.2)
            axis.plot(steps, [e["test_loss"] for e in history], color=shade, lw=1.6)
        axis.set(xlabel="step", ylabel="loss", yscale="log", xlim=(0, None))
        handles = [Line2D([], [], color=colour(n, list(histories)), lw=2, label=n) for n in histories]
        handles += [
            Line2D([], [], color="#555555", lw=1.6, label=r"test, $\dot z$"),
            Line2D([], [], color="#555555", lw=1.2, ls=":", label="minimised"),
        ]
        axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def animate(
    path: Path, states: Mapping[str, Tensor], *, space: int = 1, frames: int = 60, rate: int = 20
) -> Path:
    """Writes a gif of rollouts side by side, the truth in grey under each.

    Args:
        path: of the gif; written beside its name and renamed.
        states: name -> [T, 2 d], the truth under `truth`.
        space: dimensions in which a body moves; 1 draws phase space.
        frames: pictures in the gif.
        rate: pictures a second.
    """
    true = _paths(states[TRUTH], space)
    with mpl.rc_context(_STYLE):
        figure, artists = _figure(2.6 * len(states), 2.9), []
        axes = _row(figure, len(states), _bounds(true))
        for axis, (name, z) in zip(axes, states.items(), strict=True):
            axis.set(title=name, xticks=[], yticks=[])
            axis.minorticks_off()
            shade, lines = colour(name, list(states)), _paths(z, space)
            ghosts = [] if name == TRUTH else [(_tail(axis, _GHOST, 3.0, 9.0), line) for line in true]
            artists += ghosts + [(_tail(axis, shade, 1.5, 6.0), line) for line in lines]
        length = len(states[TRUTH])
        moments = np.unique(np.linspace(1, length - 1, frames).astype(int))
        writer = PillowWriter(fps=rate)
        with outputs.writing(path, wait=True) as partial, writer.saving(figure, str(partial), dpi=90):
            for t in moments:
                begin = max(0, t - length // 4)
                for (tail, dot), line in artists:
                    tail.set_data(line[begin : t + 1, 0], line[begin : t + 1, 1])
                    dot.set_data([line[t, 0]], [line[t, 1]])
                writer.grab_frame()
    return path


def _tail(axis: Axes, shade: str, width: float, size: float) -> tuple[Line2D, Line2D]:
    (tail,) = axis.plot([], [], color=shade, lw=width, alpha=0.8)
    (dot,) = axis.plot([], [], "o", color=shade, ms=size)
    return tail, dot


def _row(figure: Figure, count: int, bounds: tuple[tuple[float, float], tuple[float, float]]) -> list[Axes]:
    """Panels side by side with the same bounds and equal scales in both directions."""
    axes = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
    for axis in axes:
        axis.set(xlim=bounds[0], ylim=bounds[1])
        axis.set_aspect("equal", adjustable="box")
    return list(axes)


def _alpha(body: int) -> float:
    """Bodies of one law differ in strength."""
    return max(0.35, 1 - 0.25 * body)


def _paths(z: Tensor, space: int) -> list[np.ndarray]:
    """Curves to draw, each [T, 2]: (q, p) for one degree of freedom, else (x, y) of each body."""
    array = z.detach().cpu().numpy()
    half = array.shape[1] // 2
    if space == 1:
        return [array[:, [i, half + i]] for i in range(half)]
    return [array[:, space * i : space * i + 2] for i in range(half // space)]


def _bounds(paths: Sequence[np.ndarray]) -> tuple[tuple[float, float], tuple[float, float]]:
    """A square around all curves, so that equal scales fill it."""
    points = np.concatenate(list(paths))
    low, high = points.min(0), points.max(0)
    reach, centre = 0.58 * float((high - low).max()) + 1e-9, 0.5 * (low + high)
    return (float(centre[0] - reach), float(centre[0] + reach)), (
        float(centre[1] - reach),
        float(centre[1] + reach),
    )


def _symbol(name: str) -> str:
    """A coordinate's name as mathematics: x1 becomes $x_1$, px $p_x$."""
    letters = re.fullmatch(r"(p?)([a-z])(\d*)", name)
    if letters is None or name in ("p", "q"):
        return f"${name}$"
    p, axis, number = letters.groups()
    below = f"{axis}{number}" if p else number
    return f"${'p' if p else axis}_{{{below}}}$" if below else f"${axis}$"


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
