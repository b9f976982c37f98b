"""What became of submitted jobs, on the screen: the table of `hepml submit status`, what is cancelled or
retried, and the refusal of what is queued already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hepml.cluster.jobs import Job, Resources, Surroundings
    from hepml.cluster.status import Row
    from hepml.training.benchmark.plan import PlannedRun

_COLOURS = {"finished": "green", "running": "cyan", "failed": "red", "left": "red", "held": "red"}


def show(board: Path, *, json: bool) -> int:
    """Prints the table of a board."""
    from hepml.cli import console
    from hepml.cluster import status

    rows = _rows(board)
    if json:
        counts = {
            state: sum(row.state == state for row in rows) for state in dict.fromkeys(r.state for r in rows)
        }
        console.print_json({"board": str(board), "states": counts, "runs": [row.as_json() for row in rows]})
        return 0
    from rich.table import Table

    table = Table(title=f"{len(rows)} runs of {board}", title_justify="left")
    for heading in ("run", "job", "state", "requeued", "epoch", "jets/s", "left", "last words"):
        table.add_column(
            heading, overflow="fold", justify="right" if heading in ("requeued", "jets/s") else "left"
        )
    for row in rows:
        epochs = f"{row.epoch}/{row.epochs}" if row.epochs else ""
        speed = f"{row.jets_per_second:,.0f}" if row.jets_per_second else ""
        colour = _COLOURS.get(row.state)
        state = f"[{colour}]{row.state}[/]" if colour else row.state
        table.add_row(
            row.name, row.job, state, str(row.requeued or ""), epochs, speed, _time(row.seconds_left),
            row.problem or "",
        )  # fmt: skip
    console.out().print(table)
    bad = [row for row in rows if row.state in status.UNFINISHED]
    if bad:
        console.err().print(f"{len(bad)} without a result; go on with: hepml submit retry {board}")
    return 0


def cancel_all(board: Path, *, json: bool = False) -> int:
    """Cancels what a board has in the queue."""
    from hepml.cli import console
    from hepml.cluster import queue, submissions

    _rows(board)
    living = list(submissions.queued(board).values())
    for system in sorted({row.system for row in living}):
        queue.cancel(system, [row.id for row in living if row.system == system])
    if json:
        console.print_json([{"id": row.id, "name": row.name, "system": row.system} for row in living])
        return 0
    for row in living:
        print(f"cancelled {row.id}: {row.name}")
    if not living:
        print("nothing is queued")
    return 0


def left(board: Path) -> list[tuple[str, Resources, Surroundings, dict[str, Any], list[Job]]]:
    """Jobs that left the queue without a result, in groups that were submitted alike."""
    from hepml.cluster import status, submissions

    wanted = {row.folder or row.name for row in _rows(board) if row.state in status.UNFINISHED}
    groups: dict[str, tuple[str, Resources, Surroundings, dict[str, Any], list[Job]]] = {}
    for place, row in submissions.latest(submissions.read(board)).items():
        if place in wanted:
            resources, around = submissions.resources_of(row)
            extra = {**row.extra, "logs": Path(row.extra["logs"]) if row.extra.get("logs") else None}
            key = f"{row.system} {resources} {around} {extra}"
            groups.setdefault(key, (row.system, resources, around, extra, []))[4].append(row.job)
    return list(groups.values())


def gathering(board: Path) -> Job | None:
    """The gather step that was submitted with the board, which is due again behind what is retried."""
    from hepml.cluster import submissions

    rows = submissions.latest(submissions.read(board)).values()
    return next((row.job for row in rows if row.words[:2] == ("benchmark", "--gather")), None)


def refuse_queued(runs: Sequence[PlannedRun], output: Path) -> list[PlannedRun]:
    """The runs that are neither queued nor being trained; says which others there are.

    Raises:
        ConfigError: all of them are.
    """
    from hepml.cli import console
    from hepml.cluster import submissions
    from hepml.errors import ConfigError
    from hepml.tracking.journal import is_locked

    if not runs:
        return []
    queued = submissions.queued(output)
    # one job that trains everything
    whole = next((row for row in queued.values() if row.folder is None and "--output" in row.words), None)
    kept, busy = [], []
    for run in runs:
        row = queued.get(str(run.folder)) or whole
        if row is not None:
            busy.append(f"{run.name} (job {row.id} of {row.system})")
        elif run.folder.is_dir() and is_locked(run.folder):
            busy.append(f"{run.name} (a process is training it)")
        else:
            kept.append(run)
    if busy and not kept:
        raise ConfigError(
            f"already queued or running: {', '.join(busy)}",
            where=str(output),
            mend=f"wait, or hepml submit cancel {output}",
        )
    if busy:
        console.err().print(f"left out, already queued or running: {', '.join(busy)}")
    return kept


def _rows(board: Path) -> list[Row]:
    from hepml.cluster import status
    from hepml.errors import FileError

    rows = status.table(board)
    if not rows:
        raise FileError(
            "nothing was submitted from here",
            where=str(board),
            mend="name the folder that was given as --output; hepml submit slurm … -o FOLDER",
        )
    return rows


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}m{rest:02d}s"
