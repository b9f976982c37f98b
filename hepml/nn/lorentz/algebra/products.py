"""The products of the space-time algebra: the geometric product, and the inner product that is
Lorentz-invariant.

Even elements (scalars and bivectors) multiply like complex 2x2 matrices, sigma_k being Pauli's and I the
imaginary unit. An odd element is N e_0 with an even N, for vectors v^0 + v^k sigma_k. Since e_0 M = M' e_0
with M' = adj(M)†,

    (M1 + N1 e_0)(M2 + N2 e_0) = (M1 M2 + N1 N2') + (M1 N2 + N1 M2') e_0,

which is [M1 N1], 2x4, times a 4x4 matrix: 32 complex multiplications, half of the 256 real ones of the
multiplication table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hepml.nn.lorentz.algebra.multivectors import Multivectors, as_complex, as_real

METRIC = (1.0, -1.0, -1.0, -1.0)


def inner_product(x: Multivectors, y: Multivectors) -> Tensor:
    """The scalar part of reverse(x) y, channel by channel. Shapes: C channels each -> [..., C]."""
    signs = x.scalars.new_tensor(METRIC)[:, None]
    vectors = (x.vectors * y.vectors * signs).sum(-2)
    both = x.scalars * y.scalars + vectors - (x.bivectors * y.bivectors).sum(-2)
    plain, dual = both.unflatten(-1, (-1, 2)).unbind(-1)
    out: Tensor = plain - dual
    return out


def geometric_product(x: Multivectors, y: Multivectors) -> Multivectors:
    """x y, channel by channel. Shapes: C channels each, batches of the same shape -> C channels."""
    if torch.compiler.is_compiling():
        return _product_in_parts(x, y)
    (a, b, c, d), (e, f, g, h) = _matrix(*_even(y)), _matrix(*_odd(y))
    right = (
        torch.stack((a, b, e, f)),
        torch.stack((c, d, g, h)),
        torch.stack((h, -g, d, -c)).conj(),
        torch.stack((-f, e, -b, a)).conj(),
    )
    (a, b, c, d), (e, f, g, h) = _matrix(*_even(x)), _matrix(*_odd(x))
    left = torch.stack((a, c)), torch.stack((b, d)), torch.stack((e, g)), torch.stack((f, h))
    result = sum(
        (i[:, None] * j for i, j in zip(left[1:], right[1:], strict=True)), left[0][:, None] * right[0]
    )
    (a, b, e, f), (c, d, g, h) = (row.unbind(0) for row in result.unbind(0))
    z, w = _from_matrix(a, b, c, d)
    n, v = _from_matrix(e, f, g, h)
    return Multivectors(as_real(z), as_real(torch.stack((n, *v), dim=-2)), as_real(torch.stack(w, dim=-2)))


def _even(x: Multivectors) -> tuple[Tensor, tuple[Tensor, ...]]:
    return as_complex(x.scalars), as_complex(x.bivectors).unbind(-2)


def _odd(x: Multivectors) -> tuple[Tensor, tuple[Tensor, ...]]:
    n, *v = as_complex(x.vectors).unbind(-2)
    return n, tuple(v)


def _matrix(z: Tensor, w: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z + w_k sigma_k, row by row."""
    turned = w[1] * 1j
    return z + w[2], w[0] - turned, w[0] + turned, z - w[2]


def _from_matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    return 0.5 * (a + d), (0.5 * (b + c), 0.5j * (b - c), 0.5 * (a - d))


class _Parts:
    """A complex number as two real ones, for graphs: ONNX has no others."""

    def __init__(self, real: Tensor, imaginary: Tensor) -> None:
        self.real, self.imaginary = real, imaginary

    @classmethod
    def of(cls, x: Tensor) -> _Parts:
        """Plain and dual parts in turns. Shapes: [..., 2 C] -> [..., C]."""
        return cls(*x.unflatten(-1, (x.shape[-1] // 2, 2)).unbind(-1))

    @property
    def together(self) -> Tensor:
        return torch.stack((self.real, self.imaginary), dim=-1).flatten(-2)

    @property
    def turned(self) -> _Parts:
        """i times this."""
        return _Parts(-self.imaginary, self.real)

    def conj(self) -> _Parts:
        return _Parts(self.real, -self.imaginary)

    def __neg__(self) -> _Parts:
        return _Parts(-self.real, -self.imaginary)

    def __add__(self, other: _Parts) -> _Parts:
        return _Parts(self.real + other.real, self.imaginary + other.imaginary)

    def __sub__(self, other: _Parts) -> _Parts:
        return _Parts(self.real - other.real, self.imaginary - other.imaginary)

    def __mul__(self, other: _Parts) -> _Parts:
        real = self.real * other.real - self.imaginary * other.imaginary
        return _Parts(real, self.real * other.imaginary + self.imaginary * other.real)

    def times(self, number: float) -> _Parts:
        return _Parts(self.real * number, self.imaginary * number)


def _product_in_parts(x: Multivectors, y: Multivectors) -> Multivectors:
    """`geometric_product` number by number, each as its real and imaginary part."""

    def matrix(z: _Parts, w: tuple[_Parts, ...]) -> tuple[_Parts, _Parts, _Parts, _Parts]:
        return z + w[2], w[0] - w[1].turned, w[0] + w[1].turned, z - w[2]

    def matrices(m: Multivectors) -> tuple[tuple[_Parts, ...], tuple[_Parts, ...]]:
        n, *v = (_Parts.of(part) for part in m.vectors.unbind(-2))
        w = tuple(_Parts.of(part) for part in m.bivectors.unbind(-2))
        return matrix(_Parts.of(m.scalars), w), matrix(n, tuple(v))

    def components(m: tuple[_Parts, ...]) -> tuple[_Parts, ...]:
        a, b, c, d = m
        return tuple(n.times(0.5) for n in (a + d, b + c, (b - c).turned, a - d))

    (a, b, c, d), (e, f, g, h) = matrices(y)
    rows = (
        (a, b, e, f),
        (c, d, g, h),
        tuple(n.conj() for n in (h, -g, d, -c)),
        tuple(n.conj() for n in (-f, e, -b, a)),
    )
    (a, b, c, d), (e, f, g, h) = matrices(x)
    made = [
        [
            sum((n * row[k] for n, row in zip(left[1:], rows[1:], strict=True)), left[0] * rows[0][k])
            for k in range(4)
        ]
        for left in ((a, b, e, f), (c, d, g, h))
    ]
    (a, b, e, f), (c, d, g, h) = made
    z, *w = (n.together for n in components((a, b, c, d)))
    return Multivectors(
        z, torch.stack([n.together for n in components((e, f, g, h))], -2), torch.stack(w, -2)
    )
