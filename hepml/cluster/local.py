"""Jobs in the background of this machine, through submitit: they outlive the terminal, and have logs where
Slurm's would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hepml.cluster.jobs import Job, Resources, Surroundings
from hepml.cluster.task import Task
from hepml.errors import MissingExtraError

LOGS = "local"


def submit(
    jobs: Sequence[Job], resources: Resources, output: Path, surroundings: Surroundings | None = None
) -> list[Any]:
    """Starts the jobs, all at once; returns submitit's jobs.

    Raises:
        MissingExtraError: submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise MissingExtraError("submitit", "cluster") from None
    folder = output / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.LocalExecutor(folder=folder)
    executor.update_parameters(timeout_min=resources.minutes)
    return [executor.submit(Task(job.words, surroundings, gpus=resources.gpus)) for job in jobs]


def wait(jobs: Sequence[Any], tell: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Waits until all have ended, well or not."""
    for i, job in enumerate(jobs):
        tell(i, len(jobs))
        job.wait()
    tell(len(jobs), len(jobs))
