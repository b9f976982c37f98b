"""What analyses ask of a tagger beside its ROC curve, for every test set of a run: how a cut carves the
background's mass, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from hepml import kinematics
from hepml.data.parts import Part
from hepml.data.stream_loader import loader_of
from hepml.errors import DataError, HepmlError
from hepml.evaluation import calibration
from hepml.evaluation.multiclass import class_indices, group_members, signal_against_background
from hepml.evaluation.sculpting import mass_sculpting
from hepml.inference.prediction import score_dataset

CHUNK = 20_000  # jets whose masses are taken at a time
VALIDATION = 20_000  # validation jets that the temperature is fitted on
RANDOM = 50  # random selections that the divergence is compared with

Binary = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def masses_of(dataset: Any) -> np.ndarray:
    """The mass of each jet in GeV, [N]."""
    parts = [
        kinematics.mass(dataset.batch(np.arange(i, min(i + CHUNK, len(dataset)))).jets).numpy()
        for i in range(0, len(dataset), CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def against(
    report: dict[str, Any],
    classes: Sequence[str],
    labels: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray | None,
) -> tuple[Binary, np.ndarray]:
    """Signal against background as (labels, scores, weights), and which jets these are, [N]."""
    signal, background = group_members(report["signal"]), group_members(report["background"])
    wanted = [*class_indices(signal, classes), *class_indices(background, classes)]
    pair = signal_against_background(
        labels, rows, weights, classes=classes, signal=signal, background=background
    )
    return pair, np.isin(labels, wanted)


def analyse(pair: Binary, masses: np.ndarray, temperature: float | None) -> dict[str, Any]:
    """`sculpting` and `calibration` of one test set; why one of them cannot be measured is in `left_out`.

    Args:
        pair: labels, scores and weights of signal against background.
        masses: of the same jets.
        temperature: from the validation jets.
    """
    labels, scores, weights = pair
    if not 0 < labels.sum() < len(labels):
        return {}  # the report says of which class the jets are
    analyses: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    try:
        analyses["sculpting"] = mass_sculpting(labels, scores, masses, weights, random=RANDOM)
    except HepmlError as problem:  # all background jets of one mass, say
        left_out["sculpting"] = problem.what
    try:
        errors = {"ece": calibration.reliability(labels, scores, weights)["ece"]}
        if temperature is None:
            left_out["temperature"] = "the validation jets do not tell it"
        else:
            better = calibration.with_temperature(scores, temperature)
            ece = calibration.reliability(labels, better, weights)["ece"]
            errors |= {"temperature": temperature, "ece_with_temperature": ece}
        analyses["calibration"] = errors
    except HepmlError as problem:
        left_out["calibration"] = problem.what
    return {**analyses, **({"left_out": left_out} if left_out else {})}


def temperature_of(
    model: nn.Module,
    validation: Any,
    report: dict[str, Any],
    classes: Sequence[str],
    *,
    device: Any,
    size: int,
) -> float | None:
    """The temperature that the validation jets ask for; None where they cannot tell.

    Args:
        model: the trained tagger.
        validation: data set.
        report: of a test set: its `signal` and `background`.
        classes: of the run.
        device, size: of the model, and jets a step.
    """
    if validation is None or validation.labels is None or not classes:
        return None
    chosen = Part(validation, np.arange(min(VALIDATION, len(validation))))
    rows = score_dataset(model, chosen, loader_of(chosen, size, buckets=True), device=device)
    weights = None if chosen.weights is None else np.asarray(chosen.weights, dtype=np.float64)
    (labels, scores, own), _ = against(report, classes, np.asarray(chosen.labels), rows, weights)
    if not 0 < labels.sum() < len(labels):
        return None
    try:
        return calibration.fit_temperature(labels, scores, own)
    except DataError:  # of weights
        return None
