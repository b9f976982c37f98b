"""`hepml evaluate`: accuracy, AUC and background rejection, of scores in a file or of a model on jets."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hepml.cli.figure_label import EnergyOption, LabelOption, LumiOption, label_figures

if TYPE_CHECKING:
    from hepml.cli.evaluate_samples import Sample
    from hepml.evaluation.multiclass import Which


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_OR_CKPT",
            help="A run folder, a checkpoint, published weights by name, an exported file (.onnx, .pt2) or "
            "models:/NAME@ALIAS.",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILES",
            help="Jets to score, as one sample; NAME=FILES for several samples; or further runs to compare "
            "with. The run's own test "
            "scores where left out.",
            show_default=False,
        ),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores",
            help="A .npz with labels and one score array a tagger, or what hepml predict wrote (any kind).",
            show_default=False,
        ),
    ] = None,
    signal_efficiency: Annotated[
        str, typer.Option("--signal-efficiency", help="Working points, separated by commas.")
    ] = "0.3,0.5",
    signal: Annotated[
        str | None,
        typer.Option(
            "--signal", help="The signal class or classes, as b or b,c, by name or index.", show_default=False
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help="The class or classes that are rejected, as c,uds,g, by name or index.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw rejection against signal efficiency: .png, .pdf or .svg.", show_default=False
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Add published taggers on the top tagging reference jets, to the table and to --plot.",
        ),
    ] = False,
    label: LabelOption = None,
    energy: EnergyOption = None,
    lumi: LumiOption = None,
    bins: Annotated[
        str | None,
        typer.Option(
            "--bins",
            help="Efficiency and rejection in bins of pt,eta; edges as pt=500:550:600. With --plot also "
            "drawn, as PLOT_pt.",
            show_default=False,
        ),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Paired tests of --scores also in the --json document."),
    ] = False,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Leave event weights aside, which count where there are any.")
    ] = False,
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="Layout of FILES: a name or a YAML file.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Jets a step.")] = 512,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu or cuda; the GPU where there is one.", show_default=False),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document: {name: {accuracy, auc, rejection}}.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Report on a tagger: accuracy, AUC and 1/eps_B at given signal efficiencies, each with its statistical
    uncertainty.

    Examples: hepml evaluate --scores scores.npz --plot roc.png  ·
    hepml evaluate runs/quickstart jets/*.root  ·
    hepml evaluate runs/one runs/other
    (two runs on their test jets, with paired tests)  ·
    hepml evaluate runs/quickstart generated=test.root reference=reference.npz --json
    """
    from hepml.cli import console, evaluate_samples
    from hepml.cli.evaluate_words import classes_of, points_of
    from hepml.errors import ConfigError
    from hepml.outputs import refuse_inputs

    points = points_of(signal_efficiency)
    if bool(scores) == (run is not None):
        raise ConfigError(
            "give either a run or --scores" if scores else "nothing to evaluate",
            where="command line",
            mend="hepml evaluate RUN FILES, or hepml evaluate --scores FILE.npz",
        )
    if plot is not None:
        console.check_picture(plot)
        refuse_inputs(plot, [run, files, scores, layout], option="--plot")
    regression = None
    several = run is not None and bool(files) and all(evaluate_samples.is_run(word) for word in files or ())
    samples: dict[str, Sample] = {}
    if scores:
        samples = evaluate_samples.from_scores(scores)
    else:
        from hepml.training.checkpoints import load_model

        assert run is not None
        console.refuse_jets_as_run(run, f"hepml evaluate RUN {run}; scores in a file: --scores {run}")
        if not several:
            evaluate_samples.refuse_taggers(files or [])
        model = load_model(run)
        from hepml.models.identity import identity_of

        if target := identity_of(model).target:
            regression = target
        if several:
            samples = evaluate_samples.from_runs([run, *(files or ())])
        elif files:
            samples = evaluate_samples.from_files(
                model, run, files, layout, batch_size, device, unweighted, quiet
            )
        else:
            samples = evaluate_samples.from_run(model, run)
    if unweighted:
        samples = {name: sample._replace(weights=None) for name, sample in samples.items()}

    own = _evaluation_of(run) if run is not None else {}
    wanted = classes_of(signal) if signal is not None else own.get("signal")
    rejected = classes_of(background) if background is not None else own.get("background")
    reports = {
        name: _regression(sample, regression)
        if regression
        else _report(name, sample, points, wanted, rejected)
        for name, sample in samples.items()
    }
    if not regression and len(samples) > 1 and (paired or several or not json):
        from hepml.evaluation.pairs import compare_all

        for name, tests in compare_all(samples, reports).items():  # type: ignore[arg-type]
            reports[name]["paired"] = tests
    from contextlib import nullcontext

    from hepml.cli.evaluate_figures import draw

    with nullcontext() if plot is None else label_figures(label, energy, lumi, own):
        if bins is not None:
            from hepml.cli.evaluate_bins import add_bins

            add_bins(bins, samples, reports, points[-1], plot)
        if plot is not None:
            draw(samples, reports, plot, regression, published)
    if json:
        sys.stdout.write(
            dumps(reports, indent=2, allow_nan=False) + "\n"
        )  # console.print_json would import torch
    else:
        _show(reports, published, regression)
        if plot is not None:
            console.err().print(f"wrote {plot}", markup=False, highlight=False)
    return 0


def _evaluation_of(run: str) -> dict[str, Any]:
    """Signal and background as the run's own config has them; empty for published weights."""
    from hepml.cli import evaluate_samples

    return (evaluate_samples.checkpoint_identity(run).get("config") or {}).get("evaluation") or {}


def _report(
    name: str, sample: Sample, points: list[float], signal: Which | None, background: Which | None
) -> Any:
    from hepml.errors import DataError
    from hepml.evaluation import evaluate

    try:
        return evaluate(
            sample.labels, sample.scores, sample.weights, classes=sample.classes,
            signal=signal, background=background, signal_efficiencies=points,
        )  # fmt: skip
    except DataError as problem:
        raise DataError(problem.what, where=problem.where or name, mend=problem.mend) from problem


def _regression(sample: Sample, target: str) -> Any:
    from hepml.evaluation import evaluate_regression

    targets = sample.labels.reshape(len(sample.labels), -1)
    mean, sigma = sample.scores[:, 0::2], sample.scores[:, 1::2]
    if mean.shape[1] == 1:
        targets, mean, sigma = targets[:, 0], mean[:, 0], sigma[:, 0]
    return {"target": target, **evaluate_regression(targets, mean, sigma, sample.weights)}


def _show(reports: dict[str, Any], published: bool, regression: str | None) -> None:
    from hepml.cli import console
    from hepml.evaluation.published import TOPTAG
    from hepml.evaluation.tables import (
        bins_table,
        classes_table,
        paired_table,
        regression_table,
        report_table,
    )

    screen = console.out()
    if regression:
        screen.print(regression_table(reports, title=regression))
        return
    screen.print(report_table(reports, published=TOPTAG if published else ()))
    for name, report in reports.items():
        for quantity, entries in report.get("bins", {}).items():
            screen.print(bins_table(entries, quantity, title=name))
    if any("paired" in report for report in reports.values()):
        screen.print(paired_table({name: report.get("paired", {}) for name, report in reports.items()}))
    for name, report in reports.items():
        if "classes" in report:
            screen.print(classes_table(report, title=name))
