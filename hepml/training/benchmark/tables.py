"""A leaderboard for people: as tables for the terminal and as a Markdown page, cell by cell the same.

Every table is a title, headings and rows of text; one function draws them with rich, the other writes
Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from hepml.evaluation.tables import EPSILON_B, p_value, value_with_error

NONE = "—"
SEEDS = "over seeds"


@dataclass
class Sheet:
    """A table before it is drawn.

    Args:
        title: above it.
        headings: of the columns.
        rows: texts; a row that begins with `»` is a published one.
        notes: below it.
    """

    title: str
    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sheets(board: Mapping[str, Any]) -> Iterator[Sheet]:
    """The tables of a leaderboard: quality beside the published figures, ensembles, cost, sample efficiency,
    boosts, failures."""
    if board["taggers"]:
        yield _quality(board)
        if board.get("paired"):
            yield _paired(board)
        if any(row["ensemble"] for row in board["taggers"]):
            yield _ensembles(board)
        yield _cost(board)
    if board.get("out_of_fold"):
        yield _out_of_fold(board)
    if board["fractions"]:
        yield _fractions(board)
    if any("betas" in row for row in board["boost"]):
        yield _boost(board)
    if board["failed"]:
        yield Sheet("Runs without a result", ["Run", "Why"], [[n, why] for n, why in board["failed"].items()])


def rich_tables(board: Mapping[str, Any]) -> Iterator[Table]:
    """The tables as rich draws them, published rows in grey."""
    for sheet in sheets(board):
        table = Table(
            title=sheet.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for i, heading in enumerate(sheet.headings):
            table.add_column(
                heading, justify="right" if i else "left", overflow="fold", no_wrap=bool(i) and i < 12
            )
        for row in sheet.rows:
            table.add_row(*map(Text, row), style="dim" if row[0].startswith("»") else "")
        table.caption, table.caption_justify = "\n".join(sheet.notes) or None, "left"
        yield table


def markdown(board: Mapping[str, Any], *, title: str = "Leaderboard", command: str | None = None) -> str:
    """The leaderboard as a Markdown page."""
    parts = [f"# {title}", ""]
    if command:
        parts += ["```bash", command, "```", ""]
    for sheet in sheets(board):
        parts += [f"## {sheet.title}", "", _line(sheet.headings)]
        parts.append("|" + "|".join("---" if i == 0 else "---:" for i in range(len(sheet.headings))) + "|")
        parts += [_line(row) for row in sheet.rows]
        parts += ["", *(f"- {note}" for note in sheet.notes), ""]
    if board["remarks"]:
        parts += ["## Remarks", "", *(f"- {remark}" for remark in board["remarks"]), ""]
    return "\n".join(parts).rstrip() + "\n"


def cell(figure: Mapping[str, Any] | None) -> str:
    """`0.9386 ± 0.0007` where a column has to do with one error: the spread over seeds, or that of the test
    jets where there is one seed."""
    if not figure or figure.get("std") is None:
        return of_test_jets(figure)
    return of_test_jets({**figure, "error": figure["std"]})


def of_test_jets(figure: Mapping[str, Any] | None) -> str:
    """The mean over seeds with the statistical error of the test jets."""
    if not figure or figure.get("mean") is None:
        return NONE
    return value_with_error(figure["mean"], figure.get("error"), lower_limit=bool(figure.get("lower_limit")))


def over_seeds(figure: Mapping[str, Any] | None) -> str:
    """The standard deviation over seeds; a dash where there is one seed."""
    if not figure or figure.get("std") is None:
        return NONE
    return value_with_error(figure["std"], None) if figure["std"] >= 1 else f"{figure['std']:.2g}"


# ------------------------------------------------------------------------------------------------------------
# sheets


def _quality(board: Mapping[str, Any]) -> Sheet:
    points, others = board["points"], board["tests"][1:]
    several = any(len(row["seeds"]) > 1 for row in board["taggers"])
    headings = ["Tagger", "Seeds"]
    for name in ("Accuracy", "AUC", *(f"{EPSILON_B} @ {p}" for p in points)):
        headings += [name, SEEDS] if several else [name]
    headings += [f"{name} on {test}" for test in others for name in ("AUC", "Accuracy")]
    first = board["tests"][0]
    sheet = Sheet(f"Leaderboard on {first}", headings)
    for row in board["taggers"]:
        cells = [row["label"], str(len(row["seeds"]))]
        for figure in (row["accuracy"], row["auc"], *(row["rejection"].get(p) for p in points)):
            cells += [of_test_jets(figure), over_seeds(figure)] if several else [of_test_jets(figure)]
        for test in others:
            report = row["tests"].get(test) or {}
            cells += [of_test_jets(report.get("auc")), of_test_jets(report.get("accuracy"))]
        sheet.rows.append(cells)
        known = row["published"]
        if known is not None:
            published = [f"» {known['name']}, arXiv:{known['paper']}", ""]
            for figure in (f"{known['accuracy']:g}", f"{known['auc']:g}"):
                published += [figure, NONE] if several else [figure]
            for p in points:
                value, spread = known["rejection"].get(p) or (None, None)
                columns = [NONE if value is None else f"{value:g}", NONE if spread is None else f"{spread:g}"]
                published += columns if several else columns[:1]
            sheet.rows.append([*published, *[""] * (2 * len(others))])
    counts = {row["jets"].get("train") for row in board["taggers"]}
    tested = {row["jets"].get(first) for row in board["taggers"]}
    sheet.notes.append(f"trained on {_range(counts)} jets, tested on {_range(tested)}")
    sheet.notes.append("± is the statistical error of the test jets, which all taggers here share")
    if any(len(row["seeds"]) == 1 for row in board["taggers"]):
        sheet.notes.append("a single seed says nothing about the spread of trainings")
    if several:
        sheet.notes.append(
            f"{SEEDS}: standard deviation over seeds; {EPSILON_B} is the inverse of the mean of ε_B"
        )
    if any(row["published"] for row in board["taggers"]):
        sheet.notes.append(
            "»: published, trained and tested on the reference data set (1.2 million jets), other jets "
            "than ours"
        )
    return sheet


def _paired(board: Mapping[str, Any]) -> Sheet:
    points = board["points"]
    headings = ["Tagger", "Accuracy", "p", "AUC", "p"]
    for point in points:
        headings += [f"{EPSILON_B} @ {point}, ratio", "p"]
    first = board["paired"][0]["first"]
    sheet = Sheet(f"{first} against the others on the same jets", headings)
    for row in board["paired"]:
        cells = [row["second"]]
        for key in ("accuracy", "auc"):
            cells += [f"{row[key]['difference']:+.5f}", p_value(row[key]["p_value"])]
        for point in points:
            entry = row["rejection"].get(point) or {"ratio": None, "p_value": None}
            ratio = NONE if entry["ratio"] is None else f"{entry['ratio']:.3f}"
            cells += [ratio, p_value(entry["p_value"])]
        sheet.rows.append(cells)
    sheet.notes.append(
        f"{first} minus the tagger of the row, scores averaged over seeds; p: probability of such a "
        "difference where there is none (accuracy: McNemar; AUC: DeLong; ratio of rejections: jet by jet)"
    )
    return sheet


def _ensembles(board: Mapping[str, Any]) -> Sheet:
    points = board["points"]
    columns = ["Accuracy", "AUC", *(f"{EPSILON_B} @ {p}" for p in points)]
    sheet = Sheet(
        "Ensembles over seeds",
        ["Tagger", "Jets", *(f"{c}, {w}" for w in ("mean", "median") for c in columns)],
    )
    for row in board["taggers"]:
        for test, ways in row["ensemble"].items():
            cells = [row["label"], test]
            for way in ("mean", "median"):
                report = ways[way]
                cells += [f"{report['accuracy']:.4f}", f"{report['auc']:.5f}"]
                cells += [_rejection(report["rejection"].get(p)) for p in points]
            sheet.rows.append(cells)
    sheet.notes.append("the mean or the median of the seeds' scores, jet by jet")
    return sheet


def _out_of_fold(board: Mapping[str, Any]) -> Sheet:
    points = board["points"]
    headings = ["Tagger", "Jets", "Accuracy", "AUC", *(f"{EPSILON_B} @ {p}" for p in points)]
    sheet = Sheet("Out of fold", headings)
    for label, report in board["out_of_fold"]["taggers"].items():
        cells = [label, f"{report['jets']:,}"]
        cells += [value_with_error(report[key], report.get(f"{key}_error")) for key in ("accuracy", "auc")]
        sheet.rows.append([*cells, *(_rejection(report["rejection"].get(p)) for p in points)])
    sheet.notes.append("each training jet scored by the runs that were not trained on it, mean over seeds")
    return sheet


def _cost(board: Mapping[str, Any]) -> Sheet:
    headings = [
        "Tagger",
        "Parameters",
        "MFLOP/jet",
        "Training jets/s",
        "Inference jets/s",
        "Share of the matmul rate",
        "Training time",
        "Measured on",
    ]
    sheet = Sheet("Cost", headings)
    lengths = set()
    for row in board["taggers"]:
        flops = row["flops"]
        if row["constituents"]:
            lengths.add(f"{row['constituents']:.0f}")
        sheet.rows.append(
            [
                row["label"],
                f"{row['parameters']:,}",
                NONE if flops is None else f"{flops / 1e6:,.3g}" if flops < 1e8 else f"{flops / 1e6:,.0f}",
                _speed(row["training_jets_per_second"]),
                _speed(row["inference_jets_per_second"]),
                _share(row.get("training_share_of_matmul"), row.get("inference_share_of_matmul")),
                _time(row["seconds"]["mean"]),
                row["measured_on"] or NONE,
            ]
        )
    sheet.notes.append(
        "MFLOP/jet: matrix products of a forward pass"
        + (f" on jets of {' or '.join(sorted(lengths))} constituents on average" if lengths else "")
    )
    if any(row.get("training_share_of_matmul") is not None for row in board["taggers"]):
        sheet.notes.append(
            "share: MFLOP/jet (without views made at loading) times jets/s (three times in training / "
            "once in inference) over the rate of "
            "one large product there"
        )
    sheet.notes.append(
        "jets/s: one CPU thread by processor time, or a GPU by the clock; training time: mean over "
        "seeds, as it was run"
    )
    return sheet


def _fractions(board: Mapping[str, Any]) -> Sheet:
    shares = sorted({p["share"] for row in board["fractions"] for p in row["points"]})
    point = (board["points"] or ["0.3"])[0]
    headings = [
        "Tagger",
        *(f"{n} at {100 * s:g} %" for s in shares for n in ("AUC", f"{EPSILON_B} @ {point}")),
    ]
    sheet = Sheet("Sample efficiency", headings)
    for row in board["fractions"]:
        known = {p["share"]: p for p in row["points"]}
        cells = [row["label"]]
        for share in shares:
            at = known.get(share) or {}
            cells += [cell(at.get("auc")), cell((at.get("rejection") or {}).get(point))]
        sheet.rows.append(cells)
    jets = {p["share"]: p["train"] for row in board["fractions"] for p in row["points"]}
    sheet.notes.append("± is the standard deviation over seeds, of a single seed the error of the test jets")
    sheet.notes.append("training jets: " + ", ".join(f"{100 * s:g} % are {jets[s]:,}" for s in shares))
    return sheet


def _boost(board: Mapping[str, Any]) -> Sheet:
    rows = [row for row in board["boost"] if "betas" in row]
    betas = rows[0]["betas"]
    sheet = Sheet("Accuracy on boosted test jets", ["Tagger", *(f"β = {b:g}" for b in betas)])
    for row in rows:
        if row["betas"] != betas:
            sheet.notes.append(f"{row['label']} was boosted with other velocities and is left out")
            continue
        sheet.rows.append([row["label"], *(f"{a['mean']:.4f}" for a in row["accuracy"])])
    sheet.notes.append(
        f"trained on jets as they are; {rows[0]['jets']:,} test jets boosted along x, mean over seeds"
    )
    sheet.notes += [f"{row['label']}: {row['problem']}" for row in board["boost"] if "problem" in row]
    return sheet


# ------------------------------------------------------------------------------------------------------------
# helpers


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def _rejection(entry: Mapping[str, Any] | None) -> str:
    if not entry:
        return NONE
    return value_with_error(entry["value"], entry["error"], lower_limit=bool(entry.get("lower_limit")))


def _speed(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _share(training: float | None, inference: float | None) -> str:
    if training is None or inference is None:
        return NONE
    return " / ".join(
        f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %" for share in (training, inference)
    )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _range(values: set[int | None]) -> str:
    known = sorted(v for v in values if v is not None)
    if not known:
        return "an unknown number of"
    return f"{known[0]:,}" if known[0] == known[-1] else f"{known[0]:,} to {known[-1]:,}"
