"""`hepml submit`: trainings and benchmarks as batch jobs; `hepml benchmark --gather` makes the leaderboard of
what they leave."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hepml.cluster.jobs import Job, Resources
    from hepml.training.benchmark.plan import PlannedRun


class System(StrEnum):
    """Where jobs run."""

    slurm = "slurm"
    local = "local"
    htcondor = "htcondor"


def command(
    system: Annotated[
        System, typer.Argument(help="slurm, htcondor, or local: in the background of this machine.")
    ],
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
        str, typer.Option("--time", "-t", help="Time limit: minutes, 2h, 01:30:00 or 1-12:00:00.")
    ] = "8h",
    cpus: Annotated[int, typer.Option("--cpus", "-c", min=1, help="Cores a job.")] = 2,
    gpus: Annotated[int, typer.Option("--gpus", "-g", min=0, help="GPUs a job.")] = 0,
    memory: Annotated[float | None, typer.Option("--memory", help="Memory a job in GB.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Account or accounting group.")] = None,
    parallel: Annotated[int, typer.Option("--parallel", min=1, help="Jobs at a time, at most (Slurm).")] = 64,
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

    Runs that are finished are not submitted again; a job that reaches its time limit writes a checkpoint and
    is queued again.

    Examples: hepml submit slurm configs/toptag/*.yaml --array seed=1,2,3 -p gpu -g 1 -t 4h -o runs/board
    ·  hepml submit slurm configs/toptag/pfn.yaml --dry-run
    ·  hepml submit local configs/toptag/pfn.yaml --seeds 3
    """
    from hepml.cluster.jobs import Job, Resources, minutes

    planned = _plan(words or [], array or [], seeds, output, cpus)
    resources = Resources(
        minutes(time), cpus, gpus, memory, partition, account, parallel, _options(option or [])
    )
    output = output.absolute()
    todo = _unfinished(planned, prepared=not dry_run)
    if one_job or system is System.local:
        jobs = [Job(f"{output.name}", ("benchmark", "--resume", "--output", str(output)))] if todo else []
    else:
        jobs = [Job(run.name, tuple(run.words(resume=True))) for run in todo]
    if not jobs:
        print(f"nothing to submit, all runs are finished ({len(planned)}): hepml benchmark --gather {output}")
        return 0
    last = None
    if gather and not one_job and system is System.slurm:
        last = Job("leaderboard", ("benchmark", "--gather", str(output)))
    if dry_run:
        return _print(system, jobs, resources, output, last)
    return _submit(system, jobs, resources, output, last, planned, wait=wait, json=json)


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


def _unfinished(planned: Sequence[PlannedRun], *, prepared: bool) -> list[PlannedRun]:
    from hepml.training.benchmark.plan import prepare, state

    return [run for run in planned if (prepare(run) if prepared else state(run)) != "finished"]


def _print(system: System, jobs: Sequence[Job], resources: Resources, output: Path, last: Job | None) -> int:
    if system is System.slurm:
        from hepml.cluster.slurm import script

        print(script(jobs, resources, output, name=output.name))
        if last is not None:
            print(f"# and when all tasks have ended: {last.line}")
    elif system is System.htcondor:
        from hepml.cluster.htcondor import description

        print(description(jobs, resources, output, name=output.name), end="")
    else:
        for job in jobs:
            print(f"{job.line} &")
    return 0


def _submit(
    system: System,
    jobs: Sequence[Job],
    resources: Resources,
    output: Path,
    last: Job | None,
    planned: Sequence[PlannedRun],
    *,
    wait: bool,
    json: bool,
) -> int:
    from hepml.cli import console
    from hepml.errors import MissingExtraError

    speak = console.err()
    if system is System.htcondor:
        from hepml.cluster import htcondor

        text = htcondor.description(jobs, resources, output, name=output.name)
        path = htcondor.write(text, output)
        try:
            ids = [str(htcondor.submit(text))]
        except MissingExtraError:
            speak.print(f"no HTCondor bindings here; submit it with: condor_submit {path}", highlight=False)
            ids = []
        made: list[Any] = []
    else:
        if system is System.slurm:
            from hepml.cluster import slurm as place

            made = place.submit(jobs, resources, output, name=output.name, last=last)
        else:
            from hepml.cluster import local as place  # type: ignore[no-redef]

            made = place.submit(jobs, resources, output)  # type: ignore[call-arg]
        ids = [job.job_id for job in made]
    if json:
        console.print_json({"jobs": ids, "runs": [str(run.folder) for run in planned], "output": str(output)})
    else:
        for job, number in zip([*jobs, *([last] if last else [])], ids, strict=False):
            print(f"job {number}: {job.name}")
        print(f"logs: {output / system.value}   leaderboard: hepml benchmark --gather {output}")
    if not wait or not made:
        return 0
    with console.CountingBar("jobs", len(made)) as bar:
        place.wait(made, bar.update)
    return _outcome(planned, speak)


def _outcome(planned: Sequence[PlannedRun], speak: Any) -> int:
    from hepml.training.benchmark.plan import state

    bad = [run for run in planned if state(run) != "finished"]
    for run in bad:
        speak.print(f"{run.name} has not finished: see {run.folder} and the job's log", style="red")
    speak.print(f"{len(planned) - len(bad)} of {len(planned)} runs finished")
    return 1 if bad else 0
