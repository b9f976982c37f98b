"""`hepml train`: trains a tagger from a config and reports on its test jets."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    config: Annotated[
        str | None,
        typer.Argument(help="A config file (YAML), or a run folder to start or resume.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key.sub=value]...", help="Keys of the config to set.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder; runs/NAME-TIME where left out.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a run: the one in --output, a run folder given as CONFIG, or the config's "
            "newest.",
        ),
    ] = False,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run plugins that the config of another user's run folder names."),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of configs, for editors, and leave.")
    ] = False,
    find_rate: Annotated[
        bool,
        typer.Option(
            "--find-rate",
            help="Look for a learning rate instead of training; draws find-rate.png in --output.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Train a tagger (or a regression) from a config.

    Examples: hepml train quickstart  ·
    hepml train toptag/particlenet training.epochs=5 -o runs/try  ·
    hepml train runs/try --resume
    """
    from hepml.cli import console

    if schema:
        from hepml.training.run_schema import run_schema

        console.print_json(run_schema())
        return 0
    from hepml.training.callbacks import Killed
    from hepml.training.run import train

    run, folder = _what(config, overrides or [], output, resume, trust)
    progress = console.training_progress(quiet=quiet)
    if find_rate:
        from hepml.training import rate_finder

        curve = rate_finder.find_rate(run, progress=progress)
        figure = rate_finder.draw(curve, (folder or Path()) / "find-rate.png")
        if json:
            console.print_json(curve)
        else:
            words = f"training.learning_rate={curve['suggested']:.1e}"
            console.out().print(f"{words}  (least loss at {curve['least']:.1e}; drawn in {figure})")
        return 0
    try:
        summary = train(run, folder, resume=resume, progress=progress)
    except Killed as stop:
        place = folder or stop.folder
        console.err().print(f"stopped by {stop}; go on with: hepml train {shlex.quote(str(place))} --resume")
        if resume:
            from hepml.cluster.requeue import queue_again

            queue_again(stop.signum)
        return 128 + stop.signum
    if not summary:  # another rank reports
        return 0
    if json:
        console.print_json(summary)
    else:
        _show(summary, run)
    return 0


def _what(
    config: str | None, overrides: list[str], output: Path | None, resume: bool, trust: bool
) -> tuple[Any, Path | None]:
    """The run config and folder that the words mean."""
    from hepml.cli import console
    from hepml.errors import ConfigError, FileError
    from hepml.paths import config_file
    from hepml.training.run_config import load_run_config
    from hepml.training.run_directory import CONFIG, find_run, newest_run

    words = [config, *overrides] if config is not None else list(overrides)
    settings = [word for word in words if "=" in word and not Path(word).exists()]
    places = [word for word in words if word not in settings]
    if resume and len(places) == 2:  # hepml train CONFIG --resume RUN
        output, places = output or find_run(places[1]), places[:1]
    if len(places) > 1:
        raise ConfigError(
            f"'{places[1]}' is not an override", where="command line", mend="write key.sub=value"
        )
    if not places:
        if resume and output is not None:
            return load_run_config(find_run(output) / CONFIG, settings, trust=trust), output
        raise ConfigError("no config given", where="command line", mend="hepml train configs/quickstart.yaml")
    place = Path(places[0])
    if place.is_dir() and config_file(place) == place:
        run = find_run(place)
        loaded = load_run_config(run / CONFIG, settings, trust=trust)
        return loaded, (output or run) if resume else output
    if place.suffix in console.DATA_SUFFIXES:
        raise ConfigError(
            f"'{place}' holds jets, it is no config",
            where="command line",
            mend=f"hepml train quickstart data.train={place}",
        )
    if resume and not place.suffix and not config_file(place).exists():
        find_run(place)  # says which runs there are
    loaded = load_run_config(place, settings, trust=trust)
    if resume and output is None and loaded.output is None:
        output = newest_run(loaded.name or "run")
        if output is None:
            raise FileError(
                f"no run of '{loaded.name}' to resume",
                where="runs",
                mend="name it: hepml train RUN_FOLDER --resume",
            )
    return loaded, output


def _show(summary: dict[str, Any], run: Any) -> None:
    from rich.text import Text

    from hepml.cli import console
    from hepml.evaluation.tables import classes_table, regression_table, report_table
    from hepml.tracking.store import public_uri, tracking_uri

    screen = console.out()
    reports = {"test": summary["test"], **summary["tests"]} if summary["test"] else {}
    first = next(iter(run.data.tests()), "test")
    named = {
        f"{summary['model']} on {first if name == 'test' else name}": report
        for name, report in reports.items()
    }
    if named:
        screen.print()
        if summary["objective"] == "gaussian":
            screen.print(regression_table(named, title=run.data.target or ""))
        else:
            screen.print(report_table(named))
            for name, report in named.items():
                if "classes" in report:
                    screen.print(classes_table(report, title=name))
    for remark in summary.get("remarks", ()):
        screen.print(Text(remark, style="yellow"))
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    screen.print(
        Text(
            f"{summary['parameters']:,} parameters, {summary['epochs']} epochs (best: "
            f"{summary['best_epoch'] + 1}) in "
            f"{minutes} min {seconds:02d} s on {summary['device']}, {summary['jets_per_second']:,.0f} jets/s"
            f", {summary['loader_seconds']:.1f} s waiting for jets"
        )
    )
    screen.print(Text(f"run:    {summary['run']}"))
    if run.tracking.enabled:
        uri = public_uri(tracking_uri(run.tracking.uri))
        look = (
            f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        )
        screen.print(Text(f"MLflow: {look}"))
