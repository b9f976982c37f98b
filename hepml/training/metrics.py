"""What is measured of a model's outputs: a few numbers each epoch, and the full report on test jets, both
by `hepml.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepml.evaluation.checks import refuse_cancelling
from hepml.evaluation.multiclass import one_vs_one_auc
from hepml.evaluation.regression import evaluate_regression
from hepml.evaluation.report import evaluate
from hepml.evaluation.roc import auc
from hepml.objectives import Objective


def validation(objective: Objective, parameters: Tensor, labels: Tensor, weights: Tensor) -> dict[str, float]:
    """Loss and main figures of one epoch.

    Args:
        objective: the head.
        parameters: [N, outputs] model outputs of all validation jets.
        labels: [N] classes or [N, T] targets.
        weights: [N].

    Returns:
        `loss`, and `accuracy` with `auc` (one-vs-one for more than two classes; left out where a class has no
        jets), or `rmse` with `bias`.
    """
    with torch.no_grad():
        nll = objective.negative_log_likelihood(parameters, labels).double()
        w = weights.double()
        refuse_cancelling(w.cpu().numpy(), f"the {len(w)} validation jets")
        loss = float((nll * w).sum() / w.sum())
        if not np.isfinite(loss):
            return {"loss": loss}
        prediction = objective.activation(parameters.double()).cpu().numpy()
    y, event = labels.cpu().numpy(), w.cpu().numpy()
    if objective.task == "regression":
        residual = prediction[:, 0::2] - y.reshape(len(prediction), -1)
        squares, means = (
            np.average(residual**2, axis=0, weights=event),
            np.average(residual, axis=0, weights=event),
        )
        return {"loss": loss, "rmse": float(np.sqrt(squares).mean()), "bias": float(means.mean())}
    out = {"loss": loss, "accuracy": float(np.average(prediction.argmax(axis=1) == y, weights=event))}
    if len(np.unique(y)) == prediction.shape[1]:
        two = prediction.shape[1] == 2
        out["auc"] = float(auc(y, prediction[:, 1], event) if two else one_vs_one_auc(y, prediction, event))
    return out


def report(
    objective: Objective,
    labels: np.ndarray,
    prediction: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    classes: Sequence[str] = (),
    target: str | None = None,
    **points: Any,
) -> dict[str, Any]:
    """The full report on a test set.

    Args:
        objective: the head.
        labels: [N] classes or [N, T] targets.
        prediction: what `objective.activation` gives: [N, C] probabilities, or [N, 2 T] mean and sigma in
            turn.
        weights: [N].
        classes: names of the C classes.
        target: name of the regressed column.
        points: `signal`, `background` and `signal_efficiencies` of `hepml.evaluate`.
    """
    if objective.task == "regression":
        mean, sigma = prediction[:, 0::2], prediction[:, 1::2]
        if mean.shape[1] == 1:
            return {
                "target": target,
                **evaluate_regression(np.asarray(labels).reshape(-1), mean[:, 0], sigma[:, 0], weights),
            }
        return {"target": target, **evaluate_regression(labels, mean, sigma, weights)}
    return evaluate(labels, prediction, weights, classes=list(classes) or None, **points)
