"""Whitening of strongly correlated columns, so that a linear classifier on them can be trained by steps of
gradient descent.

Energy-flow polynomials are so alike that a thousand of them vary in a few directions a million times as much
as in others; without whitening a gradient step never reaches the small ones, in which much of the
discrimination is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hepml.nn.across_ranks import AcrossRanks


class Whiten(AcrossRanks):
    """(x - mean) / spread for each column, then, once enough rows are seen, turned and scaled so that
    covariances become the identity.

    Mean and covariance are accumulated over the first rows seen in training; with `rows` of them the map is
    fixed for good, so that a jet's value never depends on its batch from then on, and in evaluation never at
    all. Directions of less than `floor` of the variance of a standardised column are not blown up further.
    Before any training the map is the identity.

    Args:
        columns: C.
        rows: training rows after which the map is fixed; of no use below a few times C.
        floor: added to the variances along the principal directions.
    """

    mean: Tensor
    spread: Tensor
    covariance: Tensor
    turn: Tensor
    seen: Tensor
    fixed: Tensor

    def __init__(self, columns: int, rows: int = 8192, floor: float = 1e-4) -> None:
        super().__init__()
        self.rows, self.floor = rows, floor
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("spread", torch.ones(columns))
        self.register_buffer("covariance", torch.zeros(columns, columns))
        self.register_buffer("turn", torch.eye(columns))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fixed", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C] to [B, C]."""
        if self.training and not self.fixed:
            rows = self.rows_of_all_ranks(x.detach())
            if len(rows):
                self._learn(rows)
        standard = (x - self.mean) / self.spread
        # a graph asks no value; before the map is fixed, to turn does nothing
        return standard @ self.turn if torch.compiler.is_compiling() or self.fixed else standard

    @torch.no_grad()
    def _learn(self, x: Tensor) -> None:
        """Takes rows into mean and covariance (Chan's update); fixes the map when there are enough."""
        rows, previous, count = x.double(), int(self.seen), len(x)
        mean, share = rows.mean(0), count / (previous + count)
        step, rows = mean - self.mean.double(), rows - mean
        known = (
            self.covariance.double() if previous else torch.zeros_like(self.covariance, dtype=torch.float64)
        )
        covariance = (
            (1 - share) * known
            + share * (rows.T @ rows / count)
            + share * (1 - share) * torch.outer(step, step)
        )
        variance = covariance.diagonal()
        # in single precision what varies by less than the smallest number squared cannot be told from what
        # does not vary
        spread = torch.where(variance > 0, variance, 1.0).sqrt()
        self.mean.add_((share * step).to(self.mean.dtype))
        self.covariance.copy_(covariance)
        self.spread.copy_(spread)
        self.seen.add_(count)
        if previous + count >= self.rows:
            variances, directions = torch.linalg.eigh(covariance / torch.outer(spread, spread))
            self.turn.copy_(directions / (variances.clamp_min(0) + self.floor).sqrt())
            self.fixed.fill_(True)
