"""`hepml ensemble`: several trained runs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    runs: Annotated[list[str], typer.Argument(help="Run folders or checkpoints, at least two.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new run folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Join trained runs into one whose score is that of the mean of their logits.

    The result is a run folder: predict, evaluate, export and explain take it, and `hepml predict --spread`
    writes how far its members disagree beside each score. The test jets are those of the first run.

    Example: hepml ensemble runs/board/runs/efp_mlp/seed_* -o runs/ensemble
    """
    from hepml.cli import console
    from hepml.training.ensembles import join_runs

    summary = join_runs(runs, output, console.training_progress(quiet=quiet or json))
    if json:
        console.print_json(summary)
        return 0
    reports = {"test": summary["test"], **summary["tests"]} if summary["test"] else {}
    for name, report in reports.items():
        figures = ", ".join(
            f"{key} {report[key]:.4f}" for key in ("auc", "accuracy", "rmse", "spread") if key in report
        )
        console.out().print(f"{name}: {figures}", markup=False, highlight=False)
    console.out().print(
        f"{len(runs)} runs, {summary['parameters']:,} parameters -> {output}", markup=False, highlight=False
    )
    return 0
