"""`hepml benchmark`: trains several taggers on the same jets, several seeds each, and compares them in one
table."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hepml.cli.figure_label import EnergyOption, LabelOption, LumiOption, label_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hepml.training.benchmark.plan import PlannedRun
    from hepml.training.report_config import TrackingConfig


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG... [key.sub=value]...",
            help="Config files, one a tagger, and keys to set in all of them.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", "-n", help="How many seeds a tagger (1 to N), or which: 1,2,5.")
    ] = "1",
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder of the benchmark; the same folder goes on where it stopped."
        ),
    ] = Path("runs/benchmark"),
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            min=1,
            help="Trainings at a time; as many as GPUs, or as cores, where left out.",
        ),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(
            "--fractions",
            help="Also train on these shares of the training jets, as 0.005,0.05,1; SHARE:EPOCHS gives "
            "a share its epochs.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            min=2,
            help="Cut the training jets into so many parts, train without each in turn, and write the "
            "out-of-fold scores of every jet to OUTPUT/out_of_fold.npz.",
        ),
    ] = None,
    boost: Annotated[
        bool,
        typer.Option("--boost", help="Also score the test jets boosted along x with velocities up to 0.999."),
    ] = False,
    boost_jets: Annotated[
        int, typer.Option("--boost-jets", min=1, help="Test jets that are boosted, at most.")
    ] = 10_000,
    betas: Annotated[
        str | None, typer.Option("--betas", help="The velocities, as 0,0.5,0.9; implies --boost.")
    ] = None,
    gather: Annotated[
        list[Path] | None,
        typer.Option(
            "--gather", help="Train nothing: the leaderboard of the runs below this folder; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with all runs that OUTPUT was prepared for; no configs are named then."
        ),
    ] = False,
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Count operations and measure jets a second.")
    ] = True,
    label: LabelOption = None,
    energy: EnergyOption = None,
    lumi: LumiOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which runs there are and what state they are in.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the leaderboard as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Train several taggers on the same jets and write their leaderboard.

    Every run is an ordinary run folder below OUTPUT/runs; finished ones are kept as long as their config is
    the same, stopped ones go on. A run that fails is reported and does not stop the others; the exit code is
    1 then.

    Examples: hepml benchmark configs/toptag/pfn.yaml configs/toptag/particlenet.yaml --seeds 3 -o runs/board
    ·  hepml benchmark configs/toptag/*.yaml -n 3 training.epochs=10 data.test.reference=real.npz
    ·  hepml benchmark --gather runs
    """
    from hepml.cli import console
    from hepml.training.benchmark import board, out_of_fold, plan, writing
    from hepml.training.benchmark import workers as processes
    from hepml.training.benchmark.plan import prepared
    from hepml.training.ranks import refuse_ranks

    if not dry_run:
        refuse_ranks(os.environ, "a benchmark")
    problems: dict[str, str] = {}
    speak = console.err()
    velocities = _velocities(betas, boost)
    if gather:
        places, planned = list(gather), []
        output = output if output != Path("runs/benchmark") else gather[0]
    elif resume and not words:
        places, planned = [output], prepared(output)
    else:
        places, planned = [output], _plan(words or [], seeds, output, fractions, workers, folds)
    if dry_run:
        return _say_plan(planned, json)
    at_a_time = workers or processes.default_workers(len(planned) or 1)
    try:
        if planned:
            problems = _train(planned, at_a_time, quiet)
        folders = plan.find_runs(places)
        if cost:
            _measure(folders, output, ["--cost"], "cost.json", 1, quiet)
        if velocities:
            options = ["--betas", ",".join(f"{b:g}" for b in velocities), "--boost-jets", str(boost_jets)]
            _measure(
                folders, output, options, "boost.json", at_a_time, quiet, betas=velocities, jets=boost_jets
            )
    except processes.Interrupted as stop:
        speak.print(f"stopped by {stop}; the same command goes on")
        return 128 + stop.signum
    results = board.gather(places, problems)
    joined = out_of_fold.write(results, output)
    call = None if gather or not words else _command_line(words or [], seeds, fractions, velocities, folds)
    with label_figures(label, energy, lumi):
        files = [*writing.write(results, output, command=call), *([joined] if joined else [])]
    if planned:
        for problem in writing.track(results, output, _tracking(planned), files):
            speak.print(f"MLflow: {problem}", style="yellow")
    for remark in results["remarks"]:
        speak.print(f"remark: {remark}", style="dim")
    if json:
        console.print_json(results)
    else:
        _show(results, output)
    return 1 if results["failed"] else 0


def _plan(
    words: Sequence[str],
    seeds: str,
    output: Path,
    fractions: str | None,
    workers: int | None,
    folds: int | None,
) -> list[PlannedRun]:
    from hepml.training.benchmark import workers as processes
    from hepml.training.benchmark.plan import parse_fractions, plan

    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    files = [word for word in words if word not in overrides]
    shares = parse_fractions(fractions) if fractions else []
    numbers = parse_seeds(seeds)
    count = len(files) * len(numbers) * max(1, len(shares)) * (folds or 1)
    threads = processes.threads_for(min(workers or processes.default_workers(max(1, count)), max(1, count)))
    return plan(
        files, output, seeds=numbers, overrides=overrides, fractions=shares, threads=threads, folds=folds
    )


def parse_seeds(text: str) -> list[int]:
    """`3` as 1, 2, 3; `2,5` as these.

    Raises:
        ConfigError: not whole numbers.
    """
    from hepml.errors import ConfigError

    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"'{text}' are no seeds", where="--seeds", mend="a number of seeds, or a list: 1,2,5"
        ) from None
    if "," in text:
        return numbers
    if numbers[0] < 1:
        raise ConfigError("no seed at all", where="--seeds", mend="at least 1")
    return list(range(1, numbers[0] + 1))


def _velocities(betas: str | None, boost: bool) -> list[float]:
    from hepml.errors import ConfigError
    from hepml.training.benchmark.measure import BETAS

    if betas is None:
        return list(BETAS) if boost else []
    try:
        values = [float(word) for word in betas.split(",")]
    except ValueError:
        values = [1.0]
    if not all(0 <= v < 1 for v in values):
        raise ConfigError(
            f"'{betas}' are no velocities", where="--betas", mend="numbers from 0 up to below 1"
        )
    return values


def _say_plan(planned: Sequence[PlannedRun], json: bool) -> int:
    from hepml.cli import console
    from hepml.training.benchmark.plan import state

    rows = [{"run": run.name, "state": state(run), "folder": str(run.folder)} for run in planned]
    if json:
        console.print_json(rows)
    else:
        for row in rows:
            print(f"{row['state']:<9} {row['run']:<40} {row['folder']}")
    return 0


def _train(planned: Sequence[PlannedRun], workers: int, quiet: bool) -> dict[str, str]:
    from hepml.cli.benchmark_view import View
    from hepml.training.benchmark.workers import carry_out

    with View(quiet=quiet) as view:
        processes = carry_out(planned, workers, view.show)
    return {p.run.name: p.problem or "failed" for p in processes if p.status == "failed"}


def _measure(
    folders: Sequence[Path],
    output: Path,
    options: Sequence[str],
    result: str,
    workers: int,
    quiet: bool,
    *,
    betas: Sequence[float] = (),
    jets: int | None = None,
) -> None:
    """Measures what is not measured yet: cost once a tagger, boosts for every run on all training jets."""
    from hepml.cli import console
    from hepml.training.benchmark.plan import read_mark
    from hepml.training.benchmark.workers import measure
    from hepml.training.run_directory import SUMMARY, RunDirectory

    wanted, labels = [], set()
    for folder in folders:
        mark = read_mark(folder)
        if not (folder / SUMMARY).is_file() or not (folder / "checkpoints").is_dir() or mark["share"] != 1:
            continue
        if not betas and mark["label"] in labels:
            continue
        labels.add(mark["label"])
        known = RunDirectory(folder).read_json(result)
        fits = not betas or (known.get("betas") == list(betas) and known.get("jets", 0) <= (jets or 0))
        if not known or known.get("problem") or not fits:
            wanted.append(folder)
    if not wanted:
        return
    if not quiet:
        what = "boosted jets" if betas else "cost"
        console.err().print(f"measuring {what} of {len(wanted)} run{'s'[: len(wanted) != 1]}", style="dim")
    output.mkdir(parents=True, exist_ok=True)
    measure(wanted, options, result, output / "measure.log", workers)


def _tracking(planned: Sequence[PlannedRun]) -> TrackingConfig:
    return planned[0].config.tracking


def _command_line(
    words: Sequence[str],
    seeds: str,
    fractions: str | None,
    velocities: Sequence[float],
    folds: int | None = None,
) -> str:
    line = ["hepml", "benchmark", *words, "--seeds", seeds]
    line += ["--fractions", fractions] if fractions else []
    line += ["--folds", str(folds)] if folds else []
    return shlex.join([*line, "--boost"] if velocities else line)


def _show(results: dict[str, Any], output: Path) -> None:
    from rich.console import Console

    from hepml.training.benchmark.tables import rich_tables

    screen = Console()
    if not screen.is_terminal:
        screen = Console(width=200)  # a file or a pipe has no width: lines are not to be cut for it
    for table in rich_tables(results):
        screen.print(table)
    screen.print(f"leaderboard: {output / 'leaderboard.md'}", highlight=False)
    if results.get("out_of_fold"):
        screen.print(f"out-of-fold scores: {results['out_of_fold']['file']}", highlight=False)
