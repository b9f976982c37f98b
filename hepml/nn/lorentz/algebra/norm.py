"""Normalisation of multivectors by an invariant size (arXiv:2405.14806, eq. 8).

The inner product is indefinite, so that the squares of each grade are taken with their absolute values:
|x|² = s² + |v·v| + |E² - B²| + |a·a| + p², averaged over channels, not below epsilon.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.lorentz.algebra.multivectors import Multivectors
from hepml.nn.lorentz.algebra.products import METRIC

EPSILON = 0.01  # massless momenta have no size


def absolute_square(x: Multivectors) -> Tensor:
    """|x|² of each channel. Shapes: C channels -> [..., C]."""
    vectors = (x.vectors.square() * x.vectors.new_tensor(METRIC)[:, None]).sum(-2).abs()
    electric, magnetic = x.bivectors.square().sum(-2).unflatten(-1, (-1, 2)).unbind(-1)
    out: Tensor = (x.scalars.square() + vectors).unflatten(-1, (-1, 2)).sum(-1) + (electric - magnetic).abs()
    return out


def normalised(x: Multivectors) -> Multivectors:
    """x over the root of its mean |x|² over channels."""
    factor = absolute_square(x).mean(-1, keepdim=True).clamp_min(EPSILON).rsqrt()
    return Multivectors(
        x.scalars * factor, x.vectors * factor[..., None, :], x.bivectors * factor[..., None, :]
    )


class MultivectorNorm(nn.Module):
    """`normalised` multivectors, and the layer norm of further scalars, with a gain for each channel and
    grade.

    Args:
        channels: C.
        scalars: S.
    """

    def __init__(self, channels: int, scalars: int) -> None:
        super().__init__()
        self.scalars, self.vectors = (nn.Parameter(torch.ones(2 * channels)) for _ in range(2))
        self.bivectors = nn.Parameter(torch.ones(channels))
        self.further = nn.Parameter(torch.ones(scalars))

    def forward(self, x: Multivectors, s: Tensor) -> tuple[Multivectors, Tensor]:
        """Shapes: C channels and [..., S], kept."""
        x = normalised(x)
        gains = self.scalars, self.vectors, self.bivectors.repeat_interleave(2)
        x = Multivectors(*(part * gain for part, gain in zip(x, gains, strict=True)))
        return x, F.layer_norm(s, s.shape[-1:]) * self.further
