"""Multivectors of the space-time algebra, in the form in which Lorentz-equivariant maps are plain matrix
products.

With basis vectors e_mu (e_0² = 1, e_k² = -1) and the pseudoscalar I = e_0 e_1 e_2 e_3 (I² = -1), a
multivector is

    x = (s + I p)  +  (v + I a)^mu e_mu  +  (E + I B)^k sigma_k,    sigma_k = e_k e_0:

a scalar and a pseudoscalar, a vector and an axial vector, and a bivector, each a number with a plain part and
a dual part (the multiple of I). So the sixteen components are one, four and three such numbers. Scalars and
pseudoscalars may be mixed at will by a map that commutes with SO+(1,3), and so may vectors and axial vectors;
bivectors may be multiplied by complex numbers, I being the imaginary unit. Channels stand last, plain and
dual parts beside each other, so that a view as complex numbers costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Where each component stands in the basis 1, e_0…e_3, e_01 e_02 e_03 e_12 e_13 e_23, e_012 e_013 e_023 e_123,
# e_0123 and with which
# sign, plain part first: I e_0 = -e_123, I sigma_1 = -e_23 and so on.
_SCALARS = ((0, 1), (15, 1))
_VECTORS = ((1, 1), (14, -1), (2, 1), (13, -1), (3, 1), (12, 1), (4, 1), (11, -1))
_BIVECTORS = ((5, -1), (10, -1), (6, -1), (9, 1), (7, -1), (8, -1))


class Multivectors(NamedTuple):
    """Multivectors with C channels.

    Args:
        scalars: [..., 2 C] scalars and pseudoscalars, in turns.
        vectors: [..., 4, 2 C] vectors and axial vectors, in turns.
        bivectors: [..., 3, 2 C] E and B, in turns.
    """

    scalars: Tensor
    vectors: Tensor
    bivectors: Tensor

    @classmethod
    def of_vectors(cls, vectors: Tensor) -> Multivectors:
        """Four-vectors as multivectors. Shapes: [..., 4, C] -> C channels."""
        shape = (*vectors.shape[:-2], 2 * vectors.shape[-1])
        padded = torch.stack((vectors, torch.zeros_like(vectors)), dim=-1).flatten(-2)
        return cls(vectors.new_zeros(shape), padded, vectors.new_zeros((*shape[:-1], 3, shape[-1])))

    @classmethod
    def of_components(cls, x: Tensor) -> Multivectors:
        """From the sixteen components [..., C, 16] in the order 1, e_0, …, e_01, …, e_012, …, e_0123."""

        def taken(places: tuple[tuple[int, int], ...]) -> Tensor:
            part = x[..., [i for i, _ in places]] * x.new_tensor([sign for _, sign in places])
            part = part.unflatten(-1, (-1, 2)).transpose(-2, -3).flatten(-2)  # [..., rows, 2 C]
            out: Tensor = part.squeeze(-2) if len(places) == 2 else part
            return out

        return cls(taken(_SCALARS), taken(_VECTORS), taken(_BIVECTORS))

    def components(self) -> Tensor:
        """The sixteen components, [..., C, 16]; undoes `of_components`."""
        parts = (self.scalars[..., None, :], self.vectors, self.bivectors)
        rows = torch.cat(parts, dim=-2).unflatten(-1, (-1, 2)).transpose(-2, -3).flatten(-2)  # [..., C, 16]
        places = (*_SCALARS, *_VECTORS, *_BIVECTORS)
        order = sorted(range(16), key=lambda k: places[k][0])
        out: Tensor = rows[..., order] * rows.new_tensor([places[k][1] for k in order])
        return out

    def map(self, function: Callable[[Tensor], Tensor]) -> Multivectors:
        """The same function of all three parts."""
        return Multivectors(*(function(part) for part in self))

    def plus(self, other: Multivectors) -> Multivectors:
        return Multivectors(*(a + b for a, b in zip(self, other, strict=True)))

    def rows(self, which: Tensor) -> Multivectors:
        """Those of some particles, for parts [M, ...]."""
        return self.map(lambda part: part.index_select(0, which))


def as_complex(x: Tensor) -> Tensor:
    """Plain and dual parts as real and imaginary ones, a view. Shapes: [..., 2 C] -> [..., C] complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def as_real(x: Tensor) -> Tensor:
    """Shapes: [..., C] complex -> [..., 2 C]."""
    return torch.view_as_real(x).flatten(-2)
