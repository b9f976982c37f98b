"""`hepml predict`: scores of jets in files, written with the jets' own columns to ROOT, npz, Parquet, CSV
or HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A run folder, a checkpoint, published weights by name, an exported file (.onnx, .pt2) or "
            "models:/NAME@ALIAS."
        ),
    ],
    files: Annotated[
        list[str], typer.Argument(help="ROOT or npz files, globs, folders; `file.root:tree` names a tree.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="To .root, .npz, .parquet, .csv or .h5.")],
    layout: Annotated[
        str | None, typer.Option("--layout", help="Layout of the files: a name or a YAML file.")
    ] = None,
    jets: Annotated[
        str | None,
        typer.Option("--jets", help="Jet collection of event files, as FatJet.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Jets a step.")] = 512,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda; the GPU where there is one.")
    ] = None,
    spread: Annotated[
        bool,
        typer.Option("--spread", help="Of an ensemble: also spread_CLASS, how far its members disagree."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Score jets and write scores beside the jets' own columns, one row a jet, in file order.

    Branches: score_CLASS (or predicted_TARGET and sigma_TARGET), with --spread spread_CLASS, every column of
        the jets that all files have, file_index and entry.
    """
    import numpy as np
    import torch

    from hepml.cli import console
    from hepml.evaluation.score_files import writer
    from hepml.inference.prediction import count_jets, output_names, predict_files
    from hepml.outputs import refuse_inputs
    from hepml.training.checkpoints import load_model

    console.refuse_jets_as_run(checkpoint, f"hepml predict RUN {checkpoint} -o {output}")
    refuse_inputs(output, [checkpoint, files, layout])
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(checkpoint, device=device)
    names = output_names(model)
    if spread:
        from hepml.inference.spread import WithSpread

        model = WithSpread(model).eval()
        names = [*names, *model.names]
    total = count_jets(model, files, layout, jets)
    order: dict[str, int] = {}
    scored = unusable = 0
    sums = np.zeros(len(names))
    with writer(output) as sink, console.CountingBar("jets", total, quiet=quiet) as bar:
        parts = predict_files(
            model, files, batch_size, layout=layout, jets=jets, device=device, jet_columns="all"
        )
        for part in parts:
            place = order.setdefault(part.file, len(order))
            sink.add(
                {
                    **part.columns,
                    **{name: part.rows[:, i].astype(np.float32) for i, name in enumerate(names)},
                    "file_index": np.full(len(part.rows), place, dtype=np.int32),
                    "entry": part.entries.astype(np.int64),
                }
            )
            scored += len(part.rows)
            unusable += part.unusable
            sums += np.nansum(part.rows, axis=0)
            bar.update(scored)
    usable = max(scored - unusable, 1)
    report: dict[str, Any] = {
        "output": str(output),
        "jets": scored,
        "unusable": unusable,
        "files": list(order),
        "columns": names,
        "mean": {name: float(s) / usable for name, s in zip(names, sums, strict=True)},
    }
    if json:
        console.print_json(report)
        return 0
    means = ", ".join(f"{name} {value:.4g}" for name, value in report["mean"].items())
    console.out().print(
        f"{scored:,} jets from {len(order)} file(s) -> {output}; mean {means}", markup=False, highlight=False
    )
    if unusable:
        console.err().print(
            f"{unusable:,} jets have NaN or negative energies; their scores are NaN", markup=False
        )
    return 0
