"""`hepml data`: the field's public data sets, listed and fetched."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List and fetch public data sets.", no_args_is_help=True)


@app.command("list")
def list_command(
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """The data sets that `fetch` knows: what they are, how large, and what to do with them."""
    from hepml.data.public.fetch import DATASETS

    if json:
        typer.echo(
            dumps(
                {name: {**vars(found), "files": dict(found.files)} for name, found in DATASETS.items()},
                indent=2,
            )
        )
        return
    for name, found in DATASETS.items():
        typer.echo(f"{name:<11} {found.title} (arXiv:{found.paper}; {found.size})")
        typer.echo(f"{'':<11} {found.base}")
        typer.echo(f"{'':<11} then: {found.use}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="toptag, jetclass or quarkgluon.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the files; data/NAME where left out.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of a mirror of the folder of files.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only files with this in their name; may be repeated.")
    ] = None,
    extract: Annotated[
        bool, typer.Option("--extract", help="Unpack tar archives beside themselves.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Download a data set. Files that are there and whole are kept; one that was cut off goes on; checksums
    are checked."""
    from hepml.cli import console
    from hepml.data.public.fetch import DATASETS
    from hepml.data.public.fetch import fetch as download

    folder = output or Path("data") / name
    bar: console.CountingBar | None = None
    shown = ""

    def tell(file: str, done: int, total: int | None) -> None:
        nonlocal bar, shown
        if file != shown:
            if bar is not None:
                bar.__exit__()
            bar, shown = (
                console.CountingBar("MB", None if total is None else total // 1_000_000, quiet=quiet),
                file,
            )
            bar.__enter__()
            if not quiet:
                console.err().print(f"{file}" + (f", {total / 1e6:,.0f} MB" if total else ""))
        assert bar is not None
        bar.update(done // 1_000_000)

    try:
        files = download(name, folder, url=url, only=only or [], tell=tell)
    finally:
        if bar is not None:
            bar.__exit__()
    if extract:
        _extract(files)
    if json:
        typer.echo(dumps({"data": name, "files": [str(file) for file in files]}, indent=2))
        return
    for file in files:
        typer.echo(f"{file}  {file.stat().st_size / 1e6:,.0f} MB, checksum as published")
    typer.echo(f"then: {DATASETS[name].use}")


def _extract(files: list[Path]) -> None:
    import tarfile

    from hepml.errors import FileError

    for file in files:
        if file.suffix != ".tar":
            continue
        try:
            with tarfile.open(file) as archive:
                archive.extractall(file.parent, filter="data")
        except (tarfile.TarError, OSError) as problem:
            raise FileError(
                f"cannot unpack the archive ({problem})", where=str(file), mend="make room"
            ) from None
