"""Minkowski products, metric (+, -, -, -)."""

from __future__ import annotations

from torch import Tensor


def plain_product(a: Tensor, b: Tensor) -> Tensor:
    """a·b as 2 a⁰b⁰ - sum_mu a^mu b^mu, in the dtype of its arguments. Shapes: [..., 4], [..., 4] -> [...].

    This order of operations is that of the published LorentzNet. It matters: in float32 the mass of a massless particle is nothing but
    rounding, and the published weights were trained on just that.
    """
    ab = a * b
    return 2 * ab[..., 0] - ab.sum(-1)
