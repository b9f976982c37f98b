"""Clebsch–Gordan products of the irreps of SO+(1,3): the only bilinear maps that commute with Lorentz
transformations.

    (m1, n1) (x) (m2, n2) = sum of (m, n),  m = |m1 - m2|, |m1 - m2| + 2, …, m1 + m2,  n likewise.

In the basis of `hepml.nn.lorentz.irreps`, where an irrep is a product of two of SU(2), the coefficients are
products of those of SU(2): real, and the same for both kinds of spinor indices. Nothing is conjugated, so
products are linear over the complex numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import factorial, sqrt

import torch
from torch import Tensor

from hepml.nn.lorentz.irreps import Irrep, dimension


def decomposition(first: Irrep, second: Irrep, largest: int | None = None) -> Iterator[Irrep]:
    """The irreps of a product in ascending order; with `largest`, only those with m and n up to it."""
    for m in range(abs(first[0] - second[0]), first[0] + second[0] + 1, 2):
        for n in range(abs(first[1] - second[1]), first[1] + second[1] + 1, 2):
            if largest is None or max(m, n) <= largest:
                yield m, n


@functools.cache
@torch.inference_mode(False)  # what is kept must serve training after a prediction
def coefficients(first: Irrep, second: Irrep, result: Irrep) -> Tensor:
    """[d1, d2, d] float64, orthonormal in the last index; do not write into it."""
    left = spin_coefficients(first[0], second[0], result[0])
    right = spin_coefficients(first[1], second[1], result[1])
    return torch.einsum("abc,xyz->axbycz", left, right).reshape(
        dimension(first), dimension(second), dimension(result)
    )


@functools.cache
@torch.inference_mode(False)  # what is kept must serve training after a prediction
def spin_coefficients(m1: int, m2: int, m: int) -> Tensor:
    """<j1 a; j2 b | j c> of SU(2) for j = m/2 by Racah's formula, [m1 + 1, m2 + 1, m + 1], projections
    falling from the highest."""
    out = torch.zeros(m1 + 1, m2 + 1, m + 1, dtype=torch.float64)
    if m not in range(abs(m1 - m2), m1 + m2 + 1, 2):
        return out
    common = (m1 + m2 - m) // 2, (m1 - m2 + m) // 2, (m2 - m1 + m) // 2
    above = (m + 1) * factorial(common[0]) * factorial(common[1]) * factorial(common[2])
    below = factorial((m1 + m2 + m) // 2 + 1)
    for a in range(m1 + 1):
        for b in range(m2 + 1):
            c = a + b - common[0]  # spin projections add up
            if not 0 <= c <= m:
                continue
            states = (
                factorial(a)
                * factorial(m1 - a)
                * factorial(b)
                * factorial(m2 - b)
                * factorial(c)
                * factorial(m - c)
            )
            total = 0.0
            for k in range(common[0] + 1):
                terms = common[0] - k, a - k, m2 - b - k, common[1] - a + k, b - common[0] + k
                if min(terms) >= 0:
                    product = factorial(k)
                    for t in terms:
                        product *= factorial(t)
                    total += (-1) ** k / product
            out[a, b, c] = sqrt(above * states / below) * total
    return out


def product(x: Tensor, y: Tensor, first: Irrep, second: Irrep, result: Irrep) -> Tensor:
    """The part of x (x) y in one irrep, for any batches that broadcast. Shapes: [..., d1], [..., d2] complex
    -> [..., d]."""
    (part,) = products(x, y, first, second, (result,))
    return part


def products(x: Tensor, y: Tensor, first: Irrep, second: Irrep, results: tuple[Irrep, ...]) -> list[Tensor]:
    """The parts of x (x) y in several irreps. Shapes: [..., d1], [..., d2] complex -> [..., d] each."""
    if not results:
        return []
    if dimension(first) == 1 or dimension(second) == 1:
        return [x * y]
    outer = (x[..., :, None] * y[..., None, :]).flatten(-2)
    parts = outer @ _matrix(first, second, results, outer.dtype, outer.device)
    return list(parts.split([dimension(r) for r in results], dim=-1))


@functools.lru_cache(maxsize=1024)
@torch.inference_mode(False)  # what is kept must serve training after a prediction
def _matrix(
    first: Irrep, second: Irrep, results: tuple[Irrep, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    columns = [coefficients(first, second, result).flatten(0, 1) for result in results]
    return torch.cat(columns, dim=-1).to(device=device, dtype=dtype)


def invariant_product(x: Tensor, y: Tensor, irrep: Irrep) -> Tensor:
    """The Lorentz-invariant bilinear form of an irrep; p·q for four-vectors. Shapes: [..., d], [..., d]
    complex -> [...]."""
    signs, turned = _metric(irrep)
    return (x * y[..., turned.to(y.device)] * signs.to(device=x.device, dtype=x.dtype)).sum(-1)


@functools.cache
@torch.inference_mode(False)  # what is kept must serve training after a prediction
def _metric(irrep: Irrep) -> tuple[Tensor, Tensor]:
    """sum_i signs[i] x[i] y[turned[i]]: the product into (0, 0), times sqrt(d)."""
    form = coefficients(irrep, irrep, (0, 0))[..., 0] * sqrt(dimension(irrep))
    turned = form.abs().argmax(dim=1)
    return form.gather(1, turned[:, None])[:, 0].round(), turned


def exchange_sign(first: Irrep, second: Irrep, result: Irrep) -> int:
    """s such that the product of y and x is s times that of x and y; where first = second, s = -1 means that
    x (x) x has no such part."""
    return (
        -1 if ((first[0] + second[0] - result[0]) // 2 + (first[1] + second[1] - result[1]) // 2) % 2 else 1
    )
