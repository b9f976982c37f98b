"""Reports as tables for people: one row a tagger, every figure with its uncertainty to the digits that it
supports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from hepml.evaluation.published import Published

EPSILON_B = "1/ε_B"


def value_with_error(value: float, error: float | None, *, lower_limit: bool = False) -> str:
    """`1294 ± 104`, `0.98477 ± 0.00019`, or `> 4321` for a lower limit.

    The error is given to two significant digits and the value to the same decimal place. A value without an
    error gets five digits.
    """
    if lower_limit:
        return f"> {value:.0f}" if value >= 100 else f"> {value:.3g}"
    if error is None or not math.isfinite(error) or error <= 0:
        return _plain(value) if error is None else f"{_plain(value)} ± 0"
    places = max(0, 1 - math.floor(math.log10(float(f"{error:.1e}"))))
    return f"{value:.{places}f} ± {error:.{places}f}"


def report_table(
    reports: Mapping[str, Mapping[str, Any]], *, title: str | None = None, published: Iterable[Published] = ()
) -> Table:
    """A rich table of reports made by `hepml.evaluate`: tagger, accuracy, AUC, and 1/eps_B at each working
    point.

    Args:
        reports: {name: report}, a row each; binary and multi-class may be mixed.
        title: above the table.
        published: rows to add below, in grey, their errors being the spread over trainings.
    """
    rows = list(published)
    points = _working_points([*(r["rejection"] for r in reports.values()), *(row.rejection for row in rows)])
    table = _new_table(title)
    table.add_column("Tagger", overflow="fold", min_width=8)
    for heading in ("Accuracy", "AUC", *(f"{EPSILON_B} at\nε_S = {p}" for p in points)):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, report in reports.items():
        table.add_row(
            Text(name),  # a file name in square brackets is no markup
            value_with_error(report["accuracy"], report.get("accuracy_error")),
            value_with_error(report["auc"], report.get("auc_error")),
            *(rejection_cell(report["rejection"].get(p)) for p in points),
        )
    if rows:
        table.add_section()
    for row in rows:
        cells = (value_with_error(*row.rejection[p]) if p in row.rejection else "—" for p in points)
        table.add_row(row.name, f"{row.accuracy:g}", f"{row.auc:g}", *cells, style="dim")
    notes = []
    if any(entry.get("lower_limit") for r in reports.values() for entry in r["rejection"].values()):
        notes.append("> no background passes: lower limit at 90 % confidence")
    for name, report in reports.items():
        if "classes" in report:
            notes.append(
                f"{name}: AUC one-vs-one macro average; rejection of {report['background']} for "
                f"{report['signal']}"
            )
    weighted = [name for name, report in reports.items() if report.get("weighted")]
    if weighted:
        which = "" if len(weighted) == len(reports) else f" for {', '.join(weighted)}"
        notes.append(f"jets count by their event weights{which}")
    if rows:
        notes.append("grey: published, ± spread over trainings")
    table.caption = "\n".join(notes) or None
    return table


def classes_table(report: Mapping[str, Any], *, title: str | None = None) -> Table:
    """The classes of one multi-class report: jets, recall, one-vs-rest AUC and the rejection of the
    background class.

    Classes are quoted at working points of their own (JetClass), so each rejection carries its eps_S.
    """
    table = _new_table(title)
    table.add_column("Class", overflow="fold")
    headings = ("Jets", "Recall", "AUC one-vs-rest", f"{EPSILON_B} of {report['background']}")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in report["classes"].items():
        cells = [f"{rejection_cell(entry)} @ {point}" for point, entry in row.get("rejection", {}).items()]
        table.add_row(
            Text(name),
            str(row["jets"]),
            f"{row['accuracy']:.4f}",
            f"{row['auc_one_vs_rest']:.5f}",
            "\n".join(cells) or "—",
        )
    if report.get("absent_classes"):
        table.caption = "no jets of: " + ", ".join(report["absent_classes"])
    return table


def regression_table(
    reports: Mapping[str, Mapping[str, Any]], *, title: str | None = None, unit: str = ""
) -> Table:
    """A rich table of reports made by `evaluate_regression`, a row for each report and target.

    Args:
        reports: {name: report}.
        unit: of the target, for the headings (for example "GeV").
    """
    table = _new_table(title)
    table.add_column("Target", overflow="fold")
    suffix = f" [{unit}]" if unit else ""
    for heading in (f"Bias{suffix}", f"Resolution{suffix}", "Pull mean", "Pull width", "NLL"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for name, report in reports.items():
        for label, figures in _targets(name, report):
            table.add_row(
                Text(label),
                *(
                    value_with_error(figures[key], figures[f"{key}_error"]) if key in figures else "—"
                    for key in ("bias", "resolution", "pull_mean", "pull_width", "nll")
                ),
            )
    return table


def rejection_cell(entry: Mapping[str, Any] | None) -> str:
    """One entry of a report's `rejection` as text; a dash where there is none."""
    if entry is None:
        return "—"
    return value_with_error(entry["value"], entry["error"], lower_limit=bool(entry.get("lower_limit")))


def _new_table(title: str | None) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, caption_justify="left"
    )


def _targets(name: str, report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if "targets" not in report:
        return [(name, report)]
    return [(f"{name}: {target}", figures) for target, figures in report["targets"].items()]


def _working_points(rejections: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({point for rejection in rejections for point in rejection}, key=float)


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.5g}"


def paired_table(paired: Mapping[str, Mapping[str, Any]]) -> Table:
    """Paired tests of taggers on the same jets: differences, and how likely they are by chance."""
    tests = [t for others in paired.values() for t in others.values()]
    points = list(dict.fromkeys(point for t in tests for point in t["rejection"]))
    table = Table(title="The same jets: first minus second, paired tests", title_justify="left")
    table.add_column("Taggers")
    for heading in ("Accuracy", "AUC", *(f"{EPSILON_B} @ {p}, ratio" for p in points)):
        table.add_column(heading, justify="right")
        table.add_column("p", justify="right")
    for first, others in paired.items():
        for second, of_pair in others.items():
            cells = [f"{first} - {second}"]
            for key in ("accuracy", "auc"):
                cells += [_signed(of_pair[key]), p_value(of_pair[key]["p_value"])]
            for point in points:
                entry = of_pair["rejection"].get(point) or {"ratio": None, "p_value": None}
                ratio, error = entry["ratio"], entry.get("error")
                ratio_text = "—" if ratio is None else f"{ratio:.3f} ± {ratio * (error or 0.0):.3f}"
                cells += [ratio_text, p_value(entry["p_value"])]
            table.add_row(*cells)
    table.caption = "p: probability of such a difference where there is none (McNemar; DeLong; jet by jet)"
    table.caption_justify = "left"
    return table


def p_value(value: float | None) -> str:
    """A p-value as text; very small ones as a bound."""
    if value is None:
        return "—"
    return "< 1e-4" if value < 1e-4 else f"{value:.2g}"


def _signed(entry: Mapping[str, Any]) -> str:
    error = entry["error"]
    return f"{entry['difference']:+.5f}" + ("" if error is None else f" ± {error:.5f}")


def bins_table(entries: Sequence[Mapping[str, Any]], quantity: str, *, title: str | None = None) -> Table:
    """Efficiency, mistag rate and rejection in bins of a quantity."""
    table = Table(title=title, title_justify="left")
    for heading in (quantity, "signal jets", "ε_S", "background jets", "ε_B", EPSILON_B):
        table.add_column(heading, justify="right")
    for b in entries:
        cells = [f"{b['low']:.4g} to {b['high']:.4g}"]
        for name in ("signal", "background"):
            share = b[f"{name}_efficiency"]
            text = "—" if share is None else value_with_error(share, b[f"{name}_efficiency_error"])
            cells += [f"{b[f'{name}_jets']:,}", text]
        known = b["rejection"] is not None
        limit = bool(b["lower_limit"])
        cells.append(
            value_with_error(b["rejection"], b["rejection_error"], lower_limit=limit) if known else "—"
        )
        table.add_row(*cells)
    return table
