"""The page of a run in MLflow: a description with the results and the ROC curve, tables of both, and the
final figures as tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hepml.evaluation.roc import roc_curve
from hepml.tracking import page

Against = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # labels, scores, weights


def fill(tracker: Any, summary: dict[str, Any], curves: Mapping[str, Against]) -> None:
    """Gives the run's page its description, tables and tags.

    Args:
        tracker: of the run.
        summary: as it is in `summary.json`.
        curves: signal against background of each test set that has both.
    """
    rows = {name: _headline(report) for name, report in _reports(summary).items()}
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    if columns:
        counts = [summary["jets"][name] for name in rows]
        figures = {key: [row.get(key, "") for row in rows.values()] for key in columns}
        tracker.table("results", {"test set": list(rows), "jets": counts, **figures})
    if curves:
        tracker.table("roc", roc_table(curves))
    tracker.tags({page.DESCRIPTION: describe(summary), **figure_tags(summary)})


def describe(summary: dict[str, Any]) -> str:
    """The run in Markdown, for its page in MLflow."""
    ranks = f" on {summary['ranks']} ranks" if summary["ranks"] > 1 else ""
    lines = [
        f"**{summary['model']}** ({summary['parameters']:,} parameters), config `{summary['config']}`: "
        f"{summary['epochs']} epochs of {summary['jets']['train']:,} jets{ranks}, best epoch "
        f"{summary['best_epoch'] + 1}.",
        "",
    ]
    rows = {name: _headline(report) for name, report in _reports(summary).items()}
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    if columns:
        lines += [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        lines += [
            f"| {name} | {' | '.join(row.get(key, '') for key in columns)} |" for name, row in rows.items()
        ]
    if columns and summary["classes"]:
        lines += ["", page.picture("plots/roc.png", "ROC")]
    return "\n".join(lines)


def roc_table(curves: Mapping[str, Against], points: int = 100) -> dict[str, list[Any]]:
    """ROC curves in columns: signal efficiencies in even steps, the background efficiency at each, and the
    rejection, null where no background passes."""
    at = np.arange(1, points + 1) / points
    table: dict[str, list[Any]] = {
        key: [] for key in ("test set", "signal efficiency", "background efficiency", "rejection")
    }
    for name, (labels, scores, weights) in curves.items():
        curve = roc_curve(labels, scores, weights)
        order = np.argsort(curve.signal_efficiency, kind="stable")
        passing = np.interp(at, curve.signal_efficiency[order], curve.background_efficiency[order])
        table["test set"] += [name] * points
        table["signal efficiency"] += [round(float(x), 6) for x in at]
        table["background efficiency"] += [float(f"{x:.6g}") for x in passing]
        table["rejection"] += [float(f"{1 / x:.6g}") if x > 0 else None for x in passing]
    return table


def figure_tags(summary: dict[str, Any]) -> dict[str, str]:
    """The figures of the test sets as tags, by which MLflow finds and sorts runs: `test.auc`."""
    tags: dict[str, str] = {}
    for name, report in _reports(summary).items():
        plain, rejections = _figures(report)
        tags |= {f"{name}.{key}": f"{value:.5f}" for key, value in plain.items()}
        tags |= {f"{name}.rejection_{point}": f"{value:.1f}" for point, value in rejections.items()}
    return tags


def _headline(report: dict[str, Any]) -> dict[str, str]:
    """The figures of a test set that a table has room for."""
    plain, rejections = _figures(report)
    row = {key: f"{value:.4f}" for key, value in plain.items()}
    return row | {f"1/eps_B at {point}": f"{value:,.0f}" for point, value in rejections.items()}


def _figures(report: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of a report that stand for themselves, and its rejections by signal efficiency."""
    plain = {key: report.get(key) for key in ("accuracy", "auc", "rmse", "bias")}
    figures = {
        point: at.get("value")
        for point, at in (report.get("rejection") or {}).items()
        if isinstance(at, dict)
    }
    return (
        {key: value for key, value in plain.items() if isinstance(value, float)},
        {point: value for point, value in figures.items() if isinstance(value, int | float)},
    )


def _reports(summary: dict[str, Any]) -> dict[str, Any]:
    """The reports of all test sets, by name."""
    if not summary["test"]:
        return {}
    first = next(name for name in summary["jets"] if name not in ("train", "val"))
    return {first: summary["test"], **summary["tests"]}
