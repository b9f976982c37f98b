"""Figures in the field's style (mplhep): rejection against signal efficiency, scores, confusion matrix,
training history.

Every function returns a matplotlib `Figure` that is attached to no window and no global state; `save` writes
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import check_binary, check_multiclass
from hepml.evaluation.multiclass import bare_name, confusion_matrix
from hepml.evaluation.plots.rejection import Jets, plot_roc
from hepml.evaluation.plots.style import COLOURS, LINES, HouseFigure, looks, save, style

__all__ = [
    "plot_class_scores",
    "plot_confusion_matrix",
    "plot_history",
    "plot_roc",
    "plot_scores",
    "save",
]

MANY = 21  # classes that a figure has a panel, or cells with numbers, for


def plot_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str] = ("background", "signal"),
    train: Jets | tuple[ArrayLike, ArrayLike] | None = None,
    bins: int = 50,
    xlabel: str | None = None,
    title: str | None = None,
) -> Figure:
    """Distribution of the score for each class, each of area one, with statistical error bars; training jets
    as filled areas behind.

    Args:
        labels: 0 or 1 [N].
        scores: [N].
        weights: one a jet [N].
        classes: names of class 0 and class 1.
        train: (labels, scores, weights or None) of the training jets, to see overtraining.
        bins: number of bins, equal over the range of the scores ([0, 1] for probabilities).
        xlabel: what the score is; that of class 1 where left out.
        title: of the legend, for the sample.

    Raises:
        DataError: as `roc_curve`.
    """
    test = check_binary(labels, scores, weights)
    trained = None if train is None else check_binary(*train)
    samples = [test] if trained is None else [test, trained]
    low, high = min(float(s.min()) for _, s, _ in samples), max(float(s.max()) for _, s, _ in samples)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    with style():
        figure = HouseFigure(8, 6.8)
        axes = figure.subplots()
        top, bottom = 0.0, np.inf
        for index, name in enumerate(classes):
            colour = COLOURS[index]
            if trained is not None:
                density, _ = _density(trained, index, edges)
                mplhep.histplot(
                    density, edges, ax=axes, histtype="fill", color=colour, alpha=0.25, label=f"{name}, train"
                )
            density, error = _density(test, index, edges)
            label = name if trained is None else f"{name}, test"
            mplhep.histplot(
                density,
                edges,
                yerr=error,
                ax=axes,
                color=colour,
                linestyle=LINES[index],
                linewidth=1.8,
                label=label,
            )
            top = max(top, float(density.max()))
            bottom = min(bottom, float(density[density > 0].min(initial=np.inf)))
        axes.set_yscale("log")
        axes.set_ylim(0.5 * bottom, top * (top / bottom) ** 0.35)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(f"Score of {classes[1]}" if xlabel is None else xlabel)
        axes.set_ylabel("Probability density")
        axes.legend(loc="upper center", ncols=2, title=title)
    return figure


def plot_class_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str],
    bins: int = 40,
) -> Figure:
    """For each class a panel with the distribution of its score in jets of every class, [N, C] probabilities;
    of more than `MANY` classes, for those with the most jets.

    Raises:
        DataError: as `evaluate`.
    """
    y, p, w = check_multiclass(labels, scores, weights)
    names = _names(classes, p.shape[1])
    title = None
    if len(names) > MANY:
        title = f"the {MANY} of {len(names)} classes with the most jets"
        shown = np.sort(np.argsort(-np.bincount(y, minlength=len(names)), kind="stable")[:MANY])
        place = np.full(len(names), -1)
        place[shown] = np.arange(MANY)
        y, p, names = place[y], p[:, shown], [names[k] for k in shown]
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = -(-len(names) // columns)
    edges = np.linspace(0, 1, bins + 1)
    with style(14):
        figure = HouseFigure(4.4 * columns, 3.8 * rows + 0.9)
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel in panels.flat[len(names) :]:
            panel.set_visible(False)
        for k, axes in enumerate(panels.flat[: len(names)]):
            for j, (colour, line) in enumerate(looks(len(names))):
                of_class = y == j
                if not of_class.any():
                    continue
                density, _ = np.histogram(
                    p[of_class, k], edges, weights=None if w is None else w[of_class], density=True
                )
                width = 2.5 if j == k else 1.2
                mplhep.histplot(
                    density, edges, ax=axes, color=colour, linestyle=line, linewidth=width, label=names[j]
                )
            axes.set_yscale("log")
            axes.set_xlim(0, 1)
            axes.set_xlabel(f"Score of {names[k]}")
            if k % columns == 0:
                axes.set_ylabel("Probability density")
        present = [
            (name, *look)
            for j, (name, look) in enumerate(zip(names, looks(len(names)), strict=True))
            if (y == j).any()
        ]
        handles = [Line2D([], [], color=colour, linestyle=line, linewidth=2.5) for _, colour, line in present]
        figure.legend(
            handles,
            [f"true {name}" for name, _, _ in present],
            loc="outside upper center",
            ncols=min(5, len(present)),
            title=title,
        )
    return figure


def plot_confusion_matrix(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str],
    title: str | None = None,
) -> Figure:
    """Share of the jets of each true class (row) that gets each class as its highest score (column), in
    percent; of more than `MANY` classes by colour alone.

    Raises:
        DataError: as `evaluate`.
    """
    matrix = 100 * confusion_matrix(labels, scores, weights)
    names = _names(classes, len(matrix))
    many = len(names) > MANY
    side = max(5.5, 0.85 * min(len(names), MANY) + 2.2)
    with style(14):
        figure = HouseFigure(side + 1.2, side)
        axes = figure.subplots()
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
        for i, row in enumerate([] if many else matrix):
            for j, value in enumerate(row):
                text = "0" if value == 0 else f"{value:.1f}"
                axes.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    color="white" if value > 55 else "black",
                    fontsize=12,
                )
        positions = np.arange(len(names))
        axes.set_xticks(
            positions, names, rotation=45 if len(names) > 4 else 0, ha="right" if len(names) > 4 else "center"
        )
        axes.set_yticks(positions, names)
        if many:  # as high as a row is
            axes.tick_params(labelsize=min(14, 40 * side / len(names)))
        axes.tick_params(which="both", top=False, right=False, bottom=False, left=False)
        axes.minorticks_off()
        axes.set_xlabel("Predicted class", loc="center")
        axes.set_ylabel(f"True class, {title}" if title else "True class", loc="center")
        figure.colorbar(image, ax=axes, label="Share of the true class [%]", shrink=0.9)
    return figure


def plot_history(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Training and validation loss, and where known the validation AUC (or accuracy, or RMSE), by epoch; the
    best epoch is marked.

    Args:
        history: one mapping an epoch with `epoch` (from 0), `train_loss`, `val_loss`, and perhaps `val_auc`,
            `val_accuracy`, `val_rmse`.

    Raises:
        DataError: no epoch.
    """
    if not history:
        raise DataError("there is no epoch to draw", mend="train for at least one")
    epochs = np.array([row.get("epoch", i) for i, row in enumerate(history)], dtype=float) + 1
    names = {
        "val_auc": "Validation AUC",
        "val_accuracy": "Validation accuracy",
        "val_rmse": "Validation RMSE",
    }
    second = next((key for key in names if np.isfinite(_series(history, key)).any()), None)
    with style():
        figure = HouseFigure(8, 8 if second else 5.6)
        if second:
            axes, lower = figure.subplots(2, 1, sharex=True)
        else:
            axes, lower = figure.subplots(), None
        looks = (("train_loss", "training", COLOURS[0], "-"), ("val_loss", "validation", COLOURS[1], "--"))
        for key, label, colour, line in looks:
            values = _series(history, key)
            if np.isfinite(values).any():
                axes.plot(epochs, values, color=colour, linestyle=line, marker="o", markersize=5, label=label)
        validation = _series(history, "val_loss")
        best = epochs[np.nanargmin(validation)] if np.isfinite(validation).any() else None
        panels = [axes] if lower is None else [axes, lower]
        if best is not None:
            for panel in panels:
                panel.axvline(best, color="0.6", linestyle=":", linewidth=1.5, zorder=0)
            axes.plot(
                [],
                [],
                color="0.6",
                linestyle=":",
                linewidth=1.5,
                label=f"lowest validation loss (epoch {best:g})",
            )
        axes.set_ylabel("Loss")
        axes.legend(loc="upper right", frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)
        axes.margins(y=0.15)
        if lower is not None and second is not None:
            lower.plot(
                epochs, _series(history, second), color=COLOURS[1], linestyle="--", marker="o", markersize=5
            )
            lower.set_ylabel(names[second])
        panels[-1].set_xlabel("Epoch")
        spread = max(0.7, 0.03 * (epochs[-1] - epochs[0]))
        panels[-1].xaxis.set_major_locator(
            FixedLocator(epochs.tolist()) if len(epochs) < 6 else MaxNLocator(integer=True)
        )
        panels[-1].xaxis.set_minor_locator(NullLocator())
        panels[-1].set_xlim(epochs[0] - spread, epochs[-1] + spread)
    return figure


def _density(
    jets: tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64] | None],
    index: int,
    edges: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, s, w = jets
    selected = y == bool(index)
    weights = np.ones(int(selected.sum())) if w is None else w[selected]
    count, _ = np.histogram(s[selected], edges, weights=weights)
    squares, _ = np.histogram(s[selected], edges, weights=weights**2)
    scale = 1 / (weights.sum() * np.diff(edges))
    return count * scale, np.sqrt(squares) * scale


def _series(history: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=float)


def _names(classes: Sequence[str], count: int) -> list[str]:
    if len(classes) != count:
        raise DataError(f"{len(classes)} class names for {count} classes", mend="give one name a class")
    return [bare_name(str(name)) for name in classes]
