"""Scalars scaled for a network: Minkowski products span ten orders of magnitude, their logarithm does not."""

from __future__ import annotations

import torch
from torch import Tensor


def signed_log(x: Tensor) -> Tensor:
    """psi(x) = sign(x) ln(|x| + 1) of arXiv:2201.08187, eq. 3.2; odd, smooth at zero, any shape."""
    return torch.sign(x) * torch.log1p(x.abs())
