"""`hepml evaluate --bins`: a tagger's one cut in bins of the jets' pT and eta."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

QUANTITIES = ("pt", "eta")


def add_bins(
    text: str, samples: Mapping[str, Any], reports: dict[str, Any], point: float, plot: Path | None
) -> None:
    """Puts {quantity: bins} under `bins` of each report, for the cut of signal efficiency `point`, and draws
    them where a plot was asked for.

    Raises:
        ConfigError: another quantity, scores without their jets, or a tagger of more than two classes.
    """
    from hepml.errors import ConfigError
    from hepml.evaluation.binned import in_bins

    asked = parse_bins(text)
    for name, sample in samples.items():
        report = reports[name]
        if sample.jets is None:
            raise ConfigError(
                "scores alone know no pT and eta",
                where="--bins",
                mend="hepml evaluate RUN FILES --bins pt,eta",
            )
        if "accuracy_threshold" not in report:
            raise ConfigError(
                "bins are for two classes", where="--bins", mend="leave --bins out for this tagger"
            )
        chosen = 1
        if sample.classes is not None and "signal" in report:
            chosen = [str(c) for c in sample.classes].index(str(report["signal"]))
        scores = sample.scores[:, chosen] if sample.scores.ndim == 2 else sample.scores
        report["bins"] = {
            quantity: in_bins(
                sample.labels == chosen, scores, sample.jets[quantity], point, sample.weights, edges
            )
            for quantity, edges in asked.items()
        }
    if plot is None:
        return
    from hepml.evaluation.plots.bins import plot_bins
    from hepml.evaluation.plots.style import save

    for quantity in asked:
        path = plot.with_name(f"{plot.stem}_{quantity}{plot.suffix}")
        save(plot_bins({name: report["bins"][quantity] for name, report in reports.items()}, quantity), path)


def parse_bins(text: str) -> dict[str, list[float] | None]:
    """{quantity: edges or None} from `pt=500:550:600,eta`.

    Raises:
        ConfigError: another quantity, or edges that are no rising numbers.
    """
    from hepml.errors import ConfigError, did_you_mean

    bins: dict[str, list[float] | None] = {}
    for word in text.split(","):
        name, equals, edges = word.strip().partition("=")
        name = name.removeprefix("jet_")
        if name not in QUANTITIES:
            raise ConfigError(
                f"no bins of '{name}'", where="--bins", mend=did_you_mean(name, QUANTITIES, noun="quantities")
            )
        try:
            bins[name] = [float(edge) for edge in edges.split(":")] if equals else None
        except ValueError:
            raise ConfigError(
                f"'{edges}' are no edges", where="--bins", mend="write pt=500:550:600"
            ) from None
    return bins
