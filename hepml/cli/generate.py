"""`hepml generate`: jets from Pythia 8 and a parametric detector to a ROOT file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[
        str | None, typer.Argument(help="toptag or jetclass; see --list.", show_default=False)
    ] = None,
    jets: Annotated[
        int, typer.Option("--jets", "-n", help="Jets in all, in equal numbers of each class.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", "-s", help="The same seed gives the same jets, whatever the workers.")
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", help="Processes; one a core where left out.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The ROOT file to write.", show_default=False)
    ] = None,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="All weights one; takes more events.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Take up what an interrupted run had saved.")
    ] = True,
    multiple_interactions: Annotated[
        bool | None,
        typer.Option(
            "--multiple-interactions/--no-multiple-interactions",
            help="As the recipe says where left out.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the recipes and leave.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Generate jets: hepml generate toptag --jets 10000 --seed 1 -o jets.root."""
    from hepml import generation
    from hepml.cli import console
    from hepml.data.reading.cores import available_cores
    from hepml.errors import ConfigError

    if show:
        entries = list(generation.recipes().values())
        if json:
            console.print_json(
                [
                    {"name": r.name, "description": r.description, "classes": [p.name for p in r.processes]}
                    for r in entries
                ]
            )
            return 0
        for entry in entries:
            console.out().print(
                f"{entry.name}: {entry.description} ({', '.join(p.name for p in entry.processes)})",
                markup=False,
                highlight=False,
            )
        return 0
    if recipe is None:
        raise ConfigError(
            "no recipe given",
            where="command line",
            mend="hepml generate toptag -o jets.root; --list shows the recipes",
        )
    if output is None:
        raise ConfigError("no output file given", where="command line", mend=f"-o {recipe}.root")
    options = {} if multiple_interactions is None else {"multiple_interactions": multiple_interactions}
    with console.CountingBar("jets", jets, quiet=quiet) as bar:
        report = generation.generate(
            recipe,
            jets,
            seed,
            workers or available_cores(),
            output,
            unweighted=unweighted,
            resume=resume,
            progress=bar.update,
            **options,
        )
    if json:
        console.print_json(report.as_dict())
        return 0
    counts = ", ".join(
        f"{n:,} {name} ({report.cross_section[name]:.3g} pb)" for name, n in report.jets.items()
    )
    again = (
        f", {report.chunks_resumed} of {report.chunks} chunks from an earlier run"
        if report.chunks_resumed
        else ""
    )
    console.out().print(
        f"{report.output}: {counts}; {report.size_bytes / 1e6:.1f} MB, {report.seconds:.0f} s, "
        f"{report.jets_per_second:.0f} jets/s{again}",
        markup=False,
        highlight=False,
    )
    return 0
