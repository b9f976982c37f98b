"""How one network of a law of motion is trained: numbers that a config names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FitSettings:
    """How one network is trained.

    Args:
        steps: gradient steps.
        batch_size: points a step; all of them where None.
        learning_rate: Adam's, at the beginning.
        weight_decay: L2, as in the paper.
        schedule: `constant`, or `cosine` to zero.
        average: share of the steps, at the end, over which the weights are averaged (Polyak and Juditsky
            1992); the last weights where 0. At a constant rate the weights wander about their best; their
            mean does not. The published recipes have none.
        polish: iterations of L-BFGS that follow Adam, on all points at once and in float64.
        objective: `derivatives` (the paper's), `denoised` or `steps`.
        loss: `mse`, or `relative`: squared errors divided by 1 + |dz/dt|², so that close encounters do not
            drown the rest.
        method: integrator of the `steps` objective.
        horizon: recorded times that a rollout of the `steps` objective spans.
        substeps: integrator steps between two recorded times.
        law_weight: weight of the law in the loss of the pixel task.
        every: steps between two entries of the history.
    """

    steps: int = 2000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    average: float = 0.0
    polish: int = 0
    objective: str = "derivatives"
    loss: str = "mse"
    method: str = "verlet"
    horizon: int = 1
    substeps: int = 1
    law_weight: float = 0.1
    every: int = 100
