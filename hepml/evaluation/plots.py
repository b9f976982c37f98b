"""Figures in the field's style (mplhep): rejection against signal efficiency, scores, confusion matrix, training history.

Every function returns a matplotlib `Figure` that is attached to no window and no global state, so that it can be drawn in a training run
on a machine without a screen. Colours are Petroff's (arXiv:2107.02270), chosen to be told apart by colour-blind readers, and taggers
differ by line style as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError, FileError
from hepml.evaluation.checks import check_binary, check_multiclass
from hepml.evaluation.multiclass import bare_name, confusion_matrix
from hepml.evaluation.roc import Cuts, make_cuts

SIGNAL_EFFICIENCY = r"Signal efficiency $\varepsilon_S$"
BACKGROUND_REJECTION = r"Background rejection $1/\varepsilon_B$"
COLOURS = ("#3f90da", "#bd1f01", "#ffa90e", "#832db6", "#92dadd", "#a96b59", "#e76300", "#717581", "#b9ac70", "#94a4a2")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_GRID = 400  # signal efficiencies at which curves are drawn
_MOST_BANDS = 5  # more curves than this hide each other under their bands
Jets = tuple[ArrayLike, ArrayLike, ArrayLike | None]


def plot_roc(
    taggers: Mapping[str, Jets | tuple[ArrayLike, ArrayLike]],
    *,
    reference: str | None = None,
    title: str | None = None,
    smallest_efficiency: float = 0.05,
) -> Figure:
    """Background rejection against signal efficiency, with bands of one standard error, and the ratio to a reference below.

    Two to five taggers have the ratio panel, up to five have bands. A curve ends where fewer than two background jets' worth of weight
    pass, below which only a limit could be drawn.

    Args:
        taggers: {name: (labels, scores, weights or None)}.
        reference: name of the tagger in the denominator of the ratio; the first where left out.
        title: above the figure, at the right, for the sample.
        smallest_efficiency: where the horizontal axis begins.

    Raises:
        DataError: no tagger, an unknown reference, or what `roc_curve` refuses.
    """
    if not taggers:
        raise DataError("there is no tagger to draw", mend="give {name: (labels, scores, weights)}")
    reference = next(iter(taggers)) if reference is None else reference
    if reference not in taggers:
        raise DataError(
            f"the reference '{reference}' is not among the taggers", mend="choose one of " + ", ".join(taggers)
        )
    grid = np.linspace(smallest_efficiency, 1.0, _GRID)
    curves = {name: _rejection_on(make_cuts(*jets), grid) for name, jets in taggers.items()}
    several = 1 < len(curves) <= _MOST_BANDS
    with _style():
        figure = _HouseFigure(8, 8.4 if several else 6.8)
        if several:
            axes, ratio = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        else:
            axes, ratio = figure.subplots(), None
        highest = max(10.0, max(float(np.nanmax(value, initial=1.0)) for value, _ in curves.values()))
        for (name, (value, error)), (colour, line) in zip(curves.items(), _looks(len(curves)), strict=True):
            axes.plot(grid, value, color=colour, linestyle=line, label=name)
            low = np.clip(value - error, 1.0, None)
            if len(curves) <= _MOST_BANDS:
                axes.fill_between(grid, low, value + error, color=colour, alpha=0.2, linewidth=0)
            if ratio is not None:
                base = curves[reference][0]
                ratio.plot(grid, value / base, color=colour, linestyle=line)
                ratio.fill_between(
                    grid, (value - error) / base, (value + error) / base, color=colour, alpha=0.2, linewidth=0
                )
        axes.plot(grid, 1 / grid, color="0.6", linestyle=":", linewidth=1.5, label="random")
        axes.set_yscale("log")
        axes.set_ylim(1, highest * 3)
        axes.set_xlim(smallest_efficiency, 1)
        axes.set_ylabel(BACKGROUND_REJECTION)
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        axes.legend(loc="upper right", ncols=1 + (len(curves) > 5))
        if title:
            axes.set_title(title, loc="right", fontsize="small")
        bottom = axes
        if ratio is not None:
            _dress_ratio(ratio, [v / curves[reference][0] for v, _ in curves.values()], reference)
            bottom = ratio
        bottom.set_xlabel(SIGNAL_EFFICIENCY)
    return figure


def plot_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str] = ("background", "signal"),
    train: Jets | tuple[ArrayLike, ArrayLike] | None = None,
    bins: int = 50,
    xlabel: str = "Signal score",
    title: str | None = None,
) -> Figure:
    """Distribution of the score for each class, each of area one, with statistical error bars; training jets as filled areas behind.

    Args:
        labels: 0 or 1 [N].
        scores: [N].
        weights: one a jet [N].
        classes: names of class 0 and class 1.
        train: (labels, scores, weights or None) of the training jets, to see overtraining.
        bins: number of bins, equal over the range of the scores ([0, 1] for probabilities).

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
    with _style():
        figure = _HouseFigure(8, 6.8)
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
                density, edges, yerr=error, ax=axes, color=colour, linestyle=_LINES[index], linewidth=1.8, label=label
            )
            top = max(top, float(density.max()))
            bottom = min(bottom, float(density[density > 0].min(initial=np.inf)))
        axes.set_yscale("log")
        axes.set_ylim(0.5 * bottom, top * (top / bottom) ** 0.35)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(xlabel)
        axes.set_ylabel("Probability density")
        axes.legend(loc="upper center", ncols=2)
        if title:
            axes.set_title(title, loc="right", fontsize="small")
    return figure


def plot_class_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    classes: Sequence[str],
    bins: int = 40,
) -> Figure:
    """For each class a panel with the distribution of its score in jets of every class, [N, C] probabilities.

    Raises:
        DataError: as `evaluate`.
    """
    y, p, w = check_multiclass(labels, scores, weights)
    names = _names(classes, p.shape[1])
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = -(-len(names) // columns)
    edges = np.linspace(0, 1, bins + 1)
    with _style(14):
        figure = _HouseFigure(4.4 * columns, 3.8 * rows + 0.9)
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel in panels.flat[len(names) :]:
            panel.set_visible(False)
        for k, axes in enumerate(panels.flat[: len(names)]):
            for j, (colour, line) in enumerate(_looks(len(names))):
                of_class = y == j
                if not of_class.any():
                    continue
                density, _ = np.histogram(
                    p[of_class, k], edges, weights=None if w is None else w[of_class], density=True
                )
                width = 2.5 if j == k else 1.2
                mplhep.histplot(density, edges, ax=axes, color=colour, linestyle=line, linewidth=width, label=names[j])
            axes.set_yscale("log")
            axes.set_xlim(0, 1)
            axes.set_xlabel(f"Score of {names[k]}")
            if k % columns == 0:
                axes.set_ylabel("Probability density")
        present = [
            (name, *look)
            for j, (name, look) in enumerate(zip(names, _looks(len(names)), strict=True))
            if (y == j).any()
        ]
        handles = [Line2D([], [], color=colour, linestyle=line, linewidth=2.5) for _, colour, line in present]
        figure.legend(
            handles, [f"true {name}" for name, _, _ in present], loc="outside upper center", ncols=min(5, len(present))
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
    """Share of the jets of each true class (row) that gets each class as its highest score (column), in percent.

    Raises:
        DataError: as `evaluate`.
    """
    matrix = 100 * confusion_matrix(labels, scores, weights)
    names = _names(classes, len(matrix))
    side = max(5.5, 0.85 * len(names) + 2.2)
    with _style(14):
        figure = _HouseFigure(side + 1.2, side)
        axes = figure.subplots()
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                text = "0" if value == 0 else f"{value:.1f}"
                axes.text(j, i, text, ha="center", va="center", color="white" if value > 55 else "black", fontsize=12)
        positions = np.arange(len(names))
        axes.set_xticks(
            positions, names, rotation=45 if len(names) > 4 else 0, ha="right" if len(names) > 4 else "center"
        )
        axes.set_yticks(positions, names)
        axes.tick_params(which="both", top=False, right=False, bottom=False, left=False)
        axes.minorticks_off()
        axes.set_xlabel("Predicted class", loc="center")
        axes.set_ylabel("True class", loc="center")
        if title:
            axes.set_title(title, loc="right", fontsize="small")
        figure.colorbar(image, ax=axes, label="Share of the true class [%]", shrink=0.9)
    return figure


def plot_history(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Training and validation loss, and where known the validation AUC (or accuracy, or RMSE), by epoch; the best epoch is marked.

    Args:
        history: one mapping an epoch with `epoch` (from 0), `train_loss`, `val_loss`, and perhaps `val_auc`, `val_accuracy`, `val_rmse`.

    Raises:
        DataError: no epoch.
    """
    if not history:
        raise DataError("there is no epoch to draw", mend="train for at least one")
    epochs = np.array([row.get("epoch", i) for i, row in enumerate(history)], dtype=float) + 1
    names = {"val_auc": "Validation AUC", "val_accuracy": "Validation accuracy", "val_rmse": "Validation RMSE"}
    second = next((key for key in names if np.isfinite(_series(history, key)).any()), None)
    with _style():
        figure = _HouseFigure(8, 8 if second else 5.6)
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
                [], [], color="0.6", linestyle=":", linewidth=1.5, label=f"lowest validation loss (epoch {best:g})"
            )
        axes.set_ylabel("Loss")
        axes.legend(loc="upper right", frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)
        axes.margins(y=0.15)
        if lower is not None and second is not None:
            lower.plot(epochs, _series(history, second), color=COLOURS[1], linestyle="--", marker="o", markersize=5)
            lower.set_ylabel(names[second])
        panels[-1].set_xlabel("Epoch")
        spread = max(0.7, 0.03 * (epochs[-1] - epochs[0]))
        panels[-1].xaxis.set_major_locator(
            FixedLocator(epochs.tolist()) if len(epochs) < 6 else MaxNLocator(integer=True)
        )
        panels[-1].xaxis.set_minor_locator(NullLocator())
        panels[-1].set_xlim(epochs[0] - spread, epochs[-1] + spread)
    return figure


def save(figure: Figure, path: Path | str) -> Path:
    """Writes a figure; the ending (png, pdf, svg) chooses the format.

    Raises:
        FileError: an ending that is not a picture's, or a folder that cannot be written.
    """
    path = Path(path)
    known = figure.canvas.get_supported_filetypes()
    ending = path.suffix.removeprefix(".").lower()
    if ending not in known:
        raise FileError(
            f"'{path.name}' does not end like a picture", where=str(path), mend="end it in .png, .pdf or .svg"
        )
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format=ending, dpi=150)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise FileError(f"cannot write the figure ({error.strerror})", where=str(path)) from error
    return path


class _HouseFigure(Figure):
    """A figure that keeps our style wherever it is saved: matplotlib looks up fonts only when it draws."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        self.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr,call-arg]

    def savefig(self, *arguments: Any, **options: Any) -> None:
        with _style():
            super().savefig(*arguments, **options)


def _rejection_on(cuts: Cuts, grid: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1/eps_B and its counting error at each signal efficiency of a grid, NaN where fewer than two jets' worth pass."""
    efficiency = np.maximum.accumulate(cuts.signal / cuts.signal[-1])
    at = np.minimum(np.searchsorted(efficiency, grid * (1 - 1e-9)), len(efficiency) - 1)
    total, squares = float(cuts.background[-1]), float(cuts.background_squares[-1])
    passed = cuts.background[at].astype(np.float64)
    passed_squares = cuts.background_squares[at].astype(np.float64)
    enough = (passed > 0) & (passed**2 >= 2 * passed_squares)
    value = np.divide(total, passed, out=np.full(len(grid), np.nan), where=enough)
    variance = ((1 - 1 / value) ** 2 * passed_squares + (1 / value) ** 2 * (squares - passed_squares)) / total**2
    return value, np.sqrt(np.clip(variance, 0, None)) * value**2


def _dress_ratio(axes: Axes, ratios: list[NDArray[np.float64]], reference: str) -> None:
    shown = np.concatenate(ratios)
    shown = shown[np.isfinite(shown)]
    low, high = np.quantile(shown, (0.01, 0.99)) if len(shown) else (1.0, 1.0)
    room = 0.15 * max(high - low, 0.1)
    axes.axhline(1.0, color="0.6", linewidth=1, zorder=0)
    axes.set_ylim(max(0.0, low - room), high + room)
    axes.set_ylabel(f"Ratio to\n{reference if len(reference) <= 14 else 'the first'}")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)


def _density(
    jets: tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64] | None], index: int, edges: NDArray[np.float64]
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


def _looks(count: int) -> list[tuple[str, Any]]:
    """A colour and a line style for each of `count` curves; no two alike up to fifty."""
    return [(COLOURS[i % len(COLOURS)], _LINES[(i + i // len(COLOURS)) % len(_LINES)]) for i in range(count)]


def _style(size: float = 17) -> Any:
    """The style of the figures, as a context: mplhep's ROOT-like ticks and fonts at a size for slides and papers."""
    base = dict(mplhep.style.ROOT)
    return mpl.rc_context(
        {key: value for key, value in base.items() if key in mpl.rcParams}
        | {
            "font.size": size,
            "axes.labelsize": size + 1,
            "xtick.labelsize": size - 2,
            "ytick.labelsize": size - 2,
            "legend.fontsize": size - 3,
            "legend.frameon": False,
            "legend.borderaxespad": 1.2,
            "lines.linewidth": 2,
            "axes.prop_cycle": cycler(color=COLOURS),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.bbox": None,
        }
    )
