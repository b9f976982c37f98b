"""The look of our figures: mplhep's ticks and fonts, colours that colour-blind readers can tell apart, and
how a figure is saved.

A figure here belongs to no window and changes no global setting of matplotlib, so that it can be drawn in a
training run on a machine without a screen. The ten colours are Petroff's (arXiv:2107.02270); curves differ by
line style as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import mplhep
from cycler import cycler
from matplotlib.figure import Figure

from hepml import outputs
from hepml.errors import FileError
from hepml.evaluation.plots.labels import put_label

COLOURS = (
    "#3f90da",
    "#bd1f01",
    "#ffa90e",
    "#832db6",
    "#92dadd",
    "#a96b59",
    "#e76300",
    "#717581",
    "#b9ac70",
    "#94a4a2",
)
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_MOST_COLOURED = 12  # more curves than these cannot be told apart
_MOST_INSIDE = 8  # more curves than these have their legend beside the axes


class HouseFigure(Figure):
    """A figure that keeps our style wherever it is saved: matplotlib looks up fonts only when it draws."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        self.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr,call-arg]

    def savefig(self, *arguments: Any, **options: Any) -> None:
        with style():
            put_label(self)
            super().savefig(*arguments, **options)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=60)
        return drawn.getvalue()


def is_crowded(count: int) -> bool:
    """Whether so many curves have their legend beside the axes, for which a figure is made wider."""
    return count > _MOST_INSIDE


def looks(count: int) -> list[tuple[str, Any]]:
    """A colour and a line style for each of `count` curves; no two alike up to fifty."""
    return [(COLOURS[i % len(COLOURS)], LINES[(i + i // len(COLOURS)) % len(LINES)]) for i in range(count)]


class Look(NamedTuple):
    """How one of many curves is drawn: in colour under its name, or in grey behind the others."""

    colour: str
    line: Any
    label: str | None
    foremost: bool

    @property
    def order(self) -> float:
        """matplotlib's `zorder`."""
        return 2.0 if self.foremost else 1.5


def looks_by_merit(merits: Mapping[str, float]) -> dict[str, Look]:
    """The look of each of many curves, in the order of the legend: as many as colours suffice for are told
    apart; of more, the ten of greatest merit, and the rest is grey, with one entry at the end.

    Args:
        merits: {name: what curves are ranked by}.
    """
    best = list(merits)
    if len(merits) > _MOST_COLOURED:
        best = sorted(merits, key=lambda name: merits[name], reverse=True)[: len(COLOURS)]
    rest = [name for name in merits if name not in best]
    coloured = zip(best, looks(len(best)), strict=True)
    grey = {
        name: Look("0.82", "-", None if i else f"{len(rest)} others", False) for i, name in enumerate(rest)
    }
    return {name: Look(colour, line, name, True) for name, (colour, line) in coloured} | grey


def style(size: float = 17) -> Any:
    """The style of the figures, as a context: mplhep's ROOT-like ticks and fonts at a size for slides and
    papers."""
    base = dict(mplhep.style.ROOT)
    return mpl.rc_context(
        {key: value for key, value in base.items() if key in mpl.rcParams}
        | {
            "font.size": size,
            "axes.labelsize": size + 1,
            "xtick.labelsize": size - 2,
            "ytick.labelsize": size - 2,
            "legend.fontsize": size - 3,
            "legend.title_fontsize": size - 3,
            "legend.frameon": False,
            "legend.borderaxespad": 1.2,
            "lines.linewidth": 2,
            "axes.prop_cycle": cycler(color=COLOURS),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.bbox": None,
        }
    )


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
    try:
        with outputs.writing(path, wait=True) as temporary:
            figure.savefig(temporary, format=ending, dpi=150)
    except OSError as error:
        raise FileError(f"cannot write the figure ({error.strerror})", where=str(path)) from error
    return path
