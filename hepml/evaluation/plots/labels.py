"""Whose figure it is: experiment and status above the axes at the left, luminosity and energy at the
right, as mplhep writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import matplotlib as mpl
import mplhep
from matplotlib.figure import Figure

EXPERIMENTS = ("CMS", "ATLAS", "LHCb", "ALICE", "DUNE")


class Label(NamedTuple):
    """The label of a figure.

    Attributes:
        text: an experiment, a status, or both: `CMS`, `Work in progress`, `ATLAS Simulation Preliminary`.
        energy: centre-of-mass energy in TeV.
        luminosity: in inverse femtobarn.
    """

    text: str | None = None
    energy: float | None = None
    luminosity: float | None = None

    @property
    def experiment(self) -> str:
        """The experiment that the text begins with, as it spells itself; empty where it names none."""
        first = (self.text or "").split(" ")[0]
        return next((name for name in EXPERIMENTS if name.lower() == first.lower()), "")

    @property
    def status(self) -> str:
        """The rest of the text."""
        return (self.text or "")[len(self.experiment) :].strip()


_current: ContextVar[Label | None] = ContextVar("label", default=None)


@contextmanager
def labelled(label: Label) -> Iterator[None]:
    """Figures that are saved in the block carry this label."""
    token = _current.set(label if any(part is not None for part in label) else None)
    try:
        yield
    finally:
        _current.reset(token)


def put_label(figure: Figure) -> None:
    """Writes the current label above the first panel, once."""
    label = _current.get()
    if label is None or not figure.axes or getattr(figure, "hepml_label", None) == label:
        return
    figure.draw_without_rendering()  # mplhep measures its words in the panel as it stands
    left = figure.axes[0]
    level = left.get_position().y1
    row = [a for a in figure.axes if abs(a.get_position().y1 - level) < 1e-3 and a.xaxis.get_visible()]
    right = max((a for a in row if a.get_label() != "<colorbar>"), key=lambda a: a.get_position().x1)
    energy = None if label.energy is None else f"{label.energy:g}"
    lumi = None if label.luminosity is None else f"{label.luminosity:g}"
    words = len(label.text or "") + (16 if right is left and (energy or lumi) else 0)
    room = left.get_position().width * figure.get_figwidth() * 72
    size = min(float(mpl.rcParams["font.size"]), 1.6 * room / max(words, 1))
    for panel in row:  # a title of its own stands above the label
        if panel.get_title():
            title = panel.title
            panel.set_title(title.get_text(), fontsize=title.get_fontsize(), pad=1.8 * size)
    if label.text:
        mplhep.label.exp_label(
            exp=label.experiment, text=label.status, data=True, rlabel="", loc=0, ax=left, fontsize=size
        )
    if energy or lumi:
        mplhep.label.exp_label(data=True, com=energy, lumi=lumi, loc=0, ax=right, fontsize=size)
    figure.hepml_label = label  # type: ignore[attr-defined]
