"""Normalisation over packed rows, and the standardisation of jet observables.

Packed rows hold no padding, so batch statistics are those of real constituents (or of their edges); a padded
network's statistics are diluted by however much padding its batch happened to need.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepml.nn.across_ranks import AcrossRanks, AcrossRanksNorm, gain_and_bias


class PackedBatchNorm(nn.BatchNorm1d, AcrossRanksNorm):
    """Batch normalisation of rows [M, C]; with fewer than two rows in training the running statistics are
    used and kept as they are."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.synchronised:
            x = input.to(torch.promote_types(input.dtype, self.weight.dtype))
            mean = x.sum(0) / max(1, len(x))
            variance = (x - mean).square().sum(0) / max(1, len(x))
            gain, bias = self.learn_of_all_ranks(mean, variance, len(x))
            return torch.addcmul(bias, x, gain).to(input.dtype)
        if self.training and input.shape[0] < 2:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)

    def gain_and_bias(self) -> tuple[Tensor, Tensor]:
        """(gain, bias) of the map gain x + bias that this is in evaluation, each [C]."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return gain_and_bias(self.weight, self.bias, self.running_mean, self.running_var, self.eps)

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Moves the running statistics towards a batch's mean and biased variance over `rows` rows, as a
        forward pass in training does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (rows / max(rows - 1, 1))).to(self.running_var.dtype), share)


class Standardise(AcrossRanks):
    """(x - mean) / spread for each column, learnt from the first jets seen in training and then kept.

    Mean and variance are accumulated (Chan's update) over the first `jets` training rows and frozen after
    them, so that a jet's value never depends on its batch once they stand, and in evaluation never at all.
    Before any training the map is the identity.

    Args:
        columns: C.
        jets: training rows after which the statistics are frozen.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, columns: int, jets: int = 100_000) -> None:
        super().__init__()
        self.jets = jets
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("variance", torch.ones(columns))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C] to [B, C]."""
        if self.training and self.seen < self.jets:
            rows = self.rows_of_all_ranks(x.detach())
            if len(rows):
                self._learn(rows)
        spread = torch.where(self.variance > 0, self.variance, 1.0).sqrt()
        return (x - self.mean) / spread

    def _learn(self, x: Tensor) -> None:
        rows = x.double()
        mean, variance = rows.mean(0), rows.var(0, correction=0)
        share = len(rows) / (self.seen + len(rows))
        known = torch.where(self.seen > 0, self.variance.double(), 0.0)
        step = mean - self.mean.double()
        self.variance.copy_((1 - share) * known + share * variance + share * (1 - share) * step**2)
        self.mean.add_((share * step).to(self.mean.dtype))
        self.seen.add_(len(rows))
