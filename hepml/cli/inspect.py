"""`hepml inspect`: what a file holds, which layout fits, jets of each class, and the main distributions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from hepml.data.inspection import Inspection

SHOWN = 60  # branches that are printed unless all are asked for
BARS = " ▁▂▃▄▅▆▇█"


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A ROOT file, FILE.root:TREE, or an npz file.")],
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout", help="Name of a layout, or a YAML file with one or with data.layout.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="PICTURE", help="Draw the main distributions into this file.", show_default=False
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print all branches.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show the trees and branches of a file, the layout it is recognised by, its jets of each class and their main distributions."""
    from hepml.cli.console import out, print_json
    from hepml.data.inspection import inspect

    found = inspect(file, layout)
    if plot is not None:
        from hepml.evaluation.inspection_plot import plot_inspection

        _save(plot_inspection(found), plot)
    if as_json:
        print_json({**found.as_dict(), **({"plot": str(plot)} if plot else {})})
        return
    console = out()
    for table in _tables(found, every):
        console.print(table)
    if plot is not None:
        console.print(f"distributions drawn into {plot}", highlight=False)


def _tables(found: Inspection, every: bool) -> list[object]:
    from rich.markup import escape
    from rich.table import Table

    size = "" if found.bytes is None else f", {found.bytes / 1e6:.1f} MB"
    parts: list[object] = [f"[bold]{escape(found.file)}[/bold]{size}"]
    for name, tree in found.trees.items():
        chosen = len(found.trees) == 1 or name == found.tree
        table = Table(
            "branch",
            "type",
            title=f"{escape(name)}: {tree.kind}, {tree.entries:,} entries, {len(tree.branches)} branches",
            title_justify="left",
        )
        shown = list(tree.branches.items())
        shown = shown if every else shown[: SHOWN if chosen else 0]
        for branch, kind in shown:
            table.add_row(escape(branch), escape(kind))
        if len(shown) < len(tree.branches):
            table.add_row(f"… {len(tree.branches) - len(shown)} more", "--all shows them")
        parts.append(table)
    if found.layout is None:
        parts.append("layout: [yellow]none recognised[/yellow]")
    else:
        parts.append(f"layout: [green]{escape(found.layout)}[/green], {found.jets:,} jets")
    if found.classes:
        total = max(sum(found.classes.values()), 1)
        table = Table("class", "jets", "share")
        for name, count in found.classes.items():
            table.add_row(escape(name), f"{count:,}", f"{count / total:.1%}")
        parts.append(table)
    if found.columns:
        table = Table("column", "lowest", "mean", "highest", "distribution")
        for name, column in found.columns.items():
            row = (f"{x:.4g}" for x in (column.lowest, column.mean, column.highest))
            table.add_row(escape(name), *row, bars(column.total))
        parts.append(table)
    parts += [f"[yellow]{escape(problem)}[/yellow]" for problem in found.problems]
    parts += [escape(hint) for hint in found.hints]
    return parts


def bars(histogram: np.ndarray) -> str:
    """A histogram as one line of block characters."""
    top = histogram.max()
    return "".join(BARS[int(-(-count * (len(BARS) - 1) // top))] if top else BARS[0] for count in histogram.tolist())


def _save(figure: object, path: Path) -> None:
    from hepml.errors import FileError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)  # type: ignore[attr-defined]
    except (OSError, ValueError) as problem:
        raise FileError(
            f"the picture cannot be written ({problem})", where=str(path), mend="name another file, as plot.png"
        ) from problem
