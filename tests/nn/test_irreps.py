"""Irreps of SO+(1,3): all are covariant under random Lorentz elements, as are all Clebsch–Gordan products,
and the maps are orthogonal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.nn.lorentz.clebsch_gordan import (
    coefficients,
    decomposition,
    exchange_sign,
    invariant_product,
    product,
    products,
    spin_coefficients,
)
from hepml.nn.lorentz.irreps import (
    dimension,
    from_four_vector,
    irrep_matrix,
    lorentz_matrix,
    sl2_boost,
    sl2_rotation,
    to_four_vector,
)

IRREPS = [(m, n) for m in range(4) for n in range(4)]
PAIRS = [(a, b) for a, b in itertools.product([(m, n) for m in range(3) for n in range(3)], repeat=2)]
GAMMAS = (1.0, 1.5, 30.0, 4000.0)


def elements(seed: int = 0) -> Iterator[tuple[Tensor, float]]:
    """A random rotation, and boosts in random directions after one."""
    g = torch.Generator().manual_seed(seed)
    for gamma in GAMMAS:
        axis, direction = torch.randn(2, 3, generator=g, dtype=torch.float64)
        yield sl2_boost(direction, gamma) @ sl2_rotation(axis, 2.0 + gamma % 3), gamma


def vectors(irrep: tuple[int, int], number: int = 5, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed + 10 * irrep[0] + irrep[1])
    return torch.randn(number, dimension(irrep), dtype=torch.complex128, generator=g)


def largest(x: Tensor) -> float:
    return float(x.abs().max())


def test_matrices_of_sl2_are_those_of_the_lorentz_group() -> None:
    axis = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    assert torch.allclose(lorentz_matrix(sl2_rotation(axis, 1.1)), kinematics.rotation(axis, 1.1), atol=1e-14)
    for gamma in GAMMAS:
        expected = kinematics.boost(axis, gamma)
        assert torch.allclose(
            lorentz_matrix(sl2_boost(axis, gamma)), expected, rtol=1e-12, atol=1e-13 * gamma
        )


@pytest.mark.parametrize("irrep", IRREPS)
def test_every_irrep_is_a_representation(irrep: tuple[int, int]) -> None:
    """D(A B) = D(A) D(B), unit at unity, unitary for rotations only."""
    for (a, _), (b, _) in itertools.product(elements(0), elements(1)):
        together, apart = irrep_matrix(irrep, a @ b), irrep_matrix(irrep, a) @ irrep_matrix(irrep, b)
        scale = largest(irrep_matrix(irrep, a)) * largest(irrep_matrix(irrep, b))
        assert largest(together - apart) < 1e-13 * scale
    one = torch.eye(2, dtype=torch.complex128)
    assert torch.allclose(
        irrep_matrix(irrep, one), torch.eye(dimension(irrep), dtype=torch.complex128), atol=1e-14
    )
    turn = irrep_matrix(irrep, sl2_rotation(torch.tensor([1.0, 2.0, 3.0]), 0.7))
    unit = torch.eye(dimension(irrep), dtype=torch.complex128)
    assert torch.allclose(turn @ turn.mH, unit, atol=1e-14)
    boost = irrep_matrix(irrep, sl2_boost(torch.tensor([1.0, 2.0, 3.0]), 2.0))
    assert torch.allclose(boost, boost.mH, atol=1e-13)
    if irrep != (0, 0):
        assert largest(boost @ boost.mH - unit) > 0.1


def test_irreps_of_integer_spin_do_not_know_the_sign_of_a() -> None:
    a = next(iter(elements()))[0]
    for irrep in IRREPS:
        sign = (-1) ** sum(irrep)
        assert torch.allclose(irrep_matrix(irrep, -a), sign * irrep_matrix(irrep, a), atol=1e-14)
        assert torch.allclose(
            irrep_matrix(irrep[::-1], a).diagonal().sum(), irrep_matrix(irrep, a).diagonal().sum().conj()
        )


def test_four_vectors_are_embedded_in_the_irrep_1_1() -> None:
    p = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    v = from_four_vector(p)
    assert torch.allclose(to_four_vector(v), p, atol=1e-15)
    assert torch.allclose(
        invariant_product(v, v.roll(1, 0), (1, 1)).real, kinematics.minkowski_product(p, p.roll(1, 0))
    )
    assert largest(invariant_product(v, v.roll(1, 0), (1, 1)).imag) < 1e-15
    for a, gamma in elements():
        moved = from_four_vector(kinematics.transform(p, lorentz_matrix(a)))
        assert largest(v @ irrep_matrix((1, 1), a).T - moved) < 1e-13 * gamma
    hermitian = v.view(-1, 2, 2)
    assert torch.equal(hermitian, hermitian.mH)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_product_is_covariant(first: tuple[int, int], second: tuple[int, int]) -> None:
    """product(D x, D y) = D product(x, y) for boosts to gamma = 4000, relative to the size of the moved
    factors."""
    x, y = vectors(first), vectors(second, seed=1)
    for a, _ in elements():
        dx, dy = x @ irrep_matrix(first, a).T, y @ irrep_matrix(second, a).T
        for result in decomposition(first, second):
            after = product(dx, dy, first, second, result)
            before = product(x, y, first, second, result) @ irrep_matrix(result, a).T
            assert largest(after - before) < 1e-12 * largest(dx) * largest(dy), (result, a)


def test_a_product_that_is_not_clebsch_gordan_is_not_covariant() -> None:
    """The negative case: exchange two coefficients, or conjugate one factor, and boosts are noticed."""
    x, y, a = vectors((1, 1)), vectors((2, 0)), sl2_boost(torch.tensor([1.0, 2.0, 0.5]), 2.0)
    dx, dy = x @ irrep_matrix((1, 1), a).T, y @ irrep_matrix((2, 0), a).T

    def broken(x: Tensor, y: Tensor) -> Tensor:
        matrix = coefficients((1, 1), (2, 0), (1, 1))[[1, 0, 2, 3]]
        return torch.einsum("ni,nj,ijk->nk", x, y, matrix.to(x.dtype))

    right = irrep_matrix((1, 1), a).T
    assert largest(broken(dx, dy) - broken(x, y) @ right) > 0.1
    conjugated = product(dx.conj(), dy, (1, 1), (2, 0), (1, 1))
    assert largest(conjugated - product(x.conj(), y, (1, 1), (2, 0), (1, 1)) @ right) > 0.1


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_coefficients_are_an_orthogonal_change_of_basis(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    parts = [coefficients(first, second, r).flatten(0, 1) for r in decomposition(first, second)]
    whole = torch.cat(parts, dim=1)
    assert whole.shape == (dimension(first) * dimension(second),) * 2
    unit = torch.eye(len(whole), dtype=torch.float64)
    assert torch.allclose(whole.T @ whole, unit, atol=1e-14)
    assert torch.allclose(whole @ whole.T, unit, atol=1e-14)


def test_spin_coefficients_are_those_of_the_tables() -> None:
    """Condon–Shortley: spin ½ (x) ½ and 1 (x) ½, as in the Review of Particle Physics."""
    half = spin_coefficients(1, 1, 0)[..., 0]
    assert torch.allclose(half, torch.tensor([[0, 0.5**0.5], [-(0.5**0.5), 0]]).double())
    one_half = spin_coefficients(2, 1, 1)  # |½ ½> = sqrt(2/3)|1 1; -½> - sqrt(1/3)|1 0; ½>
    assert one_half[0, 1, 0].item() == pytest.approx((2 / 3) ** 0.5)
    assert one_half[1, 0, 0].item() == pytest.approx(-((1 / 3) ** 0.5))
    assert (spin_coefficients(2, 2, 1) == 0).all()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_exchanging_factors_changes_a_sign_at_most(first: tuple[int, int], second: tuple[int, int]) -> None:
    x, y = vectors(first), vectors(second, seed=1)
    for result in decomposition(first, second):
        sign = exchange_sign(first, second, result)
        there, back = product(x, y, first, second, result), product(y, x, second, first, result)
        assert torch.allclose(back, sign * there, atol=1e-13)


@pytest.mark.parametrize("irrep", IRREPS)
def test_the_bilinear_form_is_invariant(irrep: tuple[int, int]) -> None:
    x, y = vectors(irrep), vectors(irrep, seed=1)
    before = invariant_product(x, y, irrep)
    assert before.abs().min() > 1e-2
    for a, _ in elements():
        dx, dy = x @ irrep_matrix(irrep, a).T, y @ irrep_matrix(irrep, a).T
        assert largest(invariant_product(dx, dy, irrep) - before) < 1e-13 * max(largest(dx) * largest(dy), 1)


def test_products_broadcast_and_come_in_the_order_asked() -> None:
    x, y = vectors((1, 1), 6).view(2, 3, 4), vectors((2, 2), 3)
    results = tuple(decomposition((1, 1), (2, 2), largest=2))
    assert results == ((1, 1),)
    (part,) = products(x, y, (1, 1), (2, 2), results)
    assert part.shape == (2, 3, 4)
    assert torch.allclose(part[1, 2], product(x[1, 2], y[2], (1, 1), (2, 2), (1, 1)))
    assert products(x, y, (1, 1), (2, 2), ()) == []
