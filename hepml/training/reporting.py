"""What a run writes after its training: scores of its test sets, figures, and `summary.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

import hepml
from hepml.data.parts import places_of
from hepml.data.stream_loader import loader_of
from hepml.inference.prediction import score_dataset
from hepml.models import catalogue
from hepml.models.identity import identity_of
from hepml.objectives import Objective
from hepml.training import analysis_report, metrics, run_page
from hepml.training.building import build_side
from hepml.training.callbacks import RunKeeper
from hepml.training.checkpoints import BEST, load_model
from hepml.training.jets import FOLD, RunJets
from hepml.training.progress import Progress
from hepml.training.report_config import EvaluationConfig
from hepml.training.run_config import RunConfig
from hepml.training.run_directory import SUMMARY, RunDirectory
from hepml.training.run_page import Against


@dataclass(frozen=True)
class ScoredTest:
    """A test set with what the best checkpoint says of it.

    Args:
        labels: [N] classes or [N, T] targets.
        rows: [N, C] activated outputs.
        weights: [N], or None.
        report: the metrics of these.
        masses: [N] of the jets in GeV; empty of a regression.
    """

    labels: np.ndarray
    rows: np.ndarray
    weights: np.ndarray | None
    report: dict[str, Any]
    masses: np.ndarray = field(default_factory=lambda: np.zeros(0))


def report_run(
    config: RunConfig,
    folder: RunDirectory,
    objective: Objective,
    jets: RunJets,
    keeper: RunKeeper,
    device: torch.device,
    tracker: Any,
    progress: Progress,
) -> dict[str, Any]:
    """Scores the test sets with the best checkpoint and leaves scores, figures, summary and the packaged
    model in the run folder and with the tracker.

    Returns:
        the summary.
    """
    model = load_model(folder.checkpoints / BEST, device=str(device))
    tests = score_tests(config, model, objective, jets, device, progress)
    for name, scored in tests.items():
        arrays = score_arrays(config, model, scored)
        if name == FOLD:  # where these jets stand among all, so that folds can be put together
            arrays |= places_of(jets.tests[name])
        path = folder.write_scores(name, arrays)
        tracker.metrics(_flat(scored.report, f"{name}/"), keeper.best_epoch, final=True)
        tracker.artifact(path, "scores")
    draw_figures(tracker, objective, tests, keeper, jets, config.evaluation, str(identity_of(model).name))
    summary = summarise(config, folder, model, objective, jets, keeper, tests, device)
    if config.auxiliary:
        summary["auxiliary"] = auxiliary_figures(config, folder, model, objective, jets, device)
        tracker.metrics(_flat(summary["auxiliary"]), keeper.best_epoch, final=True)
    folder.write_json(SUMMARY, summary)
    tracker.artifact(folder.path / SUMMARY)
    run_page.fill(tracker, summary, curves_of(tests, jets.classes))
    tracker.artifact(folder.checkpoints / BEST, "checkpoints")
    if config.pretraining is None:  # else there is nothing to predict with
        example = jets.val.batch(np.arange(min(8, len(jets.val))))
        tracker.model(
            model.cpu(), example, objective=objective, classes=jets.classes or None, step=keeper.best_epoch
        )
    return summary


def score_tests(
    config: RunConfig,
    model: nn.Module,
    objective: Objective,
    jets: RunJets,
    device: torch.device,
    progress: Progress,
) -> dict[str, ScoredTest]:
    """Every test set scored and measured, by name."""
    settings = config.training
    tests = {}
    for name, dataset in jets.tests.items():
        rows = score_dataset(
            model,
            dataset,
            loader_of(dataset, settings.eval_batch_size or 2 * settings.batch_size, buckets=True),
            device=device,
            bf16=settings.precision == "bf16-mixed",
            tell=lambda done, name=name, dataset=dataset: progress.scoring(name, done, len(dataset)),  # type: ignore[misc]
        )
        labels = np.asarray(dataset.labels)
        weights = None if dataset.weights is None else np.asarray(dataset.weights, dtype=np.float64)
        report = metrics.report(
            objective, labels, rows, weights, classes=jets.classes, target=config.data.target,
            **config.evaluation.points(),
        )  # fmt: skip
        tests[name] = ScoredTest(labels, rows, weights, report)
    return _with_analyses(tests, model, jets, device, settings.eval_batch_size or 2 * settings.batch_size)


def _with_analyses(
    tests: dict[str, ScoredTest], model: nn.Module, jets: RunJets, device: torch.device, size: int
) -> dict[str, ScoredTest]:
    """The same with mass sculpting and calibration in the reports, where there is signal and background."""
    if not jets.classes or not tests or "signal" not in next(iter(tests.values())).report:
        return tests
    first = next(iter(tests.values())).report
    temperature = analysis_report.temperature_of(
        model, jets.val, first, jets.classes, device=device, size=size
    )
    out = {}
    for name, one in tests.items():
        masses = analysis_report.masses_of(jets.tests[name])
        pair, which = analysis_report.against(one.report, jets.classes, one.labels, one.rows, one.weights)
        more = analysis_report.analyse(pair, masses[which], temperature)
        out[name] = replace(one, report={**one.report, **more}, masses=masses[which])
    return out


def auxiliary_figures(
    config: RunConfig,
    folder: RunDirectory,
    model: nn.Module,
    objective: Objective,
    jets: RunJets,
    device: torch.device,
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """What the best checkpoint's heads say of the test jets: {test set: {"auxiliary": {task: figures}}}."""
    side = build_side(config, model, objective, jets)
    assert side is not None
    content = torch.load(folder.checkpoints / BEST, map_location="cpu", weights_only=True)["state_dict"]
    own = {n.removeprefix("side."): t for n, t in content.items() if n.startswith("side.")}
    side.load_state_dict(own)
    side.to(device).eval()
    size = config.training.eval_batch_size or 2 * config.training.batch_size
    dtype = next(model.parameters()).dtype
    figures = {}
    for name, dataset in jets.tests.items():
        for batch in loader_of(dataset, size, buckets=True):
            moved = batch.to(device).to(dtype)
            with torch.inference_mode():
                model(moved)
            side.measure(moved)
        figures[name] = {"auxiliary": side.figures()}
    return figures


def summarise(
    config: RunConfig,
    folder: RunDirectory,
    model: nn.Module,
    objective: Objective,
    jets: RunJets,
    keeper: RunKeeper,
    tests: dict[str, ScoredTest],
    device: torch.device,
) -> dict[str, Any]:
    """What `summary.json` holds; `test` is the first test set, `tests` the further ones."""
    reports = {name: scored.report for name, scored in tests.items()}
    first = next(iter(reports), None)
    speeds = sorted(values["jets_per_second"] for values in keeper.history)
    datasets = {"train": jets.train, "val": jets.val, **jets.tests}
    return {
        "test": None if first is None else reports[first],
        "tests": {name: report for name, report in reports.items() if name != first},
        "validation": next((v for v in keeper.history if v["epoch"] == keeper.best_epoch), None),
        "parameters": catalogue.count_parameters(model),
        "seconds": round(keeper.trained, 3),
        "loader_seconds": round(sum(values.get("loader_seconds", 0.0) for values in keeper.history), 3),
        "epochs": len(keeper.history),
        "best_epoch": keeper.best_epoch,
        "jets_per_second": speeds[len(speeds) // 2] if speeds else None,
        "ranks": keeper.ranks,
        "strategy": config.training.strategy if keeper.ranks > 1 else None,
        "norms": keeper.norms,
        "jets_per_epoch": keeper.jets_per_epoch,
        "jets": {n: len(data) - (jets.copies if n == "train" else 0) for n, data in datasets.items()},
        "copies": jets.copies,
        "classes": list(jets.classes) if objective.task == "classification" else [],
        "standards": identity_of(model).standards,
        "model": identity_of(model).name,
        "objective": objective.name,
        "config": config.name,
        "digest": {name: dataset.digest for name, dataset in datasets.items()},
        "device": str(device),
        "version": hepml.__version__,
        "remarks": list(jets.leaks),
        "run": str(folder.path),
    }


def draw_figures(
    tracker: Any,
    objective: Objective,
    tests: dict[str, ScoredTest],
    keeper: RunKeeper,
    jets: RunJets,
    evaluation: EvaluationConfig | None = None,
    model: str = "model",
) -> None:
    """ROC curves, score distributions, confusion matrices, efficiency against pT and the learning curves,
    kept by the tracker in every format that the config asks for."""
    from hepml.evaluation.plots import scores as plots
    from hepml.evaluation.plots.labels import Label, labelled

    settings = evaluation or EvaluationConfig()
    with labelled(Label(settings.label, settings.energy, settings.luminosity)):
        if objective.task == "classification" and tests:
            for name, figure in _test_figures(tests, jets, settings, model):
                _keep(tracker, name, figure, settings.formats)
        if keeper.history:
            _keep(tracker, "history", plots.plot_history(keeper.history), settings.formats)


def _test_figures(
    tests: dict[str, ScoredTest], jets: RunJets, settings: EvaluationConfig, model: str
) -> Iterator[tuple[str, Any]]:
    """The figures of all test sets together, and of each."""
    from hepml.evaluation.binned import in_bins, jet_pt
    from hepml.evaluation.multiclass import class_indices, group_members
    from hepml.evaluation.plots import scores as plots
    from hepml.evaluation.plots.bins import plot_bins

    report = next(iter(tests.values())).report
    title = f"{report['signal']} against {report['background']}"
    drawable = curves_of(tests, jets.classes)
    point = settings.signal_efficiencies[-1]
    bins: dict[str, Any] = {}
    for name, (is_signal, scores, weights) in drawable.items():
        groups = [group_members(tests[name].report[key]) for key in ("signal", "background")]
        both = [k for group in groups for k in class_indices(group, jets.classes)]
        pt = jet_pt(jets.tests[name])
        if len(jets.classes) > 2:  # the curve is of these classes alone
            pt = pt[np.isin(tests[name].labels, both)]
        bins[f"{model} on {name}"] = in_bins(is_signal, scores, pt, point, weights)
    if drawable:
        yield "roc", plots.plot_roc({f"{model} on {n}": d for n, d in drawable.items()}, title=title)
        cut = rf"cut at $\varepsilon_S = {point:g}$ over all $p_T$"
        yield "efficiency_pt", plot_bins(bins, "pt", title=f"{title}, {cut}")
    for name, scored in tests.items():
        parts = scored.labels, scored.rows, scored.weights
        yield f"confusion_{name}", plots.plot_confusion_matrix(*parts, classes=jets.classes, title=name)
        if len(jets.classes) > 2:
            yield f"scores_{name}", plots.plot_class_scores(*parts, classes=jets.classes)
        elif name in drawable:
            names = (report["background"], report["signal"])
            yield (
                f"scores_{name}",
                plots.plot_scores(*drawable[name], classes=names, title=f"{model} on {name}"),
            )
    yield from _analyses(tests, drawable)


def _analyses(tests: dict[str, ScoredTest], drawable: dict[str, Against]) -> Iterator[tuple[str, Any]]:
    """The background's mass behind cuts, test set by test set, and the reliability of all."""
    from hepml.evaluation.plots.analysis import plot_reliability, plot_sculpting

    for name, pair in drawable.items():
        if "sculpting" in tests[name].report:
            yield f"sculpting_{name}", plot_sculpting(*pair[:2], tests[name].masses, pair[2])
    calibrated = {name: pair for name, pair in drawable.items() if "calibration" in tests[name].report}
    if calibrated:
        yield "reliability", plot_reliability(calibrated)


def curves_of(tests: dict[str, ScoredTest], classes: Sequence[str]) -> dict[str, Against]:
    """Labels, scores and weights of signal against background, of each test set that has both."""
    from hepml.evaluation.multiclass import group_members, signal_against_background

    if not classes:
        return {}
    against = {
        name: signal_against_background(
            s.labels, s.rows, s.weights, classes=classes,
            signal=group_members(s.report["signal"]), background=group_members(s.report["background"]),
        )
        for name, s in tests.items()
    }  # fmt: skip
    return {name: jets for name, jets in against.items() if 0 < jets[0].sum() < len(jets[0])}


# ------------------------------------------------------------------------------------------------------------
# helpers


def _keep(tracker: Any, name: str, figure: Any, formats: Sequence[str]) -> None:
    import matplotlib.pyplot as plt

    for ending in formats:
        tracker.figure(f"{name}.{ending}", figure)
    plt.close(figure)


def score_arrays(config: RunConfig, model: nn.Module, scored: ScoredTest) -> dict[str, np.ndarray]:
    """What a file of scores holds of a test set."""
    rows = scored.rows
    signal = rows[:, 1] if rows.shape[1] == 2 and config.data.target is None else rows
    arrays = {"labels": scored.labels, str(identity_of(model).name): signal.astype(np.float32)}
    if scored.weights is not None:
        arrays["weights"] = scored.weights
    return arrays


def _flat(report: Any, prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in report.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out[f"{prefix}{key}"] = float(value)
    return out
