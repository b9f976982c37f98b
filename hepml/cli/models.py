"""`hepml models`: the register of taggers, with papers, symmetries and parameter counts."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def command(
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> int:
    """List the models: paper, symmetries, and parameters of the published configuration."""
    from hepml.cli import console

    rows = listing()
    if json:
        console.print_json(
            [{key: row[key] for key in ("name", "parameters", "paper", "symmetries")} for row in rows]
        )
        return 0
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading, justify in (
        ("Model", "left"),
        ("Parameters", "right"),
        ("Paper", "left"),
        ("Respects", "left"),
        ("What it is", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters']:,}",
            row["paper"],
            Text(", ".join(row["symmetries"])),
            Text(row["summary"]),
        )
    console.out().print(table)
    return 0


def listing() -> list[dict[str, Any]]:
    """One entry a registered model; parameters are counted by building the published configuration."""
    from hepml import models
    from hepml.models.catalogue import count_parameters

    rows = []
    for name, entry in models.registry().items():
        model = models.create(name, **entry.published)
        rows.append(
            {
                "name": name,
                "parameters": count_parameters(model),
                "paper": entry.paper,
                "symmetries": list(entry.symmetries),
                "summary": entry.summary,
            }
        )
    return rows
