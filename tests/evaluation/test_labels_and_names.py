"""Figures for a thesis: whose they are, published taggers beside ours, and words that a reader knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hepml.data.features import FEATURES
from hepml.evaluation.plots import scores as plots
from hepml.evaluation.plots.jets import plot_features
from hepml.evaluation.plots.labels import Label, labelled
from hepml.evaluation.plots.names import WORDS, words
from hepml.evaluation.published import LANDMARKS, published

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 400)
SCORES = np.clip(0.3 * RNG.random(400) + 0.5 * LABELS, 0, 1)


def said(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_label_stands_above_a_saved_figure_once(tmp_path: Path, ending: str) -> None:
    figure = plots.plot_confusion_matrix(LABELS, np.stack([1 - SCORES, SCORES], 1), classes=("QCD", "Tbqq"))
    with labelled(Label("CMS Work in progress", 13.6, 138)):
        for _ in range(2):
            assert plots.save(figure, tmp_path / f"x.{ending}").stat().st_size > 1000
    text = said(figure)
    assert text.count("CMS") == 1
    assert all(word in text for word in ("Work in progress", "13.6", "138", "Tbqq"))
    assert "CMS" not in said(plots.plot_roc({"one": (LABELS, SCORES)}))


def test_a_title_stands_above_the_label(tmp_path: Path) -> None:
    from hepml.evaluation.plots.jets import HouseFigure

    figure = HouseFigure(4, 4)
    axis = figure.add_subplot()
    axis.set_title("QCD, 4 jets")
    with labelled(Label("ATLAS Simulation", 13)):
        plots.save(figure, tmp_path / "x.png")
    words = [t for t in figure.findobj(Text) if "Simulation" in t.get_text()]
    label = max(t.get_window_extent().y1 for t in words)
    assert axis.title.get_window_extent().y0 >= label - 1


def test_the_parts_of_a_label() -> None:
    assert Label("atlas Simulation").experiment == "ATLAS"
    assert Label("atlas Simulation").status == "Simulation"
    assert (Label("Work in progress").experiment, Label("Work in progress").status) == (
        "",
        "Work in progress",
    )


def test_a_roc_names_taggers_areas_and_what_was_published() -> None:
    rows = published(names=list(LANDMARKS))
    text = said(plots.plot_roc({"mine": (LABELS, SCORES)}, title="Tbqq against QCD", published=rows))
    assert "mine, AUC " in text
    assert "Tbqq against QCD" in text
    for row in rows:
        assert f"{row.name}, AUC {row.auc:.4f} (published)" in text


def test_every_feature_has_a_word_for_readers() -> None:
    assert set(FEATURES) <= set(WORDS)
    assert "ln p_T" in words("log_pt").replace("\\", "")
    assert words("part_my_column") == "My column"
    figure = plot_features({"QCD": {"log_pt": 1.0, "delta_r": 2.0}}, kind="gradient")
    assert "log_pt" not in said(figure)
