"""Jobs for Slurm, through submitit: one array, one task a job, and a last job that waits for all of them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hepml.cluster.jobs import Job, Resources, Task
from hepml.errors import ConfigError, HepmlError, MissingExtraError

LOGS = "slurm"
_ALIVE = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "REQUEUE_HOLD",
    "SIGNALING",
}


class ClusterError(HepmlError):
    """A batch system that is not here, or that refuses a job."""


def script(jobs: Sequence[Job], resources: Resources, output: Path, *, name: str = "hepml") -> str:
    """The sbatch script that `submit` hands to Slurm, with a comment for what each task of the array runs.

    Raises:
        MissingExtraError: submitit is not installed.
    """
    from_submitit = _submitit().slurm.slurm._make_sbatch_string
    folder = output / LOGS
    options = _options(jobs, resources, name)
    if len(jobs) > 1:
        options["map_count"] = len(jobs)
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return str(from_submitit(command=command, folder=folder, **options))


def submit(
    jobs: Sequence[Job], resources: Resources, output: Path, *, name: str = "hepml", last: Job | None = None
) -> list[Any]:
    """Submits the jobs as one array; returns submitit's jobs, that of `last` at the end.

    Args:
        jobs: at least one.
        resources: of each.
        output: logs and what submitit keeps go to its folder `slurm/`.
        name: of the array.
        last: a job that starts when all others have ended, well or not.

    Raises:
        MissingExtraError: submitit is not installed.
        ClusterError: there is no Slurm here, or it refuses the jobs.
    """
    submitit = _submitit()
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ClusterError(
            "there is no Slurm here (no sbatch)",
            mend="submit on a login node of the cluster, or hepml submit local",
        )
    folder = output / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder)
    try:
        executor.update_parameters(**_options(jobs, resources, name))
        with executor.batch():
            made = [executor.submit(Task(job.words)) for job in jobs]
    except (submitit.core.utils.FailedJobError, ValueError) as problem:
        raise ClusterError(
            f"Slurm refuses the jobs: {_brief(problem)}", mend="see --partition, --time, --account"
        ) from None
    if last is not None:
        array = made[0].job_id.partition("_")[0]
        more = {**resources.more, "dependency": f"afterany:{array}"}
        executor = submitit.SlurmExecutor(folder=folder)
        small = Resources(60, 1, 0, None, resources.partition, resources.account, 1, more)
        executor.update_parameters(**_options([last], small, f"{name}-last"))
        made.append(executor.submit(Task(last.words)))
    return made


def wait(
    jobs: Sequence[Any], tell: Callable[[int, int], None] = lambda done, total: None, *, every: float = 2.0
) -> None:
    """Waits until Slurm has none of the jobs any more; needs no accounting, which many clusters lack.

    Args:
        jobs: from `submit`.
        tell: called with how many have ended.
        every: seconds between looks.
    """
    ids = sorted({job.job_id.partition("_")[0] for job in jobs})
    while True:
        done = sum(job.paths.result_pickle.exists() for job in jobs)
        tell(done, len(jobs))
        if done == len(jobs):
            return
        asked = subprocess.run(
            [
                "squeue",
                "--noheader",
                "--array",
                "--format",
                "%i %T",
                "--states",
                "all",
                "--jobs",
                ",".join(ids),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        states = [line.split() for line in asked.stdout.splitlines()]
        alive = [s for s in states if len(s) == 2 and s[1] in _ALIVE]
        if (asked.returncode == 0 and not alive) or "Invalid job id" in asked.stderr:
            tell(sum(job.paths.result_pickle.exists() for job in jobs), len(jobs))
            return
        time.sleep(every)


def _options(jobs: Sequence[Job], resources: Resources, name: str) -> dict[str, Any]:
    if not jobs:
        raise ConfigError("no job to submit", where="command line", mend="everything is finished already?")
    tasks = [f"# task {i}: {job.line}" for i, job in enumerate(jobs)]
    threads = ["export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} OMP_WAIT_POLICY=PASSIVE"]
    # since 22.05 srun asks for one core unless it is told
    threads.append("export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}")
    options: dict[str, Any] = {
        "job_name": name,
        "time": resources.minutes,
        "cpus_per_task": resources.cpus,
        "array_parallelism": max(1, resources.parallel),
        "setup": [*tasks, *threads],
        "stderr_to_stdout": True,
    }
    if resources.gpus:
        options["gpus_per_node"] = resources.gpus
    if resources.memory_gb is not None:
        options["mem"] = f"{round(1024 * resources.memory_gb)}M"
    for key in ("partition", "account"):
        if getattr(resources, key):
            options[key] = getattr(resources, key)
    if resources.more:
        options["additional_parameters"] = dict(resources.more)
    return options


def _submitit() -> Any:
    try:
        import submitit
        import submitit.slurm.slurm
    except ImportError:
        raise MissingExtraError("submitit", "cluster") from None
    return submitit


def _brief(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower()] or lines
    return told[-1][:200] if told else type(problem).__name__
