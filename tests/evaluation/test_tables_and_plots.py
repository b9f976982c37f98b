"""Tables and figures: what a reader sees of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from hepml.errors import ConfigError, DataError, FileError
from hepml.evaluation import evaluate, evaluate_regression
from hepml.evaluation.plots import scores as plots
from hepml.evaluation.plots import style as plot_style
from hepml.evaluation.published import TOPTAG, published
from hepml.evaluation.tables import classes_table, regression_table, report_table, value_with_error

GENERATOR = np.random.default_rng(15)
LABELS = GENERATOR.integers(0, 2, 3000)
SCORES = 1 / (1 + np.exp(-GENERATOR.normal(3 * LABELS - 1.5, 1.5)))
CLASSES = GENERATOR.integers(0, 4, 2000)
ODDS = np.exp(GENERATOR.normal(size=(2000, 4)) + 2 * np.eye(4)[CLASSES])
PROBABILITIES = ODDS / ODDS.sum(axis=1, keepdims=True)
NAMES = ["b", "c", "uds", "g"]


def text_of(table: Any, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1294.32, 103.67, "1294 ± 104"),
        (0.9847725, 0.00014879, "0.98477 ± 0.00015"),
        (256.9, 9.29, "256.9 ± 9.3"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (1.0, 0.0, "1 ± 0"),
        (329.4, None, "329"),
        (0.98477, None, "0.98477"),
    ],
)
def test_a_value_is_given_to_the_digits_that_its_error_supports(
    value: float, error: float | None, text: str
) -> None:
    assert value_with_error(value, error) == text


def test_the_table_has_a_row_a_tagger_with_errors_and_fits_80_columns() -> None:
    report = evaluate(LABELS, SCORES)
    text = text_of(report_table({"mine": report}), width=80)
    row = next(line for line in text.splitlines() if "mine" in line)
    assert row.count("±") == 4
    assert value_with_error(report["auc"], report["auc_error"]) in row
    assert "…" not in text


def test_a_limit_is_shown_as_one_and_explained() -> None:
    text = text_of(report_table({"perfect": evaluate(LABELS, LABELS.astype(float))}))
    assert "> " in text
    assert "lower limit at 90 % confidence" in text


def test_published_rows_stand_below_ours() -> None:
    text = text_of(
        report_table({"mine": evaluate(LABELS, SCORES)}, published=published("toptag", ["PFN", "LorentzNet"]))
    )
    assert text.index("mine") < text.index("PFN") < text.index("LorentzNet")
    assert "891 ± 18" in text
    assert "2195 ± 173" in text


def test_published_results_are_named_once_and_unknown_names_refused() -> None:
    assert len({row.name for row in TOPTAG}) == len(TOPTAG)
    assert all(row.paper and 0.9 < row.auc < 1 and row.rejection["0.3"][0] > 100 for row in TOPTAG)
    with pytest.raises(ConfigError, match="did you mean 'LorentzNet'"):
        published("toptag", ["Lorentznet"])
    with pytest.raises(ConfigError, match="did you mean 'toptag'"):
        published("toptags")


def test_tables_of_classes_and_of_regressions_name_every_row() -> None:
    text = text_of(classes_table(evaluate(CLASSES, PROBABILITIES, classes=NAMES)))
    assert all(f" {name} " in text for name in NAMES)
    sigma = np.full((50, 2), 1.0)
    report = evaluate_regression(
        GENERATOR.normal(size=(50, 2)), np.zeros((50, 2)), sigma, names=["mass", "pt"]
    )
    text = text_of(regression_table({"pfn": report}, unit="GeV"))
    assert "pfn: mass" in text
    assert "pfn: pt" in text
    assert "Bias [GeV]" in text


def figures() -> dict[str, Figure]:
    history = [
        {"epoch": i, "train_loss": 0.5 / (i + 1), "val_loss": 0.6 / (i + 1), "val_auc": 0.9} for i in range(4)
    ]
    return {
        "roc": plots.plot_roc(
            {"one": (LABELS, SCORES), "two": (LABELS, SCORES**2 - 0.1 * GENERATOR.random(3000), None)}
        ),
        "roc of one": plots.plot_roc({"one": (LABELS, SCORES, np.ones(3000))}, title="toys"),
        "roc of many": plots.plot_roc(
            {str(i): (LABELS, SCORES + GENERATOR.normal(size=3000) / 5) for i in range(9)}
        ),
        "scores": plots.plot_scores(LABELS, SCORES, classes=("QCD", "top")),
        "scores with train": plots.plot_scores(LABELS, SCORES, np.ones(3000), train=(LABELS, SCORES)),
        "class scores": plots.plot_class_scores(CLASSES, PROBABILITIES, classes=NAMES),
        "confusion": plots.plot_confusion_matrix(CLASSES, PROBABILITIES, classes=NAMES),
        "history": plots.plot_history(history),
        "history of one epoch": plots.plot_history(history[:1]),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return figures()


@pytest.mark.parametrize(
    "name",
    [
        "roc",
        "roc of one",
        "roc of many",
        "scores",
        "scores with train",
        "class scores",
        "confusion",
        "history",
        "history of one epoch",
    ],
)
def test_no_text_of_a_figure_is_cut_off(drawn: dict[str, Figure], name: str, tmp_path: Path) -> None:
    figure = drawn[name]
    path = plots.save(figure, tmp_path / "figure.png")
    assert path.stat().st_size > 5000
    with plot_style.style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        whole = figure.get_tightbbox(canvas.get_renderer())  # inches
    assert whole.x0 >= 0
    assert whole.y0 >= 0
    assert whole.x1 <= figure.get_figwidth()
    assert whole.y1 <= figure.get_figheight()


def test_the_axes_say_what_the_field_says(drawn: dict[str, Figure]) -> None:
    upper, lower = drawn["roc"].axes
    assert lower.get_xlabel() == r"Signal efficiency $\varepsilon_S$"
    assert upper.get_ylabel() == r"Background rejection $1/\varepsilon_B$"
    assert upper.get_yscale() == "log"
    legend = [text.get_text().split(", AUC ")[0] for text in upper.get_legend().get_texts()]
    assert legend == ["one", "two", "random"]


def test_the_curve_goes_through_the_quoted_rejection(drawn: dict[str, Figure]) -> None:
    axes: Axes = drawn["roc of one"].axes[0]
    x, y = axes.lines[0].get_data()
    report = evaluate(LABELS, SCORES, signal_efficiencies=(0.5,))
    at = int(np.argmin(np.abs(x - 0.5)))
    assert y[at] == pytest.approx(report["rejection"]["0.5"]["value"], rel=0.1)


def test_score_histograms_have_area_one(drawn: dict[str, Figure]) -> None:
    heights = [
        patch.get_data().values for patch in drawn["scores"].axes[0].patches if hasattr(patch, "get_data")
    ]
    assert len(heights) == 2
    for values in heights:
        assert np.nansum(values) / 50 == pytest.approx(1.0)


def test_figures_leave_no_trace_in_matplotlib() -> None:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    plt.close("all")  # what other tests in this process left open
    before = dict(mpl.rcParams)
    plots.plot_roc({"one": (LABELS, SCORES)})
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_ending_chooses_the_format(drawn: dict[str, Figure], ending: str, tmp_path: Path) -> None:
    content = plots.save(drawn["roc of one"], tmp_path / "new folder" / f"roc.{ending}").read_bytes()
    assert content[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == [f"roc.{ending}"]


def test_what_cannot_be_drawn_is_refused(drawn: dict[str, Figure], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not end like a picture"):
        plots.save(drawn["roc"], tmp_path / "roc.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write the figure"):
        plots.save(drawn["roc"], tmp_path / "file" / "roc.png")
    with pytest.raises(DataError, match="no tagger"):
        plots.plot_roc({})
    with pytest.raises(DataError, match="reference 'x'"):
        plots.plot_roc({"one": (LABELS, SCORES)}, reference="x")
    with pytest.raises(DataError, match="no epoch"):
        plots.plot_history([])
    with pytest.raises(DataError, match="2 class names for 4"):
        plots.plot_confusion_matrix(CLASSES, PROBABILITIES, classes=["b", "c"])


def test_a_perfect_tagger_can_be_drawn(tmp_path: Path) -> None:
    """Its curve is empty wherever no background passes."""
    plots.save(plots.plot_roc({"perfect": (LABELS, LABELS), "other": (LABELS, SCORES)}), tmp_path / "roc.png")
    plots.save(plots.plot_scores(LABELS, LABELS), tmp_path / "scores.png")


def test_limits_are_drawn_as_arrows_where_no_background_passes() -> None:
    figure = plots.plot_roc({"perfect": (LABELS, LABELS)})
    axes = figure.axes[0]
    assert "90 % CL lower limit" in [text.get_text() for text in axes.get_legend().get_texts()]
    level = evaluate(LABELS, LABELS.astype(float))["rejection"]["0.3"]["value"]
    assert {round(arrow.xyann[1], 6) for arrow in axes.texts} == {round(level, 6)}
    assert len(axes.texts) >= 3
    assert not plots.plot_roc({"poor": (LABELS, GENERATOR.random(3000))}).axes[0].texts


def test_the_legend_lies_above_the_curves() -> None:
    figure = plots.plot_roc({str(i): (LABELS, SCORES) for i in range(5)})
    axes = figure.axes[0]
    with plot_style.style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = axes.get_legend().get_window_extent(canvas.get_renderer())
        for line in axes.lines[:5]:
            x, y = axes.transData.transform(np.stack(line.get_data(), axis=1)).T
            under = (x >= box.x0) & (x <= box.x1) & np.isfinite(y)
            assert under.any()
            assert (y[under] < box.y0).all()


def test_of_more_taggers_than_colours_the_best_ten_are_named_and_the_rest_is_grey() -> None:
    noise = GENERATOR.normal(size=len(LABELS))
    scores = {str(i): (LABELS, SCORES + i * noise) for i in range(15)}
    axes = plots.plot_roc(scores, areas=False).axes[0]
    named = [line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert named == [*map(str, range(10)), "5 others", "random"]
    grey = [line for line in axes.lines if line.get_color() == "0.82"]
    assert len(grey) == 5
    assert max(line.get_zorder() for line in grey) < axes.lines[0].get_zorder()


def test_figures_of_very_many_classes_keep_their_size() -> None:
    """JetClass-II has 188: with a panel for each, and a number in each cell, a figure would be 4 m wide."""
    rng = np.random.default_rng(0)
    classes, labels = [str(i) for i in range(100)], rng.integers(0, 100, 300)
    labels[:50] = 70
    probabilities = rng.dirichlet(np.ones(100), 300)
    panels = plots.plot_class_scores(labels, probabilities, classes=classes)
    confusion = plots.plot_confusion_matrix(labels, probabilities, classes=classes)
    for figure in (panels, confusion):
        assert max(figure.get_size_inches()) < 30
    shown = [axes.get_xlabel() for axes in panels.axes if axes.get_visible()]
    assert 3 < len(shown) < 30
    assert "Score of 70" in shown
    assert not confusion.axes[0].texts
