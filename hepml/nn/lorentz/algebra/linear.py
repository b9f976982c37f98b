"""The most general linear map of multivectors and scalars that commutes with Lorentz transformations.

Scalars, pseudoscalars and further scalar channels are mixed with each other at will, vectors with axial
vectors, and bivectors are multiplied by complex numbers: ten weights a pair of channels (arXiv:2405.14806,
eq. 6), three matrix products, no 16x16 basis maps. Without `mix_parity`, grades are kept apart: five weights,
and the map commutes with reflections too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.lorentz.algebra.multivectors import Multivectors


class MultivectorLinear(nn.Module):
    """Equivariant linear map.

    Args:
        inputs, outputs: channels of multivectors.
        scalars_in, scalars_out: further scalar channels.
        bias: of everything invariant. Without `mix_parity` pseudoscalars have none.
        mix_parity: mix grades with their duals, which SO+(1,3) allows and reflections do not.
        gain: weights start uniform with variance gain² / (3 fan).
        invariants_only: leave out vectors and bivectors of the result, whose weights would learn nothing if
            nobody read them.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        scalars_in: int = 0,
        scalars_out: int = 0,
        *,
        bias: bool = True,
        mix_parity: bool = True,
        gain: float = 1.0,
        invariants_only: bool = False,
    ) -> None:
        super().__init__()
        self.outputs, self.invariants_only = outputs, invariants_only
        fan, width = 2 * inputs + scalars_in, 2 * outputs + scalars_out
        self.invariants = nn.Parameter(_uniform((width, fan), gain / fan**0.5))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        mask = None
        if not mix_parity:
            odd_in, odd_out = torch.zeros(fan), torch.zeros(width)
            odd_in[1 : 2 * inputs : 2] = 1
            odd_out[1 : 2 * outputs : 2] = 1
            mask = (odd_in == odd_out[:, None]).float()
        self.register_buffer("mask", mask, persistent=False)
        if not invariants_only:
            self.vectors = nn.Parameter(_uniform((2 * outputs, 2 * inputs), gain / (2 * inputs) ** 0.5))
            self.bivectors = nn.Parameter(_uniform((outputs, inputs, 2), gain / (2 * inputs) ** 0.5))

    def forward(self, x: Multivectors, s: Tensor | None = None) -> tuple[Multivectors, Tensor]:
        """Shapes: C channels and [..., S] -> C' channels and [..., S'] (parts without components where only
        invariants are wanted)."""
        given = x.scalars if s is None else torch.cat((x.scalars, s), dim=-1)
        weight: Tensor = self.invariants
        bias: Tensor | None = self.bias
        if self.mask is not None:
            weight = weight * self.mask
            bias = None if bias is None else bias * (self.mask[:, 0] if len(self.mask) else 1.0)
        products = F.linear(given, weight, bias)
        scalars, more = products.split((2 * self.outputs, products.shape[-1] - 2 * self.outputs), dim=-1)
        if self.invariants_only:
            return Multivectors(
                scalars, scalars[..., None, :][..., :0, :], scalars[..., None, :][..., :0, :]
            ), more
        vectors = self.vectors if self.mask is None else self.vectors * self._kept()
        return Multivectors(
            scalars, F.linear(x.vectors, vectors), F.linear(x.bivectors, self._complex())
        ), more

    def _kept(self) -> Tensor:
        assert self.mask is not None
        return self.mask[: self.vectors.shape[0], : self.vectors.shape[1]]

    def _complex(self) -> Tensor:
        """Multiplication by a + b I of plain and dual parts in turns, [2 C', 2 C]: blocks [[a, -b], [b,
        a]]."""
        a, b = self.bivectors.unbind(-1)
        if self.mask is not None:
            b = torch.zeros_like(b)
        rows = torch.stack(
            (torch.stack((a, -b), dim=-1), torch.stack((b, a), dim=-1)), dim=1
        )  # [C', 2, C, 2]
        return rows.flatten(2).flatten(0, 1)


def _uniform(size: tuple[int, ...], bound: float) -> Tensor:
    return torch.empty(size).uniform_(-bound, bound)
