"""`hepml export`: a trained tagger to one file of ONNX or `.pt2`, with its preprocessing, for any number
of jets and of constituents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    run: Annotated[
        str | None,
        typer.Argument(help="A run folder, a checkpoint, published weights by name or models:/NAME@ALIAS."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write: tagger.onnx or tagger.pt2.")
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="onnx or pt2; what the file's name ends in where left out.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="padded: four-momenta and mask, preprocessing inside; cmssw: standardised columns, with a "
            "preprocess.json beside the file; athena: one jet at a time, flat lists.",
        ),
    ] = "padded",
    jet_axis: Annotated[
        str,
        typer.Option("--jet-axis", help="constituents: their sum; given: a further input jet_four_momenta."),
    ] = "constituents",
    precision: Annotated[
        str,
        typer.Option("--precision", help="Of the file's weights: float32, or float16 for half the size."),
    ] = "float32",
    compiled: Annotated[
        bool,
        typer.Option("--compiled", help="A pt2 file of machine code (AOTInductor); needs a C++ compiler."),
    ] = False,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", help="Compare both on the jets of this file; repeatable."),
    ] = None,
    table: Annotated[
        bool,
        typer.Option("--table", help="Which taggers export, and why others do not; then leave."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as one JSON document.")] = False,
) -> int:
    """Write a tagger into a file that other programs run.

    Inputs: four_momenta, float32 of jets × constituents × 4, as (E, px, py, pz) in GeV; mask, bool of jets ×
        constituents; and columns, jet_columns where the tagger needs them. Outputs: probabilities and
        logits. Names stand in the file's metadata: hepml.columns, hepml.jet_columns, hepml.classes.
        Other forms have the inputs of the experiments' software (docs/export.md).
    """
    from hepml import progress
    from hepml.cli import console
    from hepml.errors import ConfigError

    if table:
        return _table(json)
    if run is None or output is None:
        raise ConfigError(
            "no tagger to export" if run is None else "no file to write",
            mend="hepml export RUN -o tagger.onnx, or hepml export --table",
        )
    from hepml.inference.exporting import export
    from hepml.inference.exporting.metadata import of_run
    from hepml.inference.exporting.parity import TOLERANCE, as_dicts, checked
    from hepml.inference.exporting.preprocess import NAME
    from hepml.inference.exporting.session import ExportedTagger
    from hepml.outputs import refuse_inputs
    from hepml.training.checkpoints import EXPORTED, load_model

    if format is None and output.suffix not in EXPORTED:
        raise ConfigError(
            f"the name ends in '{output.suffix}', which says no format",
            where=str(output),
            mend="name it tagger.onnx or tagger.pt2, or add --format",
        )
    for written in [output, *([output.parent / NAME] if form == "cmssw" else [])]:
        refuse_inputs(written, [run, check])
    model = load_model(run)
    if Path(run).suffix in EXPORTED:
        raise ConfigError("this file is exported already", where=run, mend="name the run it was made of")
    with progress.working("exporting"):
        exported = export(
            model,
            output,
            format=format or output.suffix.removeprefix("."),
            form=form,
            jet_axis=jet_axis,
            precision=precision,
            compiled=compiled,
            metadata=of_run(run),
        )
    with progress.working("comparing"):
        rows = checked(model, ExportedTagger(output), check) if check else []
    report: dict[str, Any] = {
        "output": str(output),
        "bytes": output.stat().st_size,
        "inputs": {name: [str(s) for s in sizes] for name, sizes in exported.inputs.items()},
        "columns": list(exported.columns),
        "jet_columns": list(exported.jet_columns),
        "outputs": list(exported.outputs),
        "classes": list(exported.classes),
        "parity": as_dicts(rows),
    }
    bad = [row for row in rows if not row.largest <= TOLERANCE]
    if json:
        console.print_json(report)
        return 0
    out = console.out()
    inputs = ", ".join(f"{name} [{', '.join(size)}]" for name, size in report["inputs"].items())
    out.print(
        f"{output} ({report['bytes'] / 1e6:.1f} MB)\n  inputs   {inputs}", markup=False, highlight=False
    )
    if exported.columns:
        out.print(f"  columns  {', '.join(exported.columns)}", markup=False, highlight=False)
    out.print(
        f"  outputs  {', '.join(exported.outputs)} of {', '.join(exported.classes)}",
        markup=False,
        highlight=False,
    )
    if rows:
        out.print(_parity_table(rows))
        out.print(
            f"all probabilities within {TOLERANCE:g}"
            if not bad
            else f"{len(bad)} of {len(rows)} shapes differ by more than {TOLERANCE:g}: see docs/export.md, "
            "which says for which taggers float32 rounds as much",
            markup=False,
        )
    return 0


def _parity_table(rows: list[Any]) -> Any:
    from rich.table import Table

    table = Table()
    for heading in ("Jets at a time", "Padding", "Jets", "Largest difference", "In jet", "Constituents"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.batch),
            str(row.padding),
            str(row.jets),
            f"{row.largest:.2g}",
            str(row.jet),
            str(row.constituents),
        )
    return table


def _table(json: bool) -> int:
    from rich.table import Table

    from hepml.cli import console
    from hepml.inference.exporting.support import support

    rows = support()
    if json:
        console.print_json(rows)
        return 0
    table = Table()
    for heading in ("Model", "Exports", "Why not, or how well"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row["name"], "yes" if row["exports"] else "no", row["note"])
    console.out().print(table)
    return 0
