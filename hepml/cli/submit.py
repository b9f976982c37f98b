"""`hepml submit`: trainings and benchmarks as batch jobs, and what became of them; `hepml benchmark --gather`
makes the leaderboard of what they leave.

Longer than other files because most of it is the list of options of one command.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hepml.cluster.jobs import Job, Resources, Surroundings
    from hepml.training.benchmark.plan import PlannedRun

DEFAULT_TIME = "8h"


class System(StrEnum):
    """Where jobs run."""

    slurm = "slurm"
    local = "local"
    htcondor = "htcondor"


app = typer.Typer(
    no_args_is_help=True,
    help="Submit trainings and benchmarks as batch jobs, and watch, cancel or retry them.",
)


def submit(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG... [key.sub=value]...", help="Config files, and keys to set.", show_default=False
        ),
    ] = None,
    array: Annotated[
        list[str] | None,
        typer.Option(
            "--array", "-a", help="A key with several values, as seed=1,2,3 or model.k=8,16; may be repeated."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", "-n", help="The same for seeds: 3 is seed=1,2,3.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder of runs, logs and the leaderboard; shared with the nodes."
        ),
    ] = Path("runs/benchmark"),
    partition: Annotated[
        str | None, typer.Option("--partition", "-p", help="Partition (Slurm), flavour (HTCondor).")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", "-t", help="Time limit: minutes, 2h, 01:30:00 or 1-12:00:00; 8h by default."),
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", "-N", min=1, help="Machines a job.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", "-c", min=1, help="Cores a process.")] = 2,
    gpus: Annotated[
        int, typer.Option("--gpus", "-g", min=0, help="GPUs of each node, one process for each.")
    ] = 0,
    memory: Annotated[float | None, typer.Option("--memory", help="Memory of each node in GB.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Account or accounting group.")] = None,
    parallel: Annotated[int, typer.Option("--parallel", min=1, help="Jobs at a time, at most (Slurm).")] = 64,
    requeues: Annotated[
        int, typer.Option("--requeues", min=0, help="How often a job goes on after its time limit.")
    ] = 3,
    prologue: Annotated[
        Path | None, typer.Option("--prologue", help="File with shell lines that set a node up.")
    ] = None,
    module: Annotated[
        list[str] | None, typer.Option("--module", help="Environment module to load; may be repeated.")
    ] = None,
    view: Annotated[
        str | None,
        typer.Option("--view", help="LCG view of CVMFS to source, as LCG_107/x86_64-el9-gcc13-opt."),
    ] = None,
    container: Annotated[
        str | None, typer.Option("--container", help="Image that the job runs in (apptainer).")
    ] = None,
    bind: Annotated[
        list[str] | None,
        typer.Option(
            "--bind",
            help="A folder that the container sees, as /eos, beside --output and this one; may be repeated.",
        ),
    ] = None,
    snapshot: Annotated[
        bool | None,
        typer.Option(
            "--snapshot/--no-snapshot",
            help="Run a copy of hepml as it is now; by default where it runs from a checkout.",
            show_default=False,
        ),
    ] = None,
    mail: Annotated[
        str | None, typer.Option("--mail", help="Where the batch system writes at the end.")
    ] = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Folder of the logs (HTCondor); never on EOS.")
    ] = None,
    credential: Annotated[
        bool, typer.Option("--credential", help="Send the Kerberos credential along (HTCondor).")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="A further option of the batch system: constraint=a100."),
    ] = None,
    one_job: Annotated[
        bool,
        typer.Option(
            "--one-job", help="One job that trains everything, as `hepml benchmark` does, not one a run."
        ),
    ] = False,
    gather: Annotated[
        bool,
        typer.Option(
            "--gather/--no-gather", help="A last job that writes the leaderboard when all have ended (Slurm)."
        ),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script, and submit nothing.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all jobs have ended; exit code 1 if one failed.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Say what was submitted as one JSON document.")
    ] = False,
) -> int:
    """Submit trainings or a benchmark as batch jobs.

    Runs that are finished or queued are not submitted again; a job that reaches its time limit, or is
    preempted, writes a checkpoint and is queued again.

    Examples: hepml submit slurm configs/toptag/*.yaml --array seed=1,2,3 -p gpu -g 1 -t 4h -o runs/board
    ·  hepml submit slurm configs/toptag/pfn.yaml --nodes 2 --gpus 4 --dry-run
    ·  hepml submit local configs/toptag/pfn.yaml --seeds 3  ·  hepml submit status runs/board
    """
    from hepml.cluster import jobs as kinds
    from hepml.cluster.htcondor import FLAVOURS
    from hepml.errors import ConfigError

    system = System(str(context.info_name))
    planned = _plan(words or [], array or [], seeds, output, cpus)
    flavour = FLAVOURS.get(partition or "") if system is System.htcondor else None
    resources = kinds.Resources(
        flavour if flavour and time is None else kinds.minutes(time or DEFAULT_TIME),
        cpus, gpus, memory, partition, account, parallel, _options(option or []), nodes,
        tasks=1 if one_job else kinds.tasks_per_node(_devices(planned), gpus, nodes),
        requeues=requeues, mail=mail,
    )  # fmt: skip
    if system is System.local and nodes > 1:
        raise kinds.ClusterError("this machine is one node", where="--nodes", mend="hepml submit slurm")
    output = output.absolute()
    if bind and container is None:
        raise ConfigError("--bind without a container", where="command line", mend="--container IMAGE")
    folders = kinds.binds([output, Path.cwd()], bind or []) if container else ()
    around = kinds.Surroundings(kinds.prologue(prologue, module or [], view), container, binds=folders)
    jobs = _jobs(system, planned, resources, output, one_job=one_job, dry_run=dry_run)
    if not jobs:
        print(f"nothing to submit, all runs are finished ({len(planned)}): hepml benchmark --gather {output}")
        return 0
    last = None
    if gather and not one_job and system is not System.local:
        last = kinds.Job("leaderboard", ("benchmark", "--gather", str(output)))
    extra = {"logs": logs, "credential": credential}
    if dry_run:
        return _print(system, jobs, resources, output, last, around, extra)
    jobs, around = _with_snapshot(jobs, planned, output, around, snapshot)
    return _submit(system, jobs, resources, output, last, planned, around, extra, wait=wait, json=json)


_PLACES = {
    System.slurm: "as an array of Slurm",
    System.local: "in the background of this machine",
    System.htcondor: "to an HTCondor pool",
}
for _system, _where in _PLACES.items():
    app.command(_system.value, short_help=f"Trainings or a benchmark {_where}.")(submit)


@app.command()
def status(
    board: Annotated[Path, typer.Argument(help="Folder that was submitted to (--output).")],
    json: Annotated[bool, typer.Option("--json", help="The table as one JSON document.")] = False,
) -> int:
    """Where each run is: its state, how often it was queued again, how far it has come."""
    from hepml.cli.submitted import show

    return show(board.absolute(), json=json)


@app.command()
def cancel(
    board: Annotated[Path, typer.Argument(help="Folder that was submitted to (--output).")],
    json: Annotated[bool, typer.Option("--json", help="What was cancelled as one JSON document.")] = False,
) -> int:
    """Take every job of a board out of the queue; those that run write a checkpoint first."""
    from hepml.cli.submitted import cancel_all

    return cancel_all(board.absolute(), json=json)


@app.command()
def retry(
    board: Annotated[Path, typer.Argument(help="Folder that was submitted to (--output).")],
    time: Annotated[str | None, typer.Option("--time", "-t", help="Another time limit.")] = None,
    memory: Annotated[float | None, typer.Option("--memory", help="Other memory, in GB.")] = None,
    json: Annotated[bool, typer.Option("--json", help="What was submitted as one JSON document.")] = False,
) -> int:
    """Submit again what has left the queue without a result; each run goes on from its checkpoint."""
    from hepml.cli.submitted import gathering, left
    from hepml.cluster.jobs import minutes

    output = board.absolute()
    groups = left(output)
    if not groups:
        print("nothing to retry: every run is finished or queued")
    last = gathering(output)
    for system, resources, around, extra, jobs in groups:
        changes: dict[str, Any] = {"minutes": minutes(time)} if time else {}
        if memory is not None:
            changes["memory_gb"] = memory
        _submit(
            System(system), jobs, replace(resources, **changes), output, last, [], around, extra, wait=False,
            json=json,
        )  # fmt: skip
    return 0


# ------------------------------------------------------------------------------------------------------------
# stations


def _plan(
    words: Sequence[str], array: Sequence[str], seeds: str | None, output: Path, cpus: int
) -> list[PlannedRun]:
    from hepml.cli.benchmark import parse_seeds
    from hepml.errors import ConfigError
    from hepml.training.benchmark.plan import plan

    variations: dict[str, list[str]] = {}
    for word in array:
        key, equals, values = word.partition("=")
        if not equals or not key or not all(values.split(",")):
            raise ConfigError(
                f"'{word}' is no array", where="--array", mend="key=value,value,… as seed=1,2,3"
            )
        variations[key] = values.split(",")
    chosen = variations.pop("seed", None) or variations.pop("training.seed", None)
    if chosen and seeds:
        raise ConfigError("seeds are given twice", where="command line", mend="--seeds or --array seed=…")
    numbers = (
        [parse_seeds(f"{value},{value}")[0] for value in chosen] if chosen else parse_seeds(seeds or "1")
    )
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    files = [word for word in words if word not in overrides]
    return plan(files, output, seeds=numbers, overrides=overrides, variations=variations, threads=cpus)


def _options(words: Sequence[str]) -> dict[str, str]:
    from hepml.errors import ConfigError

    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(
                f"'{word}' is no option", where="--option", mend="key=value, as constraint=a100"
            )
        pairs[key.lstrip("-")] = value
    return pairs


def _devices(planned: Sequence[PlannedRun]) -> int:
    """`training.devices` of all the runs."""
    from hepml.errors import ConfigError

    devices = {run.config.training.devices for run in planned}
    if len(devices) > 1:
        raise ConfigError(
            f"runs of one submission have training.devices {', '.join(map(str, sorted(devices)))}",
            where="command line",
            mend="submit each number of devices by itself",
        )
    return devices.pop() if devices else 1


def _jobs(
    system: System, planned: Sequence[PlannedRun], resources: Resources, output: Path, *, one_job: bool,
    dry_run: bool,
) -> list[Job]:  # fmt: skip
    """What is to be submitted: neither finished nor queued nor trained by anybody."""
    from hepml.cli.submitted import refuse_queued
    from hepml.cluster.jobs import Job
    from hepml.training.benchmark.plan import prepare, state

    todo = [run for run in planned if state(run) != "finished"]
    if not dry_run:
        todo = refuse_queued(todo, output)
        todo = [run for run in todo if prepare(run) != "finished"]
    if one_job or system is System.local:
        words = ("benchmark", "--resume", "--output", str(output))
        return [Job(output.name, words)] if todo else []
    # HTCondor starts one process on its machine, which starts those for the other GPUs
    flags = (
        [f"training.devices={resources.tasks}"] if system is System.htcondor and resources.tasks > 1 else []
    )
    return [
        Job(run.name, (*run.words(resume=True), *flags), str(run.folder), run.config.training.epochs)
        for run in todo
    ]


def _with_snapshot(
    jobs: Sequence[Job], planned: Sequence[PlannedRun], output: Path, around: Surroundings, asked: bool | None
) -> tuple[list[Job], Surroundings]:
    """The jobs with the code as it is now, where that is asked for or the code is being edited."""
    from hepml.cluster import snapshot

    if asked is None:
        asked = snapshot.from_a_checkout() and around.container is None
    if not asked:
        return list(jobs), around
    files = [Path(name) for run in planned for name in run.config.plugins if name.endswith(".py")]
    copies = {f"{i}_{file.name}": file for i, file in enumerate(dict.fromkeys(files))}
    place = snapshot.take(output, copies)
    moved = {str(file): str(place / name) for name, file in copies.items()}
    changed = []
    for job in jobs:
        run = next((run for run in planned if str(run.folder) == job.folder), None)
        if run is not None and any(name in moved for name in run.config.plugins):
            plugins = ", ".join(moved.get(name, name) for name in run.config.plugins)
            job = replace(job, words=(*job.words, f"plugins=[{plugins}]"))
        changed.append(job)
    return changed, replace(around, code=str(place))


def _print(
    system: System, jobs: Sequence[Job], resources: Resources, output: Path, last: Job | None,
    around: Surroundings, extra: dict[str, Any],
) -> int:  # fmt: skip
    if system is System.slurm:
        from hepml.cluster.slurm import script

        print(script(jobs, resources, output, name=output.name, surroundings=around))
        if last is not None:
            print(f"# and when all tasks have ended: {last.line}")
    elif system is System.htcondor:
        for name, text in _condor_files(jobs, resources, output, last, around, extra).items():
            print(text if name.endswith(".sub") and last is None else f"# ---- {name}\n{text}", end="")
    else:
        for job in jobs:
            print(f"{job.line} &")
    return 0


def _condor_files(
    jobs: Sequence[Job], resources: Resources, output: Path, last: Job | None, around: Surroundings,
    extra: dict[str, Any],
) -> dict[str, str]:  # fmt: skip
    from hepml.cluster import htcondor

    options = {"environment": htcondor.present_environment(), "surroundings": around, **extra}
    files = {
        htcondor.FILE: htcondor.description(jobs, resources, output, name=output.name, **options),
        htcondor.SCRIPT: htcondor.job_script(resources, around),
    }
    if last is not None:
        files |= htcondor.dag(jobs, last, resources, output, name=output.name, **options)
    return files


def _submit(
    system: System, jobs: Sequence[Job], resources: Resources, output: Path, last: Job | None,
    planned: Sequence[PlannedRun], around: Surroundings, extra: dict[str, Any], *, wait: bool, json: bool,
) -> int:  # fmt: skip
    from hepml.cli import console
    from hepml.cluster import htcondor, local, slurm, submissions
    from hepml.errors import MissingExtraError

    submitted: list[Any] = []
    logs: list[str | None] = []
    if system is System.htcondor:
        path = htcondor.write(_condor_files(jobs, resources, output, last, around, extra), output)
        (extra.get("logs") or output / htcondor.LOGS).mkdir(parents=True, exist_ok=True)
        try:
            ids = htcondor.submit(path, len(jobs))
        except MissingExtraError:
            console.err().print(
                f"written, not submitted, there is no HTCondor here: condor_submit {path}"
                + (
                    f"   or, with the leaderboard behind: condor_submit_dag {path.with_name(htcondor.DAG)}"
                    if last
                    else ""
                )
            )
            ids = []
        place = extra.get("logs") or output / htcondor.LOGS
        logs = [f"{place}/{number}.out" for number in ids]
    else:
        if system is System.slurm:
            submitted = slurm.submit(
                jobs, resources, output, name=output.name, last=last, surroundings=around
            )
        else:
            submitted = local.submit(jobs, resources, output, around)
        ids = [str(job.job_id) for job in submitted]
        logs = [str(job.paths.stdout) for job in submitted]
    everything = [*jobs, *([last] if last and submitted else [])]
    submissions.add(output, system.value, everything, ids, resources, around, logs, extra)
    if json:
        console.print_json({"jobs": ids, "runs": [job.folder for job in jobs], "output": str(output)})
    else:
        for job, number in zip(everything, ids, strict=False):
            print(f"job {number}: {job.name}")
        print(f"logs: {output / system.value}   where they are: hepml submit status {output}")
        if system is System.htcondor and ids and last is not None:
            print(f"when all have ended: {last.line}")
    if not wait or not submitted:
        return 0
    with console.CountingBar("jobs", len(submitted)) as bar:
        (slurm if system is System.slurm else local).wait(submitted, bar.update)
    return _outcome(planned, console.err())


def _outcome(planned: Sequence[PlannedRun], speak: Any) -> int:
    from hepml.training.benchmark.plan import state

    bad = [run for run in planned if state(run) != "finished"]
    for run in bad:
        speak.print(f"{run.name} has not finished: see {run.folder} and the job's log", style="red")
    speak.print(f"{len(planned) - len(bad)} of {len(planned)} runs finished")
    return 1 if bad else 0
