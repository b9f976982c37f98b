"""`hepml runs`: all runs, one of them, several side by side, what MLflow still lacks, and MLflow's own
pages."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from hepml.tracking.runs import Comparison, Run

app = typer.Typer(help="List, show, compare and synchronise runs.", no_args_is_help=True)

Root = Annotated[Path, typer.Option("--root", help="Folder with run directories.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
RUNS = Path("runs")
_FILES = 4  # files of a data set that are named


@app.command("list")
def list_command(
    root: Annotated[Path, typer.Argument(help="Folder with run directories.")] = RUNS, as_json: AsJson = False
) -> None:
    """Table of all runs, newest first: status, model, AUC, background rejection, when, how long."""
    from hepml.tracking.runs import list_runs

    runs = list_runs(root)
    if as_json:
        _print_json([run.as_json() for run in runs])
    elif runs:
        _print(_runs_table(runs, root))
    else:
        typer.echo(f"no runs below {root}; `hepml train CONFIG` makes one")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Run directory or name.")],
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Everything about one run: parameters, last metrics, data sets, remarks, its place in MLflow."""
    from hepml.tracking.runs import open_run

    run_record = open_run(run, root)
    if as_json:
        _print_json(run_record.as_json())
    else:
        _print(*_run_tables(run_record))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Run directories or names.")],
    root: Root = RUNS,
    system: Annotated[bool, typer.Option("--system", help="System metrics, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Runs side by side: the parameters that differ, and the metrics."""
    from hepml.tracking.runs import compare_runs, open_run

    comparison = compare_runs([open_run(run, root) for run in runs], system=system)
    if as_json:
        _print_json(
            {
                "runs": [str(run.path) for run in comparison.runs],
                "parameters": comparison.parameters,
                "metrics": comparison.metrics,
            }
        )
    else:
        _print(_comparison_table(comparison))


@app.command()
def sync(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Run directories or names; all below --root without any.")
    ] = None,
    root: Root = RUNS,
    uri: Annotated[
        str | None,
        typer.Option("--uri", help="Send to this MLflow store instead of the one each run was started with."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send to MLflow what it has not got. Nothing arrives twice; may be repeated at will."""
    from hepml.errors import TrackingError
    from hepml.tracking.runs import list_runs, open_run
    from hepml.tracking.syncing import sync as replay

    folders = [open_run(run, root).path for run in runs] if runs else [run.path for run in list_runs(root)]
    results = replay(folders, uri, force=bool(runs))
    if as_json:
        _print_json([{**vars(r), "run_dir": str(r.run_dir)} for r in results])
    else:
        for r in results:
            sentence = (
                f"{r.run_dir}: {r.problem}" if r.problem else f"{r.run_dir}: {r.sent} entries sent to {r.uri}"
            )
            typer.echo(sentence if r.skipped or not r.problem else f"{sentence} ({r.sent} entries sent)")
            for refused in r.refused:
                typer.echo(f"  not taken: {refused}")
            if r.torn:
                typer.echo(f"  {r.torn} torn lines of the journal left out")
        if not results:
            typer.echo(f"no runs below {root}")
    failed = [r for r in results if r.problem and not r.skipped]
    if failed:
        raise TrackingError(
            f"{len(failed)} of {len(results)} runs are not wholly sent",
            mend="start the MLflow store and repeat `hepml runs sync`",
        )


@app.command()
def promote(
    run: Annotated[str, typer.Argument(help="Run directory or name.")],
    name: Annotated[str, typer.Option("--name", help="Registered model, as top-tagger.")],
    alias: Annotated[
        str | None, typer.Option("--alias", help="Alias that moves to the new version, as champion.")
    ] = None,
    root: Root = RUNS,
    uri: Annotated[
        str | None, typer.Option("--uri", help="MLflow store; that of the run where left out.")
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx/--no-onnx", help="Keep its ONNX file as an artifact of the run, too.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Register a run's tagger in MLflow: the next version of a name, and an alias for it.

    Then: hepml predict models:/NAME@ALIAS FILES -o scores.root  ·  hepml export models:/NAME@ALIAS -o t.onnx
    """
    from hepml.tracking.runs import open_run
    from hepml.training.promotion import promote as register

    promoted = register(open_run(run, root), name, alias, uri=uri, onnx=onnx)
    if as_json:
        _print_json({**vars(promoted), "address": promoted.address})
        return
    typer.echo(f"{promoted.address}: version {promoted.version} of {promoted.name}, of run {promoted.run_id}")
    typer.echo(f"  ONNX      {promoted.onnx or 'left out'}")
    typer.echo(f"  predict   hepml predict {promoted.address} FILES -o scores.root")
    typer.echo(
        f"  serve     MLFLOW_TRACKING_URI={promoted.store} mlflow models serve --env-manager local "
        f"-m {promoted.address}"
    )


@app.command()
def ui(
    uri: Annotated[
        str | None, typer.Option("--uri", help="MLflow store; MLFLOW_TRACKING_URI, else mlflow.db here.")
    ] = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the command instead of running it.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The store and the command as one JSON document, without running it."),
    ] = False,
) -> None:
    """Open MLflow's pages on the store: runs the server until it is stopped."""
    from hepml.errors import TrackingError
    from hepml.redaction import redact
    from hepml.tracking.store import prepare_environment, public_uri, sqlite_path, tracking_uri

    store = uri or tracking_uri(None)
    if store.startswith(("http://", "https://")):
        if as_json:
            _print_json({"store": public_uri(store), "command": None})
            return
        typer.echo(f"the store is a server with pages of its own: {public_uri(store)}")
        return
    store = store if "://" in store else tracking_uri(store)
    command = [
        "mlflow",
        "ui",
        "--backend-store-uri",
        store,
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    if as_json:
        _print_json({"store": redact(store), "command": [redact(word) for word in command]})
        return
    if only_print:
        typer.echo(redact(shlex.join(command)))
        return
    path = sqlite_path(store)
    if path is not None and not path.is_file():
        raise TrackingError(
            "there is no MLflow store", where=str(path), mend="`hepml train CONFIG` makes one; or give --uri"
        )
    prepare_environment()
    typer.echo(f"MLflow on http://{host}:{port} (stop with Ctrl-C)", err=True)
    raise typer.Exit(1 if _serve([sys.executable, "-m", *command]) > 0 else 0)


def _serve(command: list[str]) -> int:
    """Runs a server until it or this process is ended, by Ctrl-C, TERM or HUP; its own processes end with it.
    Returns its exit code, 0 where we were told to end."""
    import signal
    import subprocess

    def leave(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    ends = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    # held back until there is a server that could be ended
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    before = {s: signal.signal(s, leave) for s in ends}
    server = subprocess.Popen(
        command, start_new_session=True, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
    )
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for signum, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(server.pid, signum)  # its workers, too
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(patience)
                break
        for s, handler in before.items():
            signal.signal(s, handler)


def _runs_table(runs: list[Run], root: Path) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    points = sorted({point for run in runs for point in run.test.get("rejection") or {}})[:1]
    table = Table(
        title=f"{len(runs)} run{'s'[: len(runs) != 1]} below {root}",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("Run", overflow="fold", min_width=12)
    for heading in ("Status", "Model"):
        table.add_column(heading, overflow="fold")
    for heading in ("AUC", *(f"1/ε_B @ {p}" for p in points), "Started", "Took"):
        table.add_column(heading, justify="right")
    colours = {"FINISHED": "green", "RUNNING": "cyan", "FAILED": "red", "KILLED": "yellow"}
    for run in runs:
        rejection = run.test.get("rejection") or {}
        table.add_row(
            Text(_relative(run.path, root)),
            Text(run.status + " *"[: 2 * bool(run.waiting)], style=colours.get(run.status, "")),
            run.model or "—",
            _value(run.test.get("auc"), run.test.get("auc_error")),
            *(_rejection(rejection.get(p)) for p in points),
            _when(run.started),
            _duration(run.seconds),
        )
    if any(run.waiting for run in runs if run.status != "RUNNING"):
        table.caption = "* MLflow has not everything of it: `hepml runs sync`"
    return table


def _run_tables(run: Run) -> list[Table]:
    from rich.table import Table
    from rich.text import Text

    about = Table(title=str(run.path), title_justify="left", show_header=False)
    mlflow = "off" if run.uri is None else f"{run.uri} run {run.run_id or '(not made yet)'}"
    if run.waiting:
        mlflow += f", {run.waiting} entries wait: `hepml runs sync {run.path}`"
    rows: list[tuple[str, str]] = [
        ("name", run.name),
        ("experiment", run.experiment or "—"),
        ("status", run.status),
        ("started", _when(run.started)),
        ("took", _duration(run.seconds)),
        ("model", run.model or "—"),
        ("AUC", _value(run.test.get("auc"), run.test.get("auc_error"))),
        *((f"1/ε_B @ {p}", _rejection(r)) for p, r in (run.test.get("rejection") or {}).items()),
        ("MLflow", mlflow),
        *((f"data {name}", _data(run, name)) for name in run.datasets),
        *(("remark", note) for note in run.notes),
        *(("not finite", f"{name}, {n} times") for name, n in run.not_finite.items()),
    ]
    if run.torn:
        rows.append(("journal", f"{run.torn} torn lines"))
    for name, entry in rows:
        about.add_row(name, Text(entry))
    tables = [about]
    if run.metrics:
        metrics = Table("Metric", "Last value", "Step", title_justify="left")
        for name, (step, value) in run.metrics.items():
            metrics.add_row(Text(name), f"{value:.6g}", str(step))
        tables.append(metrics)
    if run.parameters:
        parameters = Table("Parameter", "Value", title_justify="left")
        for name, text in run.parameters.items():
            parameters.add_row(Text(name), Text(text))
        tables.append(parameters)
    return tables


def _data(run: Run, name: str) -> str:
    """The jets of a data set: how many, from which files, and the digest of their content."""
    source = run.sources.get(name, {"files": [], "jets": None})
    files = [os.path.relpath(f) if len(os.path.relpath(f)) < len(f) else f for f in source["files"]]
    more = f" and {len(files) - _FILES} more files" if len(files) > _FILES else ""
    count = f"{source['jets']:,} jets of " if source["jets"] is not None else ""
    return f"{count}{', '.join(files[:_FILES])}{more} (digest {run.datasets[name][:12]})"


def _comparison_table(comparison: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(comparison.runs)} runs", title_justify="left")
    table.add_column("", overflow="fold")
    for run in comparison.runs:
        table.add_column(Text(run.path.name), justify="right", overflow="fold")
    table.add_row("status", *(run.status for run in comparison.runs))
    table.add_section()
    for name, texts in comparison.parameters.items():
        table.add_row(Text(name), *(Text("—" if t is None else t) for t in texts))
    table.add_section()
    for name, values in comparison.metrics.items():
        table.add_row(Text(name), *("—" if v is None else f"{v:.6g}" for v in values))
    return table


def _value(value: float | None, error: float | None) -> str:
    from hepml.evaluation.tables import value_with_error

    return "—" if value is None else value_with_error(value, error)


def _rejection(entry: dict[str, Any] | None) -> str:
    from hepml.evaluation.tables import rejection_cell

    return "—" if not entry or entry.get("value") is None else rejection_cell({"error": None, **entry})


def _when(milliseconds: int | None) -> str:
    return (
        "—" if milliseconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return str(path)


def _print(*tables: Table) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has no width: lines are not to be cut for it
    for table in tables:
        console.print(table)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))
