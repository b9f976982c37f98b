"""Jobs for HTCondor: a submit description with one process a job, written beside the runs, and submitted
where the bindings are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hepml.cluster.jobs import Job, Resources
from hepml.errors import ConfigError, MissingExtraError

LOGS = "htcondor"
FILE = "jobs.sub"


def description(jobs: Sequence[Job], resources: Resources, output: Path, *, name: str = "hepml") -> str:
    """The submit description. Folders are shared between submitting and executing machine, so that nothing is
    transferred.

    A job that is evicted is queued again and goes on from its checkpoint: it is asked to end by SIGTERM and
        has the grace to write one.

    Raises:
        ConfigError: no job, or a word that HTCondor's quoting cannot carry.
    """
    if not jobs:
        raise ConfigError("no job to submit", where="command line", mend="everything is finished already?")
    logs = output / LOGS
    lines = [
        f"# {name}: {len(jobs)} jobs of hepml; condor_submit {FILE}",
        "universe = vanilla",
        f"executable = {sys.executable}",
        "arguments = $(words)",
        f"initialdir = {Path.cwd()}",
        "should_transfer_files = NO",
        "getenv = True",
        f'environment = "OMP_NUM_THREADS={resources.cpus} OMP_WAIT_POLICY=PASSIVE"',
        f"request_cpus = {resources.cpus}",
    ]
    if resources.gpus:
        lines.append(f"request_gpus = {resources.gpus}")
    if resources.memory_gb is not None:
        lines.append(f"request_memory = {round(1024 * resources.memory_gb)}M")
    if resources.account:
        lines.append(f"accounting_group = {resources.account}")
    if resources.partition:
        lines.append(f'+JobFlavour = "{resources.partition}"')
    lines += [
        f"+MaxRuntime = {60 * resources.minutes}",
        "kill_sig = SIGTERM",
        "job_max_vacate_time = 75",
        f"log = {logs}/$(Cluster).log",
        f"output = {logs}/$(Cluster).$(Process).out",
        f"error = {logs}/$(Cluster).$(Process).out",
        f"batch_name = {name}",
        *(f"{key} = {value}" for key, value in resources.more.items()),
        "",
        "queue words from (",
        *(f"  {_arguments(job)}" for job in jobs),
        ")",
    ]
    return "\n".join(lines) + "\n"


def write(text: str, output: Path) -> Path:
    """Writes the description into the folder of the benchmark; returns its path."""
    (output / LOGS).mkdir(parents=True, exist_ok=True)
    path = output / FILE
    path.write_text(text)
    return path


def submit(text: str) -> int:
    """Submits a description through the Python bindings; returns the cluster id.

    Raises:
        MissingExtraError: the bindings are not installed; `condor_submit` takes the written file as well.
    """
    try:
        import htcondor2 as htcondor
    except ImportError:
        try:
            import htcondor
        except ImportError:
            raise MissingExtraError("htcondor", "htcondor") from None
    described = htcondor.Submit(text)
    return int(htcondor.Schedd().submit(described, itemdata=described.itemdata()).cluster())


def _arguments(job: Job) -> str:
    """The arguments in HTCondor's new syntax: double quotes around all, single quotes around a word with
    blanks."""
    words = ["-u", "-m", "hepml.cli.main", *job.words]
    for word in words:
        if "\n" in word or '"' in word:
            raise ConfigError(
                f"HTCondor cannot be given the word {shlex.quote(word)}", mend="put it into the config"
            )
    quoted = ["'" + w.replace("'", "''") + "'" if (" " in w or "'" in w or not w) else w for w in words]
    return '"' + " ".join(quoted) + '"'
