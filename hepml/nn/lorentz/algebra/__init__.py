"""The geometric algebra of space-time, Cl(1,3), as layers that commute with Lorentz transformations
(arXiv:2405.14806)."""

from hepml.nn.lorentz.algebra.attention import MultivectorAttention
from hepml.nn.lorentz.algebra.linear import MultivectorLinear
from hepml.nn.lorentz.algebra.mlp import GeometricBilinear, GeometricMLP, gated
from hepml.nn.lorentz.algebra.multivectors import Multivectors
from hepml.nn.lorentz.algebra.norm import MultivectorNorm, normalised
from hepml.nn.lorentz.algebra.products import geometric_product, inner_product

__all__ = [
    "GeometricBilinear",
    "GeometricMLP",
    "MultivectorAttention",
    "MultivectorLinear",
    "MultivectorNorm",
    "Multivectors",
    "gated",
    "geometric_product",
    "inner_product",
    "normalised",
]
