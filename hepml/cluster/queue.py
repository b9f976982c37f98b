"""What a batch system says about jobs of ours: alive or not, and how to cancel one. Works without
accounting (`sacct`), which many clusters lack: the run folder says what became of a job that has left the
queue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress

from hepml.cluster.jobs import ClusterError

ALIVE = frozenset(
    {
        "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD",
        "REQUEUE_FED", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING", "SPECIAL_EXIT",
    }
)  # fmt: skip
_CONDOR = {1: "PENDING", 2: "RUNNING", 3: "REMOVED", 4: "COMPLETED", 5: "HELD", 6: "RUNNING", 7: "SUSPENDED"}


def states(system: str, ids: Sequence[str]) -> dict[str, str] | None:
    """The state of each job that the batch system still knows, in Slurm's words; None where it does not
    answer."""
    if not ids:
        return {}
    if system == "slurm":
        return slurm_states(ids)
    if system == "htcondor":
        return _condor_states(ids)
    return {job: "RUNNING" for job in ids if _is_process(job)}


def alive(system: str, ids: Sequence[str]) -> set[str]:
    """Those of the jobs that wait or run; all of them where the batch system does not answer."""
    known = states(system, ids)
    return set(ids) if known is None else {job for job, state in known.items() if state in ALIVE | {"HELD"}}


def slurm_states(ids: Iterable[str]) -> dict[str, str] | None:
    """What `squeue` says; jobs of an array are called ARRAY_TASK."""
    wanted = set(ids)
    arrays = sorted({job.partition("_")[0] for job in wanted})
    line = [
        "squeue",
        "--noheader",
        "--array",
        "--format",
        "%i %T",
        "--states",
        "all",
        "--jobs",
        ",".join(arrays),
    ]
    try:
        asked = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    words = [row.split() for row in asked.stdout.splitlines()]
    return {row[0]: row[1] for row in words if len(row) == 2 and row[0] in wanted}


def cancel(system: str, ids: Sequence[str]) -> None:
    """Takes jobs out of the queue; those that run are asked to end, and write a checkpoint.

    Raises:
        ClusterError: the batch system is not here, or refuses.
    """
    if not ids:
        return
    if system == "local":
        for job in ids:
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(job), signal.SIGTERM)
        return
    tool = {"slurm": "scancel", "htcondor": "condor_rm"}[system]
    if shutil.which(tool) is None:
        raise ClusterError(f"there is no {tool} here", mend=f"on a login node: {tool} {' '.join(ids)}")
    asked = subprocess.run([tool, *ids], capture_output=True, text=True, timeout=120, check=False)
    if asked.returncode:
        message = (asked.stderr or asked.stdout).strip().splitlines() or ["no message"]
        raise ClusterError(f"{tool} refuses: {message[-1]}", mend=f"{tool} {' '.join(ids)}")


def _condor_states(ids: Sequence[str]) -> dict[str, str] | None:
    wanted = set(ids)
    clusters = sorted({job.partition(".")[0] for job in wanted})
    line = ["condor_q", *clusters, "-af", "ClusterId", "ProcId", "JobStatus"]
    try:
        asked = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:
        return None
    states_of = {}
    for row in asked.stdout.splitlines():
        words = row.split()
        if len(words) == 3 and f"{words[0]}.{words[1]}" in wanted:
            states_of[f"{words[0]}.{words[1]}"] = _CONDOR.get(int(words[2]), "PENDING")
    return states_of


def _is_process(job: str) -> bool:
    """Whether a process of ours has this number still."""
    try:
        os.kill(int(job), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return False  # another user's: the number was given away
    try:
        with open(f"/proc/{int(job)}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
