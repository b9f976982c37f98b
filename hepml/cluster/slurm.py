"""Jobs for Slurm, through submitit: one array, one task a job, and a last job that waits for all of them."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hepml.cluster import queue
from hepml.cluster.jobs import ClusterError, Job, Resources, Surroundings
from hepml.cluster.task import Task
from hepml.errors import ConfigError, MissingExtraError

LOGS = "slurm"


def script(
    jobs: Sequence[Job],
    resources: Resources,
    output: Path,
    *,
    name: str = "hepml",
    surroundings: Surroundings | None = None,
) -> str:
    """The sbatch script that `submit` hands to Slurm, with a comment for what each task of the array runs.

    Raises:
        MissingExtraError: submitit is not installed.
    """
    from_submitit = _submitit().slurm.slurm._make_sbatch_string
    folder = _folder(output)
    options = _options(jobs, resources, name, surroundings or Surroundings())
    if len(jobs) > 1:
        options["map_count"] = len(jobs)
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return str(from_submitit(command=command, folder=folder, **options))


def submit(
    jobs: Sequence[Job],
    resources: Resources,
    output: Path,
    *,
    name: str = "hepml",
    last: Job | None = None,
    surroundings: Surroundings | None = None,
) -> list[Any]:
    """Submits the jobs as one array; returns submitit's jobs, that of `last` at the end.

    Args:
        jobs: at least one.
        resources: of each.
        output: logs and what submitit keeps go to its folder `slurm/`.
        name: of the array.
        last: a job that starts when all others have ended, well or not.
        surroundings: what is set up around each command.

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
    around = surroundings or Surroundings()
    folder = _folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=resources.requeues)
    try:
        executor.update_parameters(**_options(jobs, resources, name, around))
        with executor.batch():
            submitted = [executor.submit(_task(job, around, resources)) for job in jobs]
    except (submitit.core.utils.FailedJobError, ValueError) as problem:
        raise ClusterError(
            f"Slurm refuses the jobs: {_brief(problem)}", mend="see --partition, --time, --account"
        ) from None
    if last is not None:
        array = submitted[0].job_id.partition("_")[0]
        more = {**resources.more, "dependency": f"afterany:{array}"}
        executor = submitit.SlurmExecutor(folder=folder)
        small = Resources(60, 1, 0, None, resources.partition, resources.account, 1, more)
        executor.update_parameters(**_options([last], small, f"{name}-last", around))
        submitted.append(executor.submit(_task(last, around, small)))
    return submitted


def wait(
    jobs: Sequence[Any], tell: Callable[[int, int], None] = lambda ended, total: None, *, every: float = 2.0
) -> None:
    """Waits until Slurm has none of the jobs any more; needs no accounting, which many clusters lack.

    Args:
        jobs: from `submit`.
        tell: called with how many have ended.
        every: seconds between looks.
    """
    while True:
        ended = sum(job.paths.result_pickle.exists() for job in jobs)
        tell(ended, len(jobs))
        if ended == len(jobs):
            return
        states = queue.slurm_states([job.job_id for job in jobs])
        if states is not None and not any(state in queue.ALIVE for state in states.values()):
            tell(sum(job.paths.result_pickle.exists() for job in jobs), len(jobs))
            return
        time.sleep(every)


def _task(job: Job, around: Surroundings, resources: Resources) -> Task:
    return Task(job.words, around, job.folder, resources.gpus)


def _folder(output: Path) -> Path:
    """Where logs and what submitit keeps go."""
    if set(str(output)) & set("%\\\n"):
        raise ConfigError(
            "Slurm reads '%' and backslashes in the name of a log", where=str(output), mend="another --output"
        )
    return output / LOGS


def _options(jobs: Sequence[Job], resources: Resources, name: str, around: Surroundings) -> dict[str, Any]:
    if not jobs:
        raise ConfigError("no job to submit", where="command line", mend="everything is finished already?")
    setup = [f"# task {i}: {job.line}" for i, job in enumerate(jobs)]
    setup += around.prologue
    setup.append("export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} OMP_WAIT_POLICY=PASSIVE")
    # since 22.05 srun asks for one core unless it is told
    setup.append("export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}")
    more: dict[str, Any] = {"requeue": True, **resources.more}
    options: dict[str, Any] = {
        "job_name": name,
        "time": resources.minutes,
        "cpus_per_task": resources.cpus,
        "array_parallelism": max(1, resources.parallel),
        "setup": setup,
        "stderr_to_stdout": True,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks,
    }
    if resources.nodes * resources.tasks > 1:
        # one rank that fails takes the others with it, which would wait for it
        options["srun_args"] = ["--kill-on-bad-exit=1"]
    if resources.gpus:
        options["gpus_per_node"] = resources.gpus
    if resources.memory_gb is not None:
        options["mem"] = f"{round(1024 * resources.memory_gb)}M"
    for key in ("partition", "account"):
        if getattr(resources, key):
            options[key] = getattr(resources, key)
    if resources.mail:
        options |= {"mail_user": resources.mail, "mail_type": "END,FAIL"}
    options["additional_parameters"] = more
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
    messages = [line for line in lines if "error" in line.lower()] or lines
    return messages[-1][:200] if messages else type(problem).__name__
