"""Pictures of motion: phase space, learned vector fields, energy against time, training curves, and animated rollouts.

Every function returns a figure (or writes a gif) and takes {name: states} with the truth under `truth`; nothing here touches pyplot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

COLOURS = {"truth": "#222222", "baseline": "#c8553d", "hnn": "#2a6f97", "best": "#3a7d44"}
_MORE = ["#8e5ea2", "#c9a227", "#5c6f7b", "#b56576"]
TRUTH = "truth"


def colour(name: str, names: Sequence[str]) -> str:
    """The same colour for the same name in every picture."""
    others = [n for n in names if n not in COLOURS]
    return COLOURS.get(name) or _MORE[others.index(name) % len(_MORE)]


def phase_space(states: Mapping[str, Tensor], coordinates: Sequence[str], *, space: int = 1) -> Figure:
    """One trajectory of each law: (q, p) for one degree of freedom, the paths of the bodies in the plane for more.

    Args:
        states: name -> [T, 2 d].
        coordinates: names of the coordinates.
        space: dimensions in which a body moves.
    """
    figure = _figure(3.2 * len(states), 3.2)
    axes = [figure.add_subplot(1, len(states), i + 1) for i in range(len(states))]
    bounds = _bounds(states[TRUTH], space)
    for axis, (name, z) in zip(axes, states.items(), strict=True):
        for line in _paths(z, space):
            axis.plot(line[:, 0], line[:, 1], color=colour(name, list(states)), lw=1)
            axis.plot(*line[0], "o", color=colour(name, list(states)), ms=3)
        axis.set(title=name, xlim=bounds[0], ylim=bounds[1], xlabel=coordinates[0])
        axis.set_ylabel(coordinates[len(coordinates) // 2] if space == 1 else coordinates[1])
    return figure


def energy_in_time(energies: Mapping[str, Tensor], times: Tensor) -> Figure:
    """Energy of one rollout of each law, name -> [T]; the range is that of the truth and the better laws."""
    figure = _figure(5.5, 3.4)
    axis = figure.add_subplot()
    for name, energy in energies.items():
        axis.plot(times, energy, label=name, color=colour(name, list(energies)), lw=2 if name == TRUTH else 1.3)
    spans = sorted(float((e - energies[TRUTH]).abs().max()) for n, e in energies.items() if n != TRUTH)
    if spans and np.isfinite(spans[0]):
        # one law that runs away must not flatten the others
        margin = min(spans[-1], 20 * spans[0] + 0.05 * float(energies[TRUTH].abs().max())) * 1.1 + 1e-12
        axis.set_ylim(float(energies[TRUTH].min()) - margin, float(energies[TRUTH].max()) + margin)
    axis.set(xlabel="time", ylabel="total energy")
    axis.legend(frameon=False)
    return figure


def vector_field(laws: Mapping[str, Callable[[Tensor], Tensor]], reach: float, cells: int = 15) -> Figure:
    """Fields of one degree of freedom on [-reach, reach]², each with its difference from the truth in colour."""
    line = torch.linspace(-reach, reach, cells, dtype=torch.float64)
    q, p = torch.meshgrid(line, line, indexing="xy")
    z = torch.stack((q, p), dim=-1).reshape(-1, 2)
    fields = {}
    for name, law in laws.items():
        with torch.no_grad():
            fields[name] = law(z)
    figure = _figure(3.2 * len(laws), 3.3)
    for i, (name, dz) in enumerate(fields.items()):
        axis = figure.add_subplot(1, len(laws), i + 1)
        if name != TRUTH:
            off = (dz - fields[TRUTH]).norm(dim=-1).reshape(cells, cells)
            axis.contourf(q, p, off, levels=12, cmap="Reds", alpha=0.6)
        axis.quiver(z[:, 0], z[:, 1], dz[:, 0], dz[:, 1], color=colour(name, list(laws)), width=4e-3)
        axis.set(title=name, xlabel="q", ylabel="p", aspect="equal")
    return figure


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training and test loss against the step, name -> entries with `step`, `train_loss`, `test_loss`."""
    figure = _figure(5.5, 3.4)
    axis = figure.add_subplot()
    for name, history in histories.items():
        steps = [entry["step"] for entry in history]
        axis.plot(steps, [e["train_loss"] for e in history], ls="--", color=colour(name, list(histories)), lw=1)
        axis.plot(steps, [e["test_loss"] for e in history], label=name, color=colour(name, list(histories)), lw=1.4)
    axis.set(xlabel="step", ylabel="loss (dashed: minimised, full: test, dz/dt)", yscale="log")
    axis.legend(frameon=False)
    return figure


def animate(path: Path, states: Mapping[str, Tensor], *, space: int = 1, frames: int = 60, rate: int = 20) -> Path:
    """Writes a gif of rollouts side by side.

    Args:
        path: of the gif; written beside its name and renamed.
        states: name -> [T, 2 d], the truth under `truth`.
        space: dimensions in which a body moves; 1 draws phase space.
        frames: pictures in the gif.
        rate: pictures a second.
    """
    figure = _figure(2.6 * len(states), 2.7)
    bounds, axes, artists = _bounds(states[TRUTH], space), [], []
    for i, name in enumerate(states):
        axis = figure.add_subplot(1, len(states), i + 1)
        axis.set(title=name, xlim=bounds[0], ylim=bounds[1], xticks=[], yticks=[])
        axes.append(axis)
        artists.append([_tail(axis, colour(name, list(states))) for _ in _paths(states[name], space)])
    length = next(iter(states.values())).shape[0]
    moments = np.unique(np.linspace(1, length - 1, frames).astype(int))
    partial = path.with_name(f".{path.name}.part.gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = PillowWriter(fps=rate)
    with writer.saving(figure, str(partial), dpi=70):
        for t in moments:
            for tails, z in zip(artists, states.values(), strict=True):
                for (tail, dot), line in zip(tails, _paths(z, space), strict=True):
                    tail.set_data(line[max(0, t - length // 4) : t + 1, 0], line[max(0, t - length // 4) : t + 1, 1])
                    dot.set_data([line[t, 0]], [line[t, 1]])
            writer.grab_frame()
    partial.replace(path)
    return path


def _tail(axis: Axes, shade: str) -> tuple:
    (tail,) = axis.plot([], [], color=shade, lw=1.2, alpha=0.7)
    (dot,) = axis.plot([], [], "o", color=shade, ms=6)
    return tail, dot


def _paths(z: Tensor, space: int) -> list[np.ndarray]:
    """Curves to draw, each [T, 2]: (q, p) for one degree of freedom, else (x, y) of each body."""
    array = z.detach().cpu().numpy()
    half = array.shape[1] // 2
    if space == 1:
        return [array[:, [i, half + i]] for i in range(half)]
    return [array[:, space * i : space * i + 2] for i in range(half // space)]


def _bounds(z: Tensor, space: int) -> tuple[tuple[float, float], tuple[float, float]]:
    points = np.concatenate(_paths(z, space))
    low, high = points.min(0), points.max(0)
    pad = 0.25 * (high - low) + 1e-9
    return (low[0] - pad[0], high[0] + pad[0]), (low[1] - pad[1], high[1] + pad[1])


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
