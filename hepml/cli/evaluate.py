"""`hepml evaluate`: accuracy, AUC and background rejection, of scores in a file or of a model on jets."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hepml.cli.figure_label import EnergyOption, LabelOption, LumiOption, label_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hepml.evaluation.multiclass import Which


class Sample(NamedTuple):
    """What one report is made of: labels [N], scores [N] or [N, C], weights [N] or None, class names or
    None, and the jets' `pt` and `eta` [N] where the jets themselves were scored."""

    labels: Any
    scores: Any
    weights: Any
    classes: Sequence[str] | None
    jets: Any = None


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_OR_CKPT",
            help="A run folder, a checkpoint, or published weights.",
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
    from hepml.cli import console
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
    samples: dict[str, Sample] = {}
    if scores:
        samples = _from_scores(scores)
    else:
        from hepml.training.checkpoints import load_model

        assert run is not None
        console.refuse_jets_as_run(run, f"hepml evaluate RUN {run}; scores in a file: --scores {run}")
        model = load_model(run)
        from hepml.models.identity import identity_of

        if target := identity_of(model).target:
            regression = target
        if files and all(_is_run(word) for word in files):
            samples = _from_runs([run, *files])
        elif files:
            samples = _from_files(model, run, files, layout, batch_size, device, unweighted, quiet)
        else:
            samples = _from_run(model, run)
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
    runs = run is not None and files is not None and all(_is_run(word) for word in files)
    if not regression and len(samples) > 1 and (paired or runs or not json):
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
    return (_identity_of(run).get("config") or {}).get("evaluation") or {}


def _identity_of(run: str) -> dict[str, Any]:
    """What a checkpoint says about itself; empty for published weights and for exported files."""
    from hepml.tracking.registry import describes_registered
    from hepml.training.checkpoints import EXPORTED, find_checkpoint, read_checkpoint

    if Path(run).suffix in EXPORTED or describes_registered(run):
        return {}
    identity: dict[str, Any] = read_checkpoint(find_checkpoint(run)).get("hepml") or {}
    return identity


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


def _from_scores(paths: list[str]) -> dict[str, Sample]:
    from hepml.evaluation.score_files import read_scores

    samples: dict[str, Sample] = {}
    for path in paths:
        sheet = read_scores(path)
        for tagger, values in sheet.taggers.items():
            name = tagger if tagger not in samples else f"{Path(path).stem}: {tagger}"
            samples[name] = Sample(sheet.labels, values, sheet.weights, sheet.classes)
    return samples


def _is_run(word: str) -> bool:
    return (Path(word) / "scores").is_dir() and (Path(word) / "checkpoints").is_dir()


def _from_runs(runs: list[str]) -> dict[str, Sample]:
    """The test scores of several runs, named by run and, where there are several, by test set."""
    from hepml.training.checkpoints import load_model

    short = {run: Path(run).resolve().name for run in runs}
    if len(set(short.values())) < len(runs):
        short = {run: run for run in runs}
    samples: dict[str, Sample] = {}
    for run in runs:
        own = _from_run(load_model(run), run)
        for test, sample in own.items():
            samples[short[run] if len(own) == 1 else f"{short[run]}: {test}"] = sample
    return samples


def _from_run(model: Any, run: str) -> dict[str, Sample]:
    """The test scores that a training run left."""
    from hepml.errors import ConfigError
    from hepml.evaluation.score_files import read_scores
    from hepml.models.identity import identity_of

    found = sorted((Path(run) / "scores").glob("*.npz"))
    if not found:
        raise ConfigError(
            "no jets to score", where="command line", mend=f"name files: hepml evaluate {run} FILES"
        )
    classes = identity_of(model).classes or None
    samples = {}
    for path in found:
        sheet = read_scores(path)
        values = next(iter(sheet.taggers.values()))
        samples[path.stem] = Sample(sheet.labels, values, sheet.weights, sheet.classes or classes)
    return samples


def _from_files(
    model: Any,
    run: str,
    files: list[str],
    layout: str | None,
    batch_size: int,
    device: str | None,
    unweighted: bool,
    quiet: bool,
) -> dict[str, Sample]:
    """Scores the jets of each sample as the run scored its own test jets: the same layout, classes, selection
    and weights."""
    import numpy as np
    import torch

    from hepml.cli import console
    from hepml.data.dataset import JetDataset
    from hepml.data.loader import JetLoader
    from hepml.errors import DataError
    from hepml.inference.prediction import reads_files, score_dataset
    from hepml.models.identity import identity_of

    if reads_files(model):
        return _from_columns(model, files, layout, batch_size, unweighted, quiet)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(where)
    data = _data_of(run)
    classes = data.get("classes") or identity_of(model).classes or None
    layout = layout or data.get("layout") or identity_of(model).layout
    samples: dict[str, Sample] = {}
    from hepml.cli.evaluate_words import named_of

    for name, paths in named_of(files, identity_of(model).name or "model").items():
        dataset = JetDataset.open(
            paths, model.inputs, layout=layout, classes=classes,
            target=data.get("target"),
            weights=False if unweighted else data.get("weights"), selection=data.get("selection"),
            missing_columns=data.get("missing_columns"),
        )  # fmt: skip
        if dataset.labels is None:
            raise DataError(
                "the jets have no labels", where=name, mend="hepml predict scores jets without labels"
            )
        if not quiet:
            console.err().print(f"{name}: {dataset.report}", markup=False, style="dim")
        with console.CountingBar("jets", len(dataset), quiet=quiet) as bar:
            rows = score_dataset(
                model, dataset, JetLoader(dataset, batch_size), device=where, tell=bar.update
            )
        weights = None if dataset.weights is None else np.asarray(dataset.weights, dtype=np.float64)
        own = tuple(dataset.classes) or None
        samples[name] = Sample(np.asarray(dataset.labels), rows, weights, own, _kinematics(dataset))
    return samples


def _from_columns(
    model: Any, files: list[str], layout: str | None, batch_size: int, unweighted: bool, quiet: bool
) -> dict[str, Sample]:
    """Scores of a network that reads columns of files itself: an experiment's own."""
    from hepml.cli import console

    samples: dict[str, Sample] = {}
    from hepml.cli.evaluate_words import named_of

    for name, paths in named_of(files, model.hepml_name).items():
        with console.CountingBar("jets", model.count(paths, layout), quiet=quiet) as bar:
            found = model.labelled(paths, batch_size, layout=layout, tell=bar.update)
        if not quiet and found.unlabelled:
            console.err().print(f"{name}: {found.unlabelled} jets of no class left out", markup=False)
        weights = None if unweighted else found.weights
        samples[name] = Sample(found.labels, found.scores, weights, model.hepml_classes, found.kinematics)
    return samples


def _kinematics(dataset: Any) -> dict[str, Any]:
    """pT and eta of the sum of each jet's constituents; what has no direction has eta 0."""
    import torch

    from hepml import kinematics

    counts = dataset.offsets.diff()
    jet_of = torch.repeat_interleave(torch.arange(len(counts)), counts)
    sums = torch.zeros((len(counts), 4), dtype=torch.float64)
    sums.index_add_(0, jet_of, torch.as_tensor(dataset.four_momenta).double())
    return {"pt": kinematics.pt(sums).numpy(), "eta": torch.nan_to_num(kinematics.eta(sums)).numpy()}


def _data_of(run: str) -> dict[str, Any]:
    """The `data` block that the model was trained with; empty for published weights."""
    identity = _identity_of(run)
    data = (identity.get("config") or {}).get("data") or {}
    return {**data, "target": identity.get("target")}


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
