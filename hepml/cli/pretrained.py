"""`hepml pretrained`: published weights, listed and fetched."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List and fetch published weights.", no_args_is_help=True)


@app.command("list")
def list_command(
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """The published weights that `fetch` knows, and which of them are here."""
    from rich.table import Table

    from hepml.cli import console
    from hepml.pretrained.published import PUBLISHED, find

    rows = [
        {"name": name, **vars(network), "address": network.address, "here": str(find(name) or "")}
        for name, network in PUBLISHED.items()
    ]
    if json:
        typer.echo(dumps(rows, indent=2))
        return
    table = Table()
    for heading in ("Name", "What it is", "Reads", "Paper", "Licence", "Scores", "Checksum", "Here"):
        table.add_column(heading, no_wrap=heading == "Name")  # what `fetch` is given, whole
    for row in rows:
        table.add_row(
            row["name"],
            row["title"],
            row["inputs"],
            row["paper"],
            row["licence"],
            row["scores"],
            (row["sha256"] or row["blob"])[:8],
            "yes" if row["here"] else "no",
        )
    console.out().print(table)
    console.out().print(
        "Papers: arXiv. Addresses and whole checksums: hepml pretrained list --json", markup=False
    )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="See `hepml pretrained list`.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; `pretrained` on the data path where left out."),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Address of a mirror of the folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Download weights from their authors. `model.pretrained: NAME` finds them from then on."""
    from hepml.cli import console
    from hepml.pretrained.published import PUBLISHED
    from hepml.pretrained.published import fetch as download

    path = download(name, output, url=url)
    network = PUBLISHED[name]
    if json:
        typer.echo(
            dumps(
                {"name": name, "file": str(path), "licence": network.licence, "paper": network.paper},
                indent=2,
            )
        )
        return
    checked = (
        "checksum as published" if network.sha256 or network.blob else "no checksum known to check it by"
    )
    console.out().print(
        f"{path}  {path.stat().st_size / 1e6:.1f} MB, {checked}; {network.licence}, arXiv:{network.paper}\n"
        f"then: model.pretrained: {name}, or hepml predict {path} FILES -o scores.root",
        markup=False,
        highlight=False,
    )
