"""Mass decorrelation: a penalty that keeps a tagger's score independent of the jet's mass on background jets.

A tagger that knows the mass carves the background into the shape of the signal. DisCo (arXiv:2001.05310) adds
the distance correlation of score and mass, which is zero only where the two are independent, times a
strength; planing by weights is `data.reweight` (docs/recipes.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.objectives import Objective

MOST = 4_096  # background jets whose pairs are taken at a time


@dataclass(frozen=True)
class Decorrelation:
    """The penalty of a run.

    Args:
        column: jet column that the score shall say nothing of.
        strength: factor on the distance correlation.
        background: class indices of the background.
    """

    column: str
    strength: float
    background: tuple[int, ...]

    def of_batch(
        self, objective: Objective, parameters: Tensor, batch: JetBatch, weights: Tensor | None
    ) -> Tensor:
        """The squared distance correlation on the background jets of a batch, a scalar; `weights` are those
        of the likelihood, class factors included, as in validation."""
        assert batch.labels is not None
        score = self.score(objective, parameters)
        return self.of_jets(score, batch.select_jets([self.column])[:, 0], batch.labels, weights)

    def score(self, objective: Objective, parameters: Tensor) -> Tensor:
        """What is not background in the probabilities, [B]."""
        return 1 - objective.activation(parameters)[:, list(self.background)].sum(dim=1)

    def of_jets(self, score: Tensor, column: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The same from columns, [N] each; of more than `MOST` background jets some from all over, since
        files are often sorted by class or momentum."""
        chosen = torch.isin(labels, labels.new_tensor(self.background)).nonzero()[:, 0]
        if len(chosen) > MOST:
            chosen = chosen[torch.arange(MOST, device=chosen.device) * len(chosen) // MOST]
        own = None if weights is None else weights[chosen]
        return distance_correlation(score[chosen], column[chosen], own)


def distance_correlation(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared distance correlation of two weighted samples, 0 (independent) to 1; equations 3 to 6 of
    arXiv:2001.05310.

    Args:
        x, y: [N] each.
        weights: [N]; what is negative counts as zero. None weighs all alike.
    """
    if len(x) < 2:
        return x.sum() * 0.0
    w = torch.ones_like(x) if weights is None else weights.to(x).clamp_min(0.0)
    w = w / w.sum().clamp_min(torch.finfo(x.dtype).tiny)
    a, b = _centred(x, w), _centred(y.to(x) / y.to(x).std().clamp_min(1e-12), w)
    both = w[:, None] * w[None, :]
    covariance = (both * a * b).sum()
    variances = (both * a * a).sum() * (both * b * b).sum()
    return covariance.clamp_min(0.0) / variances.clamp_min(1e-20).sqrt()


def _centred(x: Tensor, w: Tensor) -> Tensor:
    """Distances of all pairs, less the weighted means of row and column."""
    distance = (x[:, None] - x[None, :]).abs()
    row = distance @ w
    return distance - row[:, None] - row[None, :] + w @ row
