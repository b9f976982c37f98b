"""Jobs for HTCondor: a submit description with one process a job, the script that each runs, and a DAG
with one node a job and the gather step behind; written beside the runs, and submitted where a pool is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hepml import outputs
from hepml.cluster.jobs import ClusterError, Job, Resources, Surroundings
from hepml.errors import ConfigError, MissingExtraError

LOGS = "htcondor"
FILE, SCRIPT = "jobs.sub", "job.sh"
DAG, NODE, GATHER = "jobs.dag", "node.sub", "gather.sub"
# Flavours of CERN's pool and their minutes; others are taken as they are.
FLAVOURS = {
    "espresso": 20,
    "microcentury": 60,
    "longlunch": 120,
    "workday": 480,
    "tomorrow": 1440,
    "testmatch": 4320,
    "nextweek": 10080,
}
AGAIN = 128 + 10  # what `hepml train` ends with after SIGUSR1: its checkpoint is written, it can go on
_MARGIN = 180  # seconds before the end of a slot in which the checkpoint is written
_MEMORY_A_CORE = 2.0  # GB, where nothing is asked for
# What a job needs of the submitting environment. No password or token is among them.
_NAMES = (
    "PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "HEPML_DATA", "HEPML_PLUGINS", "HOME", "USER",
    "X509_USER_PROXY", "X509_CERT_DIR",
)  # fmt: skip


def description(
    jobs: Sequence[Job],
    resources: Resources,
    output: Path,
    *,
    name: str = "hepml",
    surroundings: Surroundings | None = None,
    logs: Path | None = None,
    credential: bool = False,
    environment: Mapping[str, str] | None = None,
    node: bool = False,
) -> str:
    """The submit description.

    Jets and run folders are on a folder that submitting and executing machines share; only the job's script
    is transferred. A job that is evicted is asked to end by SIGTERM and starts again; one whose slot is about
    over ends itself with `checkpoint_exit_code`, and goes on from its checkpoint as well.

    Args:
        jobs: at least one.
        resources: of each.
        output: of the runs.
        name: of the batch.
        surroundings: what is set up around each command; see `job_script`.
        logs: folder of the logs, `output`'s where left out.
        credential: send the user's Kerberos credential along, for AFS and EOS.
        environment: as `os.environ`; what of it is handed on is listed in the description.
        node: of one node of a DAG, which says the words.

    Raises:
        ConfigError: no job; several nodes; logs on EOS; a time that the flavour does not give; a word that
            HTCondor's quoting cannot carry.
    """
    around = surroundings or Surroundings()
    if not jobs:
        raise ConfigError("no job to submit", where="command line", mend="everything is finished already?")
    if resources.nodes > 1:
        raise ConfigError(
            "HTCondor gives one machine a job", where="--nodes", mend="--gpus with as many as one machine has"
        )
    place = (logs or output / LOGS).absolute()
    if str(place).startswith("/eos/"):
        raise ConfigError(
            "HTCondor cannot keep logs on EOS", where=str(place), mend="--logs with a folder on AFS, say"
        )
    memory = resources.memory_gb or _MEMORY_A_CORE * resources.cpus * resources.tasks
    lines = [
        f"# {name}: one job of hepml, a node of {DAG}"
        if node
        else f"# {name}: {len(jobs)} job{'s'[: len(jobs) != 1]} of hepml",
        "# Jets and run folders are shared between the machines; nothing but the script is transferred.",
        "universe = vanilla",
        f"executable = {output / SCRIPT}",
        "arguments = $(words)",
        f"initialdir = {Path.cwd()}",
        "should_transfer_files = YES",
        "when_to_transfer_output = ON_EXIT_OR_EVICT",
        'transfer_output_files = ""',
        f'environment = "{_environment(environment or {}, resources, around)}"',
        f"request_cpus = {resources.cpus * resources.tasks}",
        f"request_memory = {round(1024 * memory)}M",
    ]
    if resources.gpus:
        lines.append(f"request_gpus = {resources.gpus}")
    if around.container and around.container.startswith("docker://"):
        lines.append(f"container_image = {around.container}")
    if resources.account:
        lines.append(f"accounting_group = {resources.account}")
    if credential:
        lines.append("MY.SendCredential = True")
    if resources.mail:
        lines += [f"notify_user = {resources.mail}", "notification = Complete"]
    lines += [
        # a flavour is a time limit; a second one would contradict it
        f'+JobFlavour = "{resources.partition}"'
        if resources.partition
        else f"+MaxRuntime = {60 * resources.minutes}",
        "kill_sig = SIGTERM",
        "job_max_vacate_time = 75",
        f"checkpoint_exit_code = {AGAIN}",
        f"max_retries = {resources.requeues}",
        "retry_until = 2",  # a mistake in the config, which another try would not mend
        f"log = {place}/$(Cluster).log",
        f"output = {place}/$(Cluster).$(Process).out",
        f"error = {place}/$(Cluster).$(Process).out",
        f"batch_name = {name}",
        *(f"{key} = {value}" for key, value in resources.more.items()),
        "",
    ]
    words = [_arguments(job) for job in jobs]
    lines += ["queue"] if node else ["queue words from (", *(f"  {each}" for each in words), ")"]
    return "\n".join(lines) + "\n"


def job_script(resources: Resources, surroundings: Surroundings | None = None) -> str:
    """The shell script that every job runs: sets the node up, then hepml with the job's words, which is told
    to write its checkpoint before the slot ends.

    Raises:
        ConfigError: a time that the flavour does not give.
    """
    around = surroundings or Surroundings()
    limit = 60 * _minutes(resources) - _MARGIN
    command = list(around.command((), gpus=resources.gpus))
    if around.container and around.container.startswith("docker://"):
        command = ["python3", "-u", "-m", "hepml"]  # HTCondor starts the container
    lines = ["#!/bin/bash", "# A job of hepml for HTCondor; its words are the arguments.", *around.prologue]
    asked = shlex.join(command)
    if limit > 0:
        lines.append(f'exec timeout --preserve-status --signal=USR1 --kill-after=150 {limit} {asked} "$@"')
    else:
        lines.append(f'exec {asked} "$@"')
    return "\n".join(lines) + "\n"


def dag(jobs: Sequence[Job], last: Job, resources: Resources, output: Path, **options: Any) -> dict[str, str]:
    """The files of a DAG that ends with a gather step whatever became of the runs. Each run is a node of its
    own: of a node with several jobs, DAGMan takes all out of the queue when one fails.

    Raises:
        ConfigError: the folder has a blank in its name.
    """
    if len(str(output).split()) != 1:
        raise ConfigError(
            "a DAG cannot name a folder with a blank",
            where=str(output),
            mend="another --output, or --no-gather",
        )
    small = replace(resources, gpus=0, cpus=1, tasks=1, memory_gb=None, minutes=60, partition=None)
    lines = []
    for i, job in enumerate(jobs):
        words = _arguments(job).replace("\\", "\\\\").replace('"', '\\"')
        lines += [f"JOB run_{i} {output / NODE}", f'VARS run_{i} words="{words}"']
    return {
        DAG: "\n".join([*lines, f"FINAL leaderboard {output / GATHER}"]) + "\n",
        NODE: description(jobs, resources, output, **options, node=True),
        GATHER: description([last], small, output, **options),
    }


def write(files: Mapping[str, str], output: Path) -> Path:
    """Writes description, script and DAG into the folder of the benchmark; returns the description's path."""
    (output / LOGS).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        outputs.write_bytes(output / name, text.encode())
    (output / SCRIPT).chmod(0o755)
    return output / FILE


def submit(path: Path, jobs: int) -> list[str]:
    """Submits a description with `condor_submit`, or through the Python bindings; returns the jobs' ids.

    Raises:
        MissingExtraError: there is neither.
        ClusterError: no schedd answers, or it refuses.
    """
    mend = f"on a machine of the pool: condor_submit {shlex.quote(str(path))}"
    if (dag := path.with_name(DAG)).is_file():
        mend += f"   or, with the leaderboard behind: condor_submit_dag {shlex.quote(str(dag))}"
    if shutil.which("condor_submit") is not None:
        asked = subprocess.run(
            ["condor_submit", "-terse", str(path)], capture_output=True, text=True, timeout=300, check=False
        )
        if asked.returncode:
            lines = [line for line in (asked.stderr or asked.stdout).splitlines() if line.strip()]
            raise ClusterError(f"condor_submit refuses: {lines[-1] if lines else 'no message'}", mend=mend)
        return [f"{asked.stdout.split('.')[0].strip()}.{i}" for i in range(jobs)]
    try:
        import htcondor2 as bindings
    except ImportError:
        try:
            import htcondor as bindings
        except ImportError:
            raise MissingExtraError("htcondor", "htcondor") from None
    described = bindings.Submit(path.read_text())
    try:
        result = bindings.Schedd().submit(described, itemdata=described.itemdata())
    except Exception as problem:  # HTCondorException, of whichever bindings these are
        if not type(problem).__module__.startswith("htcondor"):
            raise
        message = " ".join(str(problem).split()).rstrip(".")
        raise ClusterError(f"no HTCondor queue takes the jobs from here: {message}", mend=mend) from None
    return [f"{int(result.cluster())}.{i}" for i in range(jobs)]


def present_environment() -> dict[str, str]:
    """What of this environment a job is given."""
    from hepml.tracking.store import public_uri

    variables = {name: os.environ[name] for name in _NAMES if os.environ.get(name)}
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and public_uri(uri) == uri:  # one with a password in it is not written into a file
        variables["MLFLOW_TRACKING_URI"] = uri
    return variables


def _minutes(resources: Resources) -> int:
    given = FLAVOURS.get(resources.partition or "")
    if given is not None and resources.minutes > given:
        raise ConfigError(
            f"{resources.minutes} minutes, and flavour '{resources.partition}' gives {given}",
            where="--time",
            mend="leave --time out, or choose a longer flavour: "
            + ", ".join(f for f, m in FLAVOURS.items() if m >= resources.minutes),
        )
    return resources.minutes


def _environment(present: Mapping[str, str], resources: Resources, around: Surroundings) -> str:
    values = around.environment({**present, "OMP_NUM_THREADS": str(resources.cpus)})
    return " ".join(f"{name}={_quoted(value)}" for name, value in values.items())


def _arguments(job: Job) -> str:
    """The arguments in HTCondor's new syntax: double quotes around all, single quotes around a word with
    blanks."""
    return '"' + " ".join(_quoted(word) for word in job.words) + '"'


def _quoted(word: str) -> str:
    if "\n" in word or "$(" in word or "$$" in word:  # HTCondor's own variables
        raise ConfigError(
            f"HTCondor cannot be given the word {shlex.quote(word)}", mend="put it into the config"
        )
    word = word.replace('"', '""')
    return "'" + word.replace("'", "''") + "'" if (" " in word or "'" in word or not word) else word
