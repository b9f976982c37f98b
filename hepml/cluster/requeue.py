"""A job of Slurm that was asked to end: whether it is to be queued again, and the word to Slurm that does it.

With a grace time, Slurm's preemption sends SIGTERM and queues a job again only where it still runs when the
grace is over; a training that writes its checkpoint and ends in time would be counted as failed. So it asks
for the requeue itself. A job that a person cancels is in another state than RUNNING by then, and stays
cancelled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime

ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
LIMIT = "HEPML_REQUEUES"
DEFAULT_LIMIT = 3
_NEAR = 180.0  # seconds before the end of a slot that count as its end


def asked_to_end(code: int) -> bool:
    """Whether an exit code is that of a run which a signal ended cleanly, or of a process that it killed."""
    return code in {128 + s for s in ENDINGS} | {-s for s in ENDINGS}


def preempted(environment: Mapping[str, str]) -> bool:
    """Whether Slurm has begun to preempt the job of this environment."""
    state = job_state(environment)
    if state.get("Requeue") != "1":
        return False
    if state.get("JobState") == "PREEMPTED":
        return True
    return state.get("JobState") == "RUNNING" and state.get("PreemptTime", "None") != "None"


def out_of_time(environment: Mapping[str, str], *, near: float = _NEAR) -> bool:
    """Whether the slot of the job is about over; Slurm before 23.02 says its end only where it is asked."""
    given = environment.get("SLURM_JOB_END_TIME", "")
    if given.isdigit():
        return int(given) - time.time() < near
    try:
        end = datetime.fromisoformat(job_state(environment).get("EndTime", "")).timestamp()
    except ValueError:
        return False
    return end - time.time() < near


def may_go_on(environment: Mapping[str, str]) -> bool:
    """Whether the job of this environment may be queued again after its time limit: it can be, and was not
    too often (`HEPML_REQUEUES`, 3)."""
    state = job_state(environment)
    if state.get("Requeue") != "1" or state.get("JobState") != "RUNNING":
        return False
    limit = environment.get(LIMIT, "")
    return int(environment.get("SLURM_RESTART_COUNT", 0)) < (int(limit) if limit.isdigit() else DEFAULT_LIMIT)


def queue_again(signum: int) -> None:
    """Has Slurm queue this job again that it preempts, or that it warned of its time limit by SIGUSR1 or
    SIGUSR2. Jobs of `hepml submit` are queued again by what runs them.

    Args:
        signum: the signal that ended a command which goes on from its checkpoint when it is started again.
    """
    here = os.environ
    if "SLURM_JOB_ID" not in here or here.get("SUBMITIT_EXECUTOR") or here.get("SLURM_PROCID", "0") != "0":
        return
    warned = signum in (signal.SIGUSR1, signal.SIGUSR2) and may_go_on(here)
    if warned or preempted(here):
        now(here)


def now(environment: Mapping[str, str]) -> bool:
    """Has Slurm queue the job again; says so, or why not."""
    asked = _scontrol("requeue", _job(environment))
    if asked is None or asked.returncode:
        reason = "scontrol is absent" if asked is None else asked.stderr.strip()
        print(f"Slurm does not queue job {_job(environment)} again: {reason}", file=sys.stderr, flush=True)
        return False
    print(f"job {_job(environment)} is queued again and goes on from its checkpoint", flush=True)
    return True


def job_state(environment: Mapping[str, str]) -> dict[str, str]:
    """What Slurm says about the job of this environment; empty where there is none or Slurm is silent."""
    job = environment.get("SLURM_JOB_ID")
    asked = _scontrol("--oneliner", "show", "job", job) if job else None
    if asked is None or asked.returncode:
        return {}
    return dict(word.partition("=")[::2] for word in asked.stdout.split() if "=" in word)


def _job(environment: Mapping[str, str]) -> str:
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment["SLURM_JOB_ID"]


def _scontrol(*words: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
