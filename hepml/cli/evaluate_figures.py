"""The figure of `hepml evaluate --plot`: its curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepml.cli.evaluate_samples import Sample


def draw(
    samples: dict[str, Sample], reports: dict[str, Any], path: Path, regression: str | None, published: bool
) -> None:
    """Rejection against signal efficiency: a curve a tagger, or a curve a class for one tagger of many
    classes."""
    from hepml.errors import ConfigError
    from hepml.evaluation.multiclass import bare_name, group_members, signal_against_background
    from hepml.evaluation.plots import scores as plots
    from hepml.evaluation.published import LANDMARKS
    from hepml.evaluation.published import published as published_rows

    if regression:
        raise ConfigError("a regression has no ROC to plot", where="--plot", mend="leave --plot out")
    curves: dict[str, Any] = {}
    tasks: dict[str, None] = {}  # what is told from what; the same for all curves in most figures
    for name, sample in samples.items():
        report = reports[name]
        several = "classes" in report
        against = group_members(str(report.get("background", 0)))
        if several and len(samples) == 1 and len(against) == 1:
            signals = [c for c, row in report["classes"].items() if row.get("rejection")]
        else:
            signals = [report.get("signal", 1)]
        if "signal" in report:
            what = bare_name(str(report["signal"])) if len(signals) == 1 else f"{name}: each class"
            tasks[f"{what} against {bare_name(str(report['background']))}"] = None
        for signal in signals:
            label = name if len(signals) == 1 else bare_name(signal)
            curves[label] = signal_against_background(
                sample.labels,
                sample.scores,
                sample.weights,
                classes=sample.classes,
                signal=group_members(signal) if isinstance(signal, str) else signal,
                background=against if "background" in report else 0,
            )
    rows = published_rows(names=list(LANDMARKS)) if published else ()
    title = next(iter(tasks)) if len(tasks) == 1 else None
    plots.save(plots.plot_roc(curves, title=title, published=rows), path)
