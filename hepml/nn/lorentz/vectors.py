"""The four-vectors of an equivariant network, in two forms with one interface.

A network of scalars reads of its vectors only products, and changes them only as x_i <- x_i + sum_j w_ij (x_i
- x_j) with scalar weights. So the vectors need no components at all: `GramVectors` carries the matrix of
products G of each jet, and a change of the vectors by the matrix A is G <- A G Aᵀ. No boost, however large,
costs more digits than the rounding of the input. `ComponentVectors` carries components, as the published
networks do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hepml.nn.lorentz.products import gram_matrix, plain_product
from hepml.packed.pairs import OrderedPairs
from hepml.packed.rectangle import to_dense, to_packed


class Vectors(Protocol):
    """Four-vectors of the nodes of packed jets."""

    def mass_squared(self) -> Tensor:
        """x_i·x_i of each node, [ΣN]."""

    def products(self) -> Tensor:
        """(x_i - x_j)² and x_i·x_j of each pair, [P, 2]."""

    def moved(self, weights: Tensor, step: float) -> Vectors:
        """x_i + step · mean_j w_ij (x_i - x_j), for weights [P]."""


@dataclass(frozen=True, eq=False)
class GramVectors:
    """Vectors known by their products.

    Args:
        gram: [B, W, W] products, zero where a jet has fewer than W nodes.
        pairs: the pairs of the packed nodes.
    """

    gram: Tensor
    pairs: OrderedPairs

    @classmethod
    def of(
        cls, x: Tensor, pairs: OrderedPairs, dtype: torch.dtype, exact: Tensor | None = None
    ) -> GramVectors:
        """From components [ΣN, 4], made in float64 and kept in `dtype`; `exact` [ΣN] marks vectors that were
        never rounded."""
        dense = to_dense(x, pairs.offsets, pairs.width)
        if exact is not None:
            exact = to_dense(exact[:, None], pairs.offsets, pairs.width, fill=False)[..., 0]
        return cls(gram_matrix(dense, exact).to(dtype), pairs)

    def mass_squared(self) -> Tensor:
        diagonal = self.gram.diagonal(dim1=-2, dim2=-1)
        return to_packed(diagonal[..., None], self.pairs.offsets, self.pairs.degree.shape[0])[:, 0]

    def products(self) -> Tensor:
        m2 = self.mass_squared()
        product = self.gram.flatten()[self.pairs.in_dense]
        return torch.stack((m2[self.pairs.receiver] + m2[self.pairs.sender] - 2 * product, product), dim=-1)

    def moved(self, weights: Tensor, step: float) -> GramVectors:
        with torch.autocast(
            self.gram.device.type, enabled=False
        ):  # products span too many orders of magnitude for 16 bits
            w = (
                weights.to(self.gram.dtype)
                * (step / self.pairs.degree.to(self.gram.dtype))[self.pairs.receiver]
            )
            w = self.pairs.own(w)
            off = (
                torch.zeros_like(self.gram).flatten().index_copy(0, self.pairs.in_dense, w).view_as(self.gram)
            )
            matrix = torch.diag_embed(1 + off.sum(-1)) - off
            return GramVectors(matrix @ self.gram @ matrix.transpose(-1, -2), self.pairs)


@dataclass(frozen=True, eq=False)
class ComponentVectors:
    """Vectors in components, with the arithmetic of the published LorentzNet.

    Args:
        x: [ΣN, 4].
        pairs: the pairs of the packed nodes.
        limit: bound on each component of w_ij (x_i - x_j), or None; it depends on the frame.
    """

    x: Tensor
    pairs: OrderedPairs
    limit: float | None = None

    def _differences(self) -> Tensor:
        return self.x[self.pairs.receiver] - self.x[self.pairs.sender]

    def mass_squared(self) -> Tensor:
        return plain_product(self.x, self.x)

    def products(self) -> Tensor:
        difference = self._differences()
        product = plain_product(self.x[self.pairs.receiver], self.x[self.pairs.sender])
        return torch.stack((plain_product(difference, difference), product), dim=-1)

    def moved(self, weights: Tensor, step: float) -> ComponentVectors:
        change = weights[:, None] * self._differences()
        if self.limit is not None:
            change = change.clamp(-self.limit, self.limit)
        return ComponentVectors(self.x + step * self.pairs.mean(change), self.pairs, self.limit)
