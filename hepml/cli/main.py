"""The `hepml` command: finds the subcommand, imports only that one, and turns what goes wrong into one line
and an exit code.

Exit codes: 0 success, 2 something the user can mend, 1 a defect of ours, 130 and 143 an interrupt or SIGTERM.
A subcommand is a module `hepml/cli/<name>.py` with a function `command`, or a typer app called `app` where it
has subcommands of its own. Such a module imports nothing heavy at its top, so that `--help` comes at once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from hepml import cli, interrupts, progress
from hepml.cli.watching import Watch

# Name and module; in the order of the help.
COMMANDS = {
    "generate": "hepml.cli.generate",
    "inspect": "hepml.cli.inspect",
    "train": "hepml.cli.train",
    "tune": "hepml.cli.tune",
    "evaluate": "hepml.cli.evaluate",
    "predict": "hepml.cli.predict",
    "ensemble": "hepml.cli.ensemble",
    "models": "hepml.cli.models",
    "configs": "hepml.cli.configs",
    "runs": "hepml.cli.runs",
    "benchmark": "hepml.cli.benchmark",
    "dynamics": "hepml.cli.dynamics",
    "submit": "hepml.cli.submit",
    "data": "hepml.cli.data",
    "pretrained": "hepml.cli.pretrained",
    "convert": "hepml.cli.convert",
    "export": "hepml.cli.export",
    "explain": "hepml.cli.explain",
}
DEBUG = "--debug"


def run(arguments: Sequence[str] | None = None) -> None:
    """The console script: runs a command line and leaves the process with its exit code."""
    # Threads that spin while they wait make small networks several times slower wherever cores are shared;
    # read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main(sys.argv[1:] if arguments is None else arguments))


def main(arguments: Sequence[str]) -> int:
    """Runs a command line.

    Args:
        arguments: the words after `hepml`.

    Returns:
        the exit code.
    """
    words = [word for word in arguments if word != DEBUG]
    debug = len(words) < len(arguments) or bool(os.environ.get("HEPML_DEBUG"))
    watch, cli.QUIET = Watch(), False
    try:
        with interrupts.noting(), progress.listening(watch):
            result = with_quiet(typer.main.get_command(build(words))).main(
                args=list(words), prog_name="hepml", standalone_mode=False
            )
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # `hepml … | head` has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    except Exception as problem:
        if debug:
            raise
        watch.close()
        return _explain(problem)
    finally:
        watch.close()
        cli.QUIET = False  # whoever calls commands from Python is told again


def with_quiet(command: Any) -> Any:
    """The same command, of which each leaf takes `-q`: one without a quiet mode of its own draws nothing."""
    for part in getattr(command, "commands", {}).values():
        with_quiet(part)
    if hasattr(command, "commands") and not command.invoke_without_command:
        return command
    option = next((p for p in command.params if p.name == "quiet"), None)
    if option is None:
        option = _quiet_option()
        command.params.append(option)
    option.callback = _hush
    return command


def _quiet_option() -> Any:
    """Typer makes options of a signature only, and not the same way in all of its versions."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def signature(quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress.")) -> None:
        pass

    option = next(p for p in typer.main.get_command(donor).params if p.name == "quiet")
    option.expose_value = False
    return option


def _hush(context: Any, option: Any, asked: bool) -> bool:
    cli.QUIET = cli.QUIET or bool(asked)
    return asked


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The typer app: with the one subcommand that the words name, or with all of them for the help."""
    app = typer.Typer(
        name="hepml",
        help="From ROOT files to a tracked, physics-respecting jet tagger.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def everything(
        version: bool = typer.Option(
            False, "--version", help="Print the version and leave.", is_eager=True, callback=_version
        ),
        debug: bool = typer.Option(
            False, DEBUG, help="Show the traceback of an error (also after the command)."
        ),
    ) -> None:
        pass

    named = next((word for word in words if not word.startswith("-")), None)
    for name in [named] if named in COMMANDS and _exists(COMMANDS[named]) else COMMANDS:
        if not _exists(COMMANDS[name]):
            continue
        module = importlib.import_module(COMMANDS[name])
        if hasattr(module, "command"):
            app.command(name)(module.command)
        else:
            app.add_typer(module.app, name=name)
    return app


def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(asked: bool) -> None:
    if asked:
        from hepml import __version__

        print(f"hepml {__version__}")
        raise typer.Exit


def _explain(problem: Exception) -> int:
    from hepml.errors import HepmlError

    if isinstance(problem, HepmlError):
        return _say(f"error: {problem}", problem.exit_code)
    if type(problem).__name__ == "NoArgsIsHelpError":  # the help has been shown
        return 2
    if hasattr(problem, "format_message"):  # a usage error, of whichever click typer brings
        context = getattr(problem, "ctx", None)
        where = getattr(context, "command_path", "hepml")
        return _say(f"error: {problem.format_message()} (see {where} --help)", 2)
    if type(problem).__name__ == "Abort":
        return _say("interrupted", 130)
    if isinstance(problem, MemoryError):
        return _say("error: out of memory: lower training.batch_size, or give data.cache a folder", 2)
    text = " ".join(str(problem).split()) or "no message"
    return _say(
        f"error: this is a defect of hepml: {type(problem).__name__}: {text[:300]} (run again with "
        f"{DEBUG} for the traceback)",
        1,
    )


def _say(text: str, code: int) -> int:
    from hepml.redaction import redact

    print(redact(" ".join(text.split())), file=sys.stderr)
    return code


def __getattr__(name: str) -> Any:
    if name == "app":  # for `python -m typer hepml.cli.main run` and documentation tools
        return build()
    raise AttributeError(f"module 'hepml.cli.main' has no attribute '{name}'")


if __name__ == "__main__":
    run()
