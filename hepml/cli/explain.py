"""`hepml explain`: what a trained tagger looks at in jets of a file, as figures and a summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepml.cli.figure_label import EnergyOption, LabelOption, LumiOption, label_figures

_TOO_MUCH = 0.2  # share of the change in the score that integrated gradients may miss without a word


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A run folder, a checkpoint, published weights by name or models:/NAME@ALIAS."),
    ],
    files: Annotated[
        list[str], typer.Argument(help="ROOT or npz files, globs, folders; `file.root:tree` names a tree.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the figures; `explain` in the run folder, or here."),
    ] = None,
    jets: Annotated[
        int, typer.Option("--jets", min=1, help="Jets to average over, as many of each class.")
    ] = 100,
    draw: Annotated[int, typer.Option("--draw", min=1, max=8, help="Jets to draw.")] = 4,
    toward: Annotated[str | None, typer.Option("--class", help="Class to explain; the last one.")] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the integrated gradients.")] = 16,
    layout: Annotated[
        str | None, typer.Option("--layout", help="Layout of the files: a name or a YAML file.")
    ] = None,
    label: LabelOption = None,
    energy: EnergyOption = None,
    lumi: LumiOption = None,
    json: Annotated[bool, typer.Option("--json", help="Report as one JSON document.")] = False,
) -> int:
    """Draw which constituents a tagger looks at, and which of their inputs.

    Saliency (gradient x input, integrated gradients) of single jets and averaged by class; neighbours and
    attention of graph networks; attention of transformers; first filters. Writes PNGs and summary.json.
    """
    from hepml.cli import console
    from hepml.inference.explaining import KINDS, explain_files
    from hepml.outputs import refuse_inputs
    from hepml.training.checkpoints import load_model

    if output is None:
        output = Path(checkpoint) / "explain" if Path(checkpoint).is_dir() else Path("explain")
    for name in ["summary.json", *(path.name for path in output.glob("*.png"))]:
        refuse_inputs(output / name, [checkpoint, files, layout])
    model = load_model(checkpoint)
    with label_figures(label, energy, lumi):
        summary = explain_files(
            model, files, output, jets=jets, draw=draw, toward=toward, steps=steps, layout=layout
        )
    if summary["undefined_gradients"]:
        console.err().print(
            f"{summary['undefined_gradients']:,} derivatives are undefined (NaN or infinite) and were "
            "counted as zero",
            markup=False,
        )
    if summary["dropped"]:
        console.err().print(
            f"{summary['dropped']:,} jets that cannot be scored were left out (hepml inspect says why)",
            markup=False,
        )
    if json:
        console.print_json({**summary, "output": str(output)})
        return 0
    from rich.table import Table

    means = summary["mean_saliency"]["integrated"]
    table = Table(
        title=f"{summary['model']}: mean |integrated gradients| of the log-odds of {summary['explains']}"
    )
    table.add_column("input")
    for name in means:
        table.add_column(f"{name} ({summary['jets'][name]} jets)", justify="right")
    first = next(iter(means.values()))
    for feature in sorted(first, key=lambda f: -max(m[f] for m in means.values())):
        table.add_row(feature, *(f"{m[feature]:.3g}" for m in means.values()))
    console.out().print(table)
    missed = summary["incompleteness"]
    share = "an unknown share" if missed is None else f"{100 * missed:.1f} %"
    console.out().print(
        f"{len(summary['figures'])} figures and summary.json in {output} "
        f"({', '.join(KINDS.values()).lower()}; the integral misses {share} of the change)",
        markup=False,
        highlight=False,
    )
    if missed is not None and missed > _TOO_MUCH:
        console.err().print(
            "integrated gradients do not add up to the score here: this tagger hardly changes, or jumps, on "
            "the way from inputs of zero to a jet; compare constituents with each other, not with the score",
            markup=False,
            highlight=False,
        )
    return 0
