"""What was submitted: `jobs.json` beside the runs, from which a board is watched, cancelled and retried,
and which keeps a run from being queued twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hepml import outputs
from hepml.cluster import queue
from hepml.cluster.jobs import Job, Resources, Surroundings
from hepml.errors import FileError

FILE = "jobs.json"


@dataclass(frozen=True)
class Submitted:
    """One job that was handed over.

    Args:
        system: slurm, htcondor or local.
        id: what the batch system calls it; empty where a person submits it.
        name: of the run.
        words: after `hepml`.
        folder: of the run, None for a job that is no single run.
        epochs: of the run.
        time: of the submission, seconds since 1970.
        resources, surroundings: as JSON has them.
        log: where its output goes.
        extra: what else was asked of the batch system: `logs`, `credential`.
    """

    system: str
    id: str
    name: str
    words: tuple[str, ...]
    folder: str | None
    epochs: int | None
    time: float
    resources: dict[str, Any]
    surroundings: dict[str, Any]
    log: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        """The same job, to be submitted again."""
        return Job(self.name, tuple(self.words), self.folder, self.epochs)


def read(output: Path) -> list[Submitted]:
    """Every job that was submitted for this folder, oldest first; none where there is no such file."""
    try:
        rows = json.loads((output / FILE).read_text())["jobs"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as problem:
        raise FileError(
            f"the list of jobs cannot be read ({type(problem).__name__})",
            where=str(output / FILE),
            mend="move it away; what is queued is then not known to hepml",
        ) from None
    return [Submitted(**{**row, "words": tuple(row["words"])}) for row in rows]


def add(
    output: Path,
    system: str,
    jobs: Sequence[Job],
    ids: Sequence[str],
    resources: Resources,
    surroundings: Surroundings,
    logs: Sequence[str | None] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Notes jobs that were just submitted."""
    plain = {key: str(v) if isinstance(v, Path) else v for key, v in (extra or {}).items()}
    new = [
        asdict(
            Submitted(
                system,
                ids[i] if i < len(ids) else "",
                job.name,
                job.words,
                job.folder,
                job.epochs,
                time.time(),
                resources.plain(),
                asdict(surroundings),
                logs[i] if i < len(logs) else None,
                plain,
            )
        )
        for i, job in enumerate(jobs)
    ]
    rows = [asdict(row) for row in read(output)] + new
    outputs.write_bytes(output / FILE, (json.dumps({"format": 1, "jobs": rows}, indent=1) + "\n").encode())


def latest(rows: Iterable[Submitted]) -> dict[str, Submitted]:
    """The last submission of each run, by its folder (by name for jobs that are no single run)."""
    return {row.folder or row.name: row for row in rows}


def queued(output: Path) -> dict[str, Submitted]:
    """Jobs that wait or run now, by the folder of their run; a batch system is asked once."""
    rows = list(latest(read(output)).values())
    waiting: dict[str, Submitted] = {}
    for system in sorted({row.system for row in rows}):
        mine = [row for row in rows if row.system == system and row.id]
        living = queue.alive(system, [row.id for row in mine])
        waiting |= {row.folder or row.name: row for row in mine if row.id in living}
    return waiting


def resources_of(row: Submitted) -> tuple[Resources, Surroundings]:
    """What a job asked for."""
    lists = {key: tuple(row.surroundings.get(key, ())) for key in ("prologue", "binds")}
    around = {**row.surroundings, **lists}
    return Resources(**row.resources), Surroundings(**around)
