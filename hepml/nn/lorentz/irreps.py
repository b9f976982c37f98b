"""The finite-dimensional irreducible representations (m, n) of SO+(1,3), as complex vectors of dimension (m +
1)(n + 1).

SO+(1,3) is covered by SL(2, C): A moves a four-vector as p^mu sigma_mu -> A p^mu sigma_mu A†. Its Lie
algebra, made complex, is sl(2) + sl(2), so an irrep is a pair of irreps of SU(2), of spin m/2 and n/2:

    D^(m,n)(A) = D^m(A) (x) D^n(conj A),   D^m = the symmetric part of the m-th tensor power of A.

A vector of (m, n) is stored with components v[a (n + 1) + b], where a = 0 … m and b = 0 … n count how far the
weights are below the highest, spin projections m/2 - a and n/2 - b. Under rotations alone, n transforms as
its own dual, and (m, n) is the product of spins m/2 and n/2 restricted to their diagonal. Complex numbers are
needed: of the irreps used here only those with m = n contain real vectors (four-vectors are the Hermitian
matrices in (1, 1)); (m, n) and (n, m) are each other's conjugates. Irreps with m + n even are true
representations of the Lorentz group; the others know the sign of A.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

Irrep = tuple[int, int]


def dimension(irrep: Irrep) -> int:
    """(m + 1)(n + 1)."""
    return (irrep[0] + 1) * (irrep[1] + 1)


def from_four_vector(p: Tensor) -> Tensor:
    """Four-vectors as vectors of (1, 1), scaled so that `invariant_product(v, v)` is p·p. Shapes: [..., 4] ->
    [..., 4] complex."""
    p = p.double() if p.dtype not in (torch.float32, torch.float64) else p
    e, x, y, z = (p * math.sqrt(0.5)).unbind(-1)
    zero = torch.zeros_like(e)
    real = torch.stack((e + z, x, x, e - z), dim=-1)
    imaginary = torch.stack((zero, -y, y, zero), dim=-1)
    return torch.complex(real, imaginary)


def to_four_vector(v: Tensor) -> Tensor:
    """The inverse of `from_four_vector`; the real part of a vector that is none. Shapes: [..., 4] complex ->
    [..., 4]."""
    up, right, left, down = v.unbind(-1)
    parts = (up + down).real, (right + left).real, (left - right).imag, (up - down).real
    return torch.stack(parts, dim=-1) * math.sqrt(0.5)


def sl2_boost(direction: Tensor, gamma: float) -> Tensor:
    """A = exp(y n.sigma / 2), the boost along n with cosh y = gamma. Shapes: [3] -> [2, 2] complex."""
    return math.sqrt(0.5 * (gamma + 1)) * _sigma()[0] + math.sqrt(0.5 * (gamma - 1)) * _along(direction)


def sl2_rotation(axis: Tensor, angle: float) -> Tensor:
    """A = exp(-i angle n.sigma / 2). Shapes: [3] -> [2, 2] complex."""
    return math.cos(0.5 * angle) * _sigma()[0] - 1j * math.sin(0.5 * angle) * _along(axis)


def lorentz_matrix(a: Tensor) -> Tensor:
    """The Lorentz matrix of A: ½ tr(sigma_mu A sigma_nu A†). Shapes: [2, 2] complex -> [4, 4]; four-momenta
    transform as `p @ L.T`."""
    sigma = _sigma()
    return 0.5 * torch.einsum("mij,jk,nkl,il->mn", sigma, a, sigma, a.conj()).real


def irrep_matrix(irrep: Irrep, a: Tensor) -> Tensor:
    """D^(m,n)(A), [d, d] complex; vectors transform as `v @ D.T`."""
    return torch.kron(_spin_matrix(irrep[0], a), _spin_matrix(irrep[1], a.conj()))


def _spin_matrix(m: int, a: Tensor) -> Tensor:
    """D^m(A) between the orthonormal symmetric states of m spins ½, of which the k-th has k spins down.
    Shape: [m + 1, m + 1]."""
    power = torch.ones((1, 1), dtype=a.dtype)
    for _ in range(m):
        power = torch.kron(power, a)
    states = _symmetric_states(m).to(a.dtype)
    return states.T @ power @ states


@functools.cache
@torch.inference_mode(False)  # what is kept must serve training after a prediction
def _symmetric_states(m: int) -> Tensor:
    """[2^m, m + 1]."""
    down = torch.tensor([int.bit_count(i) for i in range(2**m)])
    states = torch.nn.functional.one_hot(down, m + 1).double()
    return states / states.sum(0).sqrt()


def _sigma() -> Tensor:
    """(1, sigma_x, sigma_y, sigma_z), [4, 2, 2]."""
    one = [[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]
    return torch.tensor(one, dtype=torch.complex128)


def _along(direction: Tensor) -> Tensor:
    n = direction.double() / direction.double().norm()
    return torch.einsum("k,kij->ij", n.to(torch.complex128), _sigma()[1:])
