"""`hepml inspect`: what a file holds, which layout fits, jets of each class, and the main distributions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hepml.cli.figure_label import EnergyOption, LabelOption, LumiOption, label_figures

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from hepml.data.formats.event_scan import Census
    from hepml.data.reading.inspection import Inspection, Tree

SHOWN = 60  # rows that are printed unless all are asked for
MANY = 150  # branches from which on collections are shown in their place
BARS = " ▁▂▃▄▅▆▇█"


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES",
            help="A file (FILE.root:TREE for one tree of several), or several, a glob or a folder, whose "
            "jets are counted together.",
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="Name of a layout, or a YAML file with one or with data.layout.",
            show_default=False,
        ),
    ] = None,
    jets: Annotated[
        str | None,
        typer.Option(
            "--jets",
            help="Jet collection of an event file, as FatJet, whose jets are shown.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="PICTURE",
            help="Draw the main distributions into this file.",
            show_default=False,
        ),
    ] = None,
    label: LabelOption = None,
    energy: EnergyOption = None,
    lumi: LumiOption = None,
    every: Annotated[bool, typer.Option("--all", help="Print all branches.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show the trees and branches of a file, the layout it is recognised by, its jets of each class and their
    main distributions; of several files, each with its layout, and all jets together.

    Examples: hepml inspect data/toptag/test.root  ·  hepml inspect data/toptag --plot jets.pdf
    """
    from hepml.cli.console import check_picture, out, print_json
    from hepml.data.reading.inspection import inspect_together
    from hepml.outputs import refuse_inputs

    if plot is not None:
        check_picture(plot)
    refuse_inputs(plot, [files, layout], option="--plot")
    inspection = inspect_together(files, layout, jets)
    if plot is not None:
        from hepml.evaluation.plots.inspection import plot_inspection
        from hepml.evaluation.plots.style import save

        with label_figures(label, energy, lumi):
            save(plot_inspection(inspection), plot)
    if as_json:
        print_json({**inspection.as_dict(), **({"plot": str(plot)} if plot else {})})
        return
    console = out()
    for table in _tables(inspection, every):
        console.print(table)
    if plot is not None:
        console.print(f"distributions drawn into {plot}", highlight=False)


def _tables(inspection: Inspection, every: bool) -> list[object]:
    from rich.markup import escape
    from rich.table import Table

    size = "" if inspection.bytes is None else f", {inspection.bytes / 1e6:.1f} MB"
    parts: list[object] = [f"[bold]{escape(inspection.file)}[/bold]{size}"]
    if inspection.files:
        table = Table("file", "layout", "entries")
        for line in inspection.files[: None if every else SHOWN]:
            state = (
                "[yellow]cannot be read, see below[/yellow]" if line["problem"] else f"{line['entries']:,}"
            )
            table.add_row(escape(line["file"]), escape(line["layout"] or "none recognised"), state)
        if not every and len(inspection.files) > SHOWN:
            table.add_row(f"… {len(inspection.files) - SHOWN} more", "--all shows them", "")
        parts.append(table)
    if len(inspection.trees) > 1:
        table = Table("tree", "kind", "entries", "branches")
        for name, tree in inspection.trees.items():
            table.add_row(escape(name), tree.kind, f"{tree.entries:,}", f"{len(tree.branches):,}")
        parts.append(table)
    # the tree that jets are read from; where none is known yet, the one with most in it
    main = inspection.tree or max(
        inspection.trees, key=lambda name: len(inspection.trees[name].branches), default=None
    )
    for name, tree in inspection.trees.items():
        if name == main or every:
            parts.append(_branches(name, tree, every))
    if inspection.layout is None:
        parts.append("layout: [yellow]none recognised[/yellow]")
    else:
        unit = f", momenta in {inspection.units}" if inspection.units else ""
        parts.append(f"layout: [green]{escape(inspection.layout)}[/green], {inspection.jets:,} jets{unit}")
    if inspection.collections and inspection.collections[0].name != "jets":
        parts.append(_collections(inspection.collections))
    if inspection.classes:
        total = max(sum(inspection.classes.values()), 1)
        table = Table("class", "jets", "share")
        for name, count in inspection.classes.items():
            table.add_row(escape(name), f"{count:,}", f"{count / total:.1%}")
        parts.append(table)
    if inspection.columns:
        table = Table("column", "lowest", "mean", "highest", "distribution")
        for name, column in inspection.columns.items():
            row = (f"{x:.4g}" for x in (column.lowest, column.mean, column.highest))
            table.add_row(escape(name), *row, bars(column.total))
        parts.append(table)
    if inspection.ranges:
        table = Table("constituents", "lowest", "16 %", "median", "84 %", "highest")
        for name, each in inspection.ranges.items():
            five = (each.lowest, each.low, each.median, each.high, each.highest)
            table.add_row(escape(name), *(f"{x:.4g}" for x in five))
        parts.append(table)
    parts += [
        f"[yellow]{escape(leak['column'])} alone tells {escape(leak['class'])} (AUC {leak['auc']:.4f}): "
        "truth must not become an input[/yellow]"
        for leak in inspection.leaks
    ]
    parts += [f"[yellow]{escape(problem)}[/yellow]" for problem in inspection.problems]
    parts += [escape(hint) for hint in inspection.hints]
    return parts


def _collections(collections: Sequence[Census]) -> Table:
    """The jet collections of an event file: sizes, and where their links lead."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("jet collection", "R", "jets", "constituents", "a jet", "from", "links that lead nowhere")
    for c in collections:
        lost = ", ".join(f"{n:,} to {name}" for name, n in c.lost_to.items())
        if c.null_links:
            lost = ", ".join(filter(None, [lost, f"{c.null_links:,} null"]))
        if c.problem:
            lost = c.problem
        table.add_row(
            escape(c.name),
            "" if c.radius is None else f"{c.radius:g}",
            f"{c.jets:,}",
            f"{c.constituents:,}" if c.linked else "no link",
            f"{c.constituents / c.jets:.1f}, at most {c.most}" if c.jets and c.constituents else "",
            escape(", ".join(c.candidates)),
            escape(lost),
        )
    return table


def _branches(name: str, tree: Tree, every: bool) -> Table:
    """The branches of a tree; of a tree with very many, the collections that their names begin with."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{escape(name)}: {tree.kind}, {tree.entries:,} entries, {len(tree.branches):,} branches"
    if every or len(tree.branches) <= MANY:
        table = Table("branch", "type", title=title, title_justify="left")
        shown = list(tree.branches.items())[: None if every else SHOWN]
        for branch, kind in shown:
            table.add_row(escape(branch), escape(kind))
        if len(shown) < len(tree.branches):
            table.add_row(f"… {len(tree.branches) - len(shown)} more", "--all shows them")
        return table
    collections: dict[str, list[str]] = {}
    for branch in tree.branches:
        collections.setdefault(re.split(r"[_./]", branch, maxsplit=1)[0], []).append(branch)
    table = Table(
        "collection",
        "branches",
        "such as",
        title=title,
        title_justify="left",
        caption="--all shows every branch",
    )
    for collection, members in sorted(collections.items(), key=lambda pair: -len(pair[1]))[:SHOWN]:
        examples = [m.removeprefix(collection).lstrip("_./") or m for m in members[:6]]
        table.add_row(escape(collection), f"{len(members):,}", escape(", ".join(examples)))
    if len(collections) > SHOWN:
        table.add_row(f"… {len(collections) - SHOWN} more", "", "")
    return table


def bars(histogram: np.ndarray) -> str:
    """A histogram as one line of block characters."""
    top = histogram.max()
    return "".join(
        BARS[int(-(-count * (len(BARS) - 1) // top))] if top else BARS[0] for count in histogram.tolist()
    )
