"""`hepml configs`: the configs that come with hepml, what each reached, and copies of them to edit."""

from __future__ import annotations

import re
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List the configs that come with hepml, and copy one to edit.")


@app.callback(invoke_without_command=True)
def configs(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """List the configs, each with what it is and what was measured with it."""
    if context.invoked_subcommand is not None:
        return
    from hepml.cli import console
    from hepml.paths import shipped_configs

    rows = [{"name": name, "file": str(path), **headline(path)} for name, path in shipped_configs().items()]
    if json:
        typer.echo(dumps(rows, indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Configs (hepml train NAME; those of dynamics/: hepml dynamics NAME)")
    for heading in ("Name", "What it is", "Measured"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*(Text(row[key]) for key in ("name", "title", "measured")))
    console.out().print(table)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="Name of a config, as `hepml configs` lists it.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; NAME.yaml in this folder if left out."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write a shipped config into a file of your own. Files that are there are not overwritten."""
    from hepml.errors import ConfigError, FileError, did_you_mean
    from hepml.paths import shipped_configs

    known = shipped_configs()
    wanted = name.removesuffix(".yaml")
    if wanted not in known:
        raise ConfigError(f"no config '{name}'", mend=did_you_mean(wanted, known))
    path = output or Path(known[wanted].name)
    text = known[wanted].read_text(encoding="utf-8")
    folder = Path(wanted).parent
    # a base is a neighbour of the shipped file; from elsewhere it has its name
    text = re.sub(r"(?m)^base: (\S+)\.yaml\s*$", lambda match: f"base: {_named(folder, match[1])}", text)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FileError(f"{path} is there already", mend="choose another name with -o") from None
    except OSError as problem:
        raise FileError(
            f"cannot write {path} ({problem.strerror})", mend="choose another place with -o"
        ) from None
    if json:
        typer.echo(dumps({"name": wanted, "file": str(path)}))
        return
    typer.echo(f"{path}: edit it, then: hepml {'dynamics' if folder.name == 'dynamics' else 'train'} {path}")


def headline(path: Path) -> dict[str, str]:
    """What the comment at the head of a config says: its first sentence, and the sentences with a result."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    sentences = re.split(r"(?<=[.:;])\s+(?=[A-Z`])", " ".join(lines))
    measured = [s for s in sentences[1:] if re.search(r"AUC|1/eps_B|MSE|accuracy|resolution", s)]
    return {"title": sentences[0].rstrip(".:;"), "measured": " ".join(measured)}


def _named(folder: Path, base: str) -> str:
    parts: list[str] = []
    for part in (folder / base).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
