"""What a benchmark leaves in its folder: `leaderboard.json`, `leaderboard.md`, the figures, and the MLflow
run that is the parent of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepml import tracking
from hepml.errors import HepmlError
from hepml.evaluation.published import PELICAN_BY_JETS, PELICAN_BY_SIZE
from hepml.tracking import page
from hepml.tracking.journal import Journal, read_journal
from hepml.training.benchmark.board import scores_of
from hepml.training.benchmark.tables import markdown
from hepml.training.checkpoints import write_atomically
from hepml.training.report_config import TrackingConfig
from hepml.training.run_directory import RunDirectory

JSON, PAGE, PARENT = "leaderboard.json", "leaderboard.md", "mlflow"
_PARENT_TAG = "mlflow.parentRunId"


def write(board: Mapping[str, Any], output: Path, *, command: str | None = None) -> list[Path]:
    """Writes the leaderboard and its figures; returns the files.

    Raises:
        FileError: the folder cannot be written.
    """
    place = RunDirectory(output)
    place.write_json(JSON, board)
    write_atomically(output / PAGE, markdown(board, command=command).encode())
    files = [output / JSON, output / PAGE]
    for name, figure in figures(board).items():
        files.append(place.write_figure(name, figure))
    return files


def figures(board: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a leaderboard has data for: `roc`, `cost`, `boost`, `fractions`."""
    from hepml.evaluation.plots import benchmark as plot_benchmark
    from hepml.evaluation.plots.scores import plot_roc

    out: dict[str, Any] = {}
    rows = board["taggers"]
    curves: dict[str, Any] = {}
    for row in rows:
        try:
            labels, scores, weights = scores_of(row)
        except HepmlError as problem:
            board["remarks"].append(f"{row['label']}: no curve: {problem.what}")
            continue
        if scores.ndim == 1:
            curves[row["label"]] = (labels, scores, weights)
    if curves:
        out["roc"] = plot_roc(curves)
    point = (board["points"] or ["0.3"])[0]
    for name, key, axis in (
        ("cost", "flops", "FLOP a jet, forward"),
        ("parameters", "parameters", "Parameters"),
    ):
        drawn = {
            row["label"]: (row[key], row["rejection"][point]["mean"], _error(row["rejection"][point]))
            for row in rows
            if row.get(key) and row["rejection"].get(point, {}).get("mean")
        }
        if drawn:
            known = _published(rows, point) if key == "parameters" else None
            out[name] = plot_benchmark.plot_cost(drawn, published=known, cost=axis, efficiency=point)
    scans = {
        row["label"]: (
            row["betas"],
            [a["mean"] for a in row["accuracy"]],
            [a["std"] for a in row["accuracy"]],
        )
        for row in board["boost"]
        if "betas" in row
    }
    if scans:
        out["boost"] = plot_benchmark.plot_boost(scans)
    shares = {
        row["label"]: [(p["train"], p["auc"]["mean"], _error(p["auc"])) for p in row["points"]]
        for row in board["fractions"]
    }
    if shares:
        out["fractions"] = plot_benchmark.plot_fractions(shares)
        rejections = {
            row["label"]: [
                (p["train"], p["rejection"][point]["mean"], _error(p["rejection"][point]))
                for p in row["points"]
                if p["rejection"].get(point, {}).get("mean")
            ]
            for row in board["fractions"]
        }
        measured = {label: points for label, points in rejections.items() if points}
        if measured:
            beside = point == "0.3" and any(row["published"] for row in rows)
            out["fractions_rejection"] = plot_benchmark.plot_fractions(
                measured,
                ylabel=f"1/eps_B at eps_S = {point}",
                logarithmic=True,
                published={"PELICAN 208k, published": PELICAN_BY_JETS} if beside else None,
            )
    return out


def track(board: Mapping[str, Any], output: Path, settings: TrackingConfig, files: list[Path]) -> list[str]:
    """An MLflow run for the whole benchmark, with the leaderboard, and its runs nested below it; returns what
    did not arrive.

    Raises:
        FileError: the journal cannot be written.
    """
    if not settings.enabled:
        return []
    tracker = tracking.start(
        output / PARENT,
        experiment=settings.experiment or "hepml",
        name=output.resolve().name,
        uri=settings.uri,
        tags={"hepml.kind": "benchmark"},
        parameters={"taggers": ", ".join(row["label"] for row in board["taggers"])},
        system_interval=0,
    )
    step = sum(len(row["runs"]) for row in board["taggers"])
    for row in board["taggers"]:
        tracker.metrics(_metrics(row), step, final=True)
    for file in files:
        tracker.artifact(file, "plots" if file.suffix == ".png" else None)
    table = leaderboard(board)
    tracker.table("leaderboard", table)
    tracker.tags({page.DESCRIPTION: _description(board, table, files)})
    problems = [tracker.finish("FAILED" if board["failed"] else "FINISHED")]
    parent = tracker.run_id
    if parent is not None:
        problems += [_nest(folder, parent) for folder in _folders(board)]
    return [problem for problem in problems if problem]


def leaderboard(board: Mapping[str, Any]) -> dict[str, list[str]]:
    """The leaderboard in columns of text: mean and standard deviation over seeds on the first test set."""
    columns: dict[str, list[str]] = {"tagger": [], "seeds": [], "parameters": [], "accuracy": [], "AUC": []}
    columns |= {f"1/eps_B at {point}": [] for point in board["points"]}
    for row in board["taggers"]:
        figures = {
            "tagger": row["label"], "seeds": str(len(row["seeds"])), "parameters": f"{row['parameters']:,}",
            "accuracy": _text(row["accuracy"], 4), "AUC": _text(row["auc"], 4),
        }  # fmt: skip
        figures |= {
            f"1/eps_B at {point}": _text(row["rejection"].get(point, {}), 0) for point in board["points"]
        }
        for name, value in figures.items():
            columns[name].append(value)
    return columns


# ------------------------------------------------------------------------------------------------------------
# helpers


def _description(board: Mapping[str, Any], table: Mapping[str, list[str]], files: list[Path]) -> str:
    """The page of the benchmark in Markdown."""
    lines = [f"| {' | '.join(table)} |", f"|{'---|' * len(table)}"]
    lines += [f"| {' | '.join(row)} |" for row in zip(*table.values(), strict=True)]
    if board["failed"]:
        lines += ["", f"Without a result: {', '.join(board['failed'])}"]
    if any(file.name == "roc.png" for file in files):
        lines += ["", page.picture("plots/roc.png", "ROC")]
    return "\n".join(lines)


def _text(figure: Mapping[str, Any], digits: int) -> str:
    if figure.get("mean") is None:
        return ""
    spread = "" if figure.get("std") is None else f" ± {figure['std']:,.{digits}f}"
    return f"{figure['mean']:,.{digits}f}{spread}"


def _folders(board: Mapping[str, Any]) -> list[Path]:
    rows = [*board["taggers"], *(point for row in board["fractions"] for point in row["points"])]
    return list(dict.fromkeys(Path(run["folder"]) for row in rows for run in row["runs"]))


def _nest(folder: Path, parent: str) -> str | None:
    """Tags a finished run with its parent and sends the tag on; a run that is not tracked, or nested already,
    is left alone."""
    record = read_journal(folder)
    openings = record.of("start")
    if not openings or not openings[-1].get("enabled", True):
        return None
    tags = [entry["values"].get(_PARENT_TAG) for entry in record.of("tags")]
    if parent not in tags:
        try:
            journal = Journal(folder)
        except HepmlError as problem:  # somebody is writing to it just now
            return str(problem)
        journal.append("tags", values={_PARENT_TAG: parent})
        journal.close()
    (result,) = tracking.sync([folder])
    return None if not result.problem or result.skipped else f"{folder}: {result.problem}"


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    name = row["label"]
    values: dict[str, Any] = {f"{name}/parameters": row["parameters"], f"{name}/flops": row["flops"]}
    for test, report in row["tests"].items():
        for key in ("accuracy", "auc"):
            values[f"{name}/{test}/{key}"] = report[key]["mean"]
            values[f"{name}/{test}/{key}_std"] = report[key]["std"]
        for point, figure in report["rejection"].items():
            values[f"{name}/{test}/rejection_{point}"] = figure["mean"]
    return {key: float(value) for key, value in values.items() if value is not None}


def _error(figure: Mapping[str, Any]) -> float | None:
    return figure["std"] if figure.get("std") is not None else figure.get("error")


def _published(rows: Any, point: str) -> dict[str, Any]:
    known = [row["published"] for row in rows if row["published"] and row["published"]["parameters"]]
    taggers = {k["name"]: (k["parameters"], *k["rejection"][point]) for k in known if point in k["rejection"]}
    if known and point == "0.3":  # PELICAN's own curve by size
        taggers |= {f"PELICAN {n:,}": (n, value, None) for n, _, value in PELICAN_BY_SIZE}
    return taggers
