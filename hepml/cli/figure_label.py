"""The options that say whose figures a command draws: experiment and status, energy and luminosity."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer

LabelOption = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Above the figures: an experiment, a status or both, as 'CMS Work in progress'; the run's "
        "evaluation.label where there is one.",
        show_default=False,
    ),
]
EnergyOption = Annotated[
    float | None,
    typer.Option("--energy", help="Centre-of-mass energy in TeV, in that label.", show_default=False),
]
LumiOption = Annotated[
    float | None,
    typer.Option("--lumi", help="Luminosity in inverse femtobarn, in that label.", show_default=False),
]


def label_figures(
    label: str | None, energy: float | None, lumi: float | None, own: Mapping[str, Any] | None = None
) -> AbstractContextManager[None]:
    """Has figures that are saved in the block labelled as asked, or as a run's config says."""
    from hepml.evaluation.plots.labels import Label, labelled

    own = own or {}
    return labelled(
        Label(
            own.get("label") if label is None else label,
            own.get("energy") if energy is None else energy,
            own.get("luminosity") if lumi is None else lumi,
        )
    )
