"""What happens at each particle: geometric products of linear maps, and gated nonlinearities
(arXiv:2405.14806, eqs. 7 and 9)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.lorentz.algebra.linear import MultivectorLinear
from hepml.nn.lorentz.algebra.multivectors import Multivectors
from hepml.nn.lorentz.algebra.norm import normalised
from hepml.nn.lorentz.algebra.products import geometric_product


def gated(x: Multivectors, s: Tensor) -> tuple[Multivectors, Tensor]:
    """GELU(scalar part) times x, and GELU of further scalars, in its tanh form. Shapes: C channels and [...,
    S], kept."""
    gate = F.gelu(x.scalars[..., ::2], approximate="tanh").repeat_interleave(2, dim=-1)
    x = Multivectors(x.scalars * gate, x.vectors * gate[..., None, :], x.bivectors * gate[..., None, :])
    return x, F.gelu(s, approximate="tanh")


class GeometricBilinear(nn.Module):
    """normalised(L3(L1(x) L2(x))), and scalars with their layer norm.

    Args:
        inputs, outputs: channels of multivectors; the product has as many as the result.
        scalars_in, scalars_out: further scalar channels.
        mix_parity: see `MultivectorLinear`.
    """

    def __init__(
        self, inputs: int, outputs: int, scalars_in: int, scalars_out: int, *, mix_parity: bool = True
    ) -> None:
        super().__init__()
        self.factors = MultivectorLinear(inputs, 2 * outputs, scalars_in, mix_parity=mix_parity)
        self.out = MultivectorLinear(outputs, outputs, scalars_in, scalars_out, mix_parity=mix_parity)
        with torch.no_grad():  # the second factor starts near one: the product keeps the first
            assert self.factors.bias is not None
            self.factors.bias[2 * outputs :: 2] = 1.0

    def forward(self, x: Multivectors, s: Tensor) -> tuple[Multivectors, Tensor]:
        """Shapes: C channels and [..., S] -> C' channels and [..., S']."""
        both, _ = self.factors(x, s)
        left, right = (
            Multivectors(*parts) for parts in zip(*(part.chunk(2, dim=-1) for part in both), strict=True)
        )
        y, t = self.out(geometric_product(left, right), s)
        return normalised(y), F.layer_norm(t, t.shape[-1:])


class GeometricMLP(nn.Module):
    """Bilinear layer, gated nonlinearity, linear map.

    Args:
        channels, scalars: of multivectors and further scalars, at both ends.
        expansion: hidden ones, in units of these.
        mix_parity, invariants_only: see `MultivectorLinear`.
    """

    def __init__(
        self,
        channels: int,
        scalars: int,
        expansion: int,
        *,
        mix_parity: bool = True,
        invariants_only: bool = False,
    ) -> None:
        super().__init__()
        hidden, further = expansion * channels, expansion * scalars
        self.bilinear = GeometricBilinear(channels, hidden, scalars, further, mix_parity=mix_parity)
        self.out = MultivectorLinear(
            hidden, channels, further, scalars, mix_parity=mix_parity, invariants_only=invariants_only
        )

    def forward(self, x: Multivectors, s: Tensor) -> tuple[Multivectors, Tensor]:
        """Shapes: C channels and [..., S] -> the same."""
        out: tuple[Multivectors, Tensor] = self.out(*gated(*self.bilinear(x, s)))
        return out
