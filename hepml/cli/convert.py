"""`hepml convert`: published jet files (HDF5, npz) as ROOT files in the JetClass layout."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Top-tagging HDF5 files, EnergyFlow npz files, or our npz files; of one kind. Paths or URLs."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ROOT file to write.")],
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", help="Names of the labels 0, 1, …, as QCD,Tbqq; the format's own where left out."
        ),
    ] = None,
    max_jets: Annotated[
        int | None, typer.Option("--max-jets", min=1, help="The first so many jets only.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Report as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Write published jets as our ROOT file: constituents in falling pT, one label branch a class.

    Truth columns of the top-tagging table (truthE, truthPX, …) are never read: they tell the class.

    Examples: hepml convert train.h5 -o train.root  ·  hepml convert QG_jets*.npz -o quarkgluon.root
    """
    from hepml.cli import console
    from hepml.data.public.convert import convert

    names = classes.split(",") if classes else None
    with console.CountingBar("jets", quiet=quiet) as bar:
        report = convert(files, output, classes=names, max_jets=max_jets, tell=bar.update)
    if json:
        typer.echo(dumps(report, indent=2))
        return 0
    counted = ", ".join(f"{name} {jets:,}" for name, jets in report["classes"].items())
    mean = report["constituents"] / max(1, report["jets"])
    print(f"{report['jets']:,} jets ({counted}) from {len(report['files'])} file(s) -> {report['output']}")
    print(f"{mean:.1f} constituents on average")
    if report["empty"]:
        print(f"{report['empty']:,} jets have no constituent")
    for reason, number in report["dropped"].items():
        print(f"{number:,} constituents were left out: {reason}")
    if report["unknown_ids"]:
        print(
            f"{report['unknown_ids']:,} constituents of unknown particle ids were taken as massless and "
            "neutral"
        )
    return 0
