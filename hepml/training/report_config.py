"""The blocks of a config that say what is reported: `evaluation` (signal, background, figures) and
`tracking`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hepml.config import Schema

Picture = Literal["png", "pdf", "svg"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


def _png() -> list[Picture]:
    return ["png"]


class EvaluationConfig(Schema):
    """What is signal and what is background on the test jets, and what the figures say.

    Args:
        signal: the signal class or classes; class 1 of two, or the first that is not background.
        background: the class or classes that are rejected; the one called QCD or background, otherwise the
            first.
        signal_efficiencies: where the background rejection is quoted.
        label: above every figure: an experiment, a status or both, as `CMS`, `Work in progress`, `ATLAS
            Simulation Preliminary`.
        energy: centre-of-mass energy in TeV, in that label.
        luminosity: in inverse femtobarn, in that label.
        formats: of the figures in `plots/`: png, pdf, svg.
    """

    signal: str | list[str] | None = None
    background: str | list[str] | None = None
    signal_efficiencies: list[Share] = Field(default_factory=lambda: [0.3, 0.5])

    label: str | None = None
    energy: Positive | None = None
    luminosity: Positive | None = None
    formats: list[Picture] = Field(default_factory=_png)

    def points(self) -> dict[str, Any]:
        """The arguments of `hepml.evaluate`."""
        return self.model_dump(include={"signal", "background", "signal_efficiencies"})


class TrackingConfig(Schema):
    """Where a run is recorded.

    Args:
        enabled: send metrics to MLflow; the journal in the run folder is kept in any case.
        experiment: MLflow experiment; the config's folder or name where left out.
        name: MLflow run name; the run folder's name where left out.
        uri: MLflow tracking URI; $MLFLOW_TRACKING_URI, else an sqlite file in the current folder.
        tags: further tags of the MLflow run.
    """

    enabled: bool = True
    experiment: str | None = None
    name: str | None = None
    uri: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
