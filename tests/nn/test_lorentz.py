"""Minkowski products keep their digits under boosts, and the packed pairs compute what their definitions
say."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.errors import ConfigError
from hepml.nn.kernels import lorentznet_messages as message_file
from hepml.nn.kernels.lorentznet_messages import Maps, messages, messages_in_pieces
from hepml.nn.lorentz import (
    REFERENCES,
    ComponentVectors,
    GramVectors,
    Pairs,
    gram_matrix,
    packed_mass_squared,
    plain_product,
    reference_vectors,
    resolved_mass_squared,
    root,
    signed_log,
    with_references,
)
from hepml.nn.lorentz.statistics import normalised, pair_statistics
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.rectangle import to_dense, to_packed
from hepml.testing import sample_jets

COUNTS = (4, 0, 1, 9, 2, 30)


def packed(counts: tuple[int, ...] = COUNTS) -> Pairs:
    return Pairs.of(torch.tensor((0, *counts)).cumsum(0))


def exact_products(p: Tensor) -> Tensor:
    """All products of [N, 4] in rational arithmetic, rounded once."""
    rows = [[Fraction(x) for x in row] for row in p.tolist()]
    products = [[a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3] for b in rows] for a in rows]
    return torch.tensor([[float(x) for x in row] for row in products], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------
# products


@pytest.mark.parametrize("mass", [0.0, 0.13957, 5.0])
def test_gram_matrix_is_the_exact_one(mass: float) -> None:
    jets = sample_jets(3, mass=mass)
    gram = gram_matrix(to_dense(jets.four_momenta, jets.offsets))
    for b in range(3):
        p = jets.four_momenta[jets.offsets[b] : jets.offsets[b + 1]]
        exact = exact_products(p)
        got = gram[b, : len(p), : len(p)]
        off = ~torch.eye(len(p), dtype=torch.bool)
        # A product known from angles may differ from the rational one by what one rounding of E² makes of m².
        size = p[:, 0, None] * p[None, :, 0]
        assert ((got - exact).abs() <= 1e-15 * size.clamp_min(size.T) + 1e-12 * exact.abs())[off].all()
        assert (gram[b, len(p) :] == 0).all()


@pytest.mark.parametrize("gamma", [10.0, 4000.0, 1e6])
def test_products_of_massless_momenta_keep_their_digits_under_any_boost(gamma: float) -> None:
    jets = sample_jets(4)
    before = gram_matrix(to_dense(jets.four_momenta, jets.offsets))
    for seed in range(3):
        axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        p = kinematics.transform(jets.four_momenta, kinematics.boost(axis, gamma))
        after = gram_matrix(to_dense(p, jets.offsets))
        assert ((after - before).abs() <= 1e-13 * gamma * before.clamp_min(1)).all()
        dense = to_dense(p, jets.offsets)
        naive = plain_product(dense[:, :, None], dense[:, None])
        assert (naive - before).abs().max() > 10 * (after - before).abs().max()  # what the definition loses


def test_masses_are_zero_exactly_where_they_are_rounding() -> None:
    massless = sample_jets(4)
    for dtype in (torch.float64, torch.float32):
        for gamma in (1.0, 3.0, 100.0, 4000.0):
            for seed in range(5):
                axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
                p = kinematics.transform(massless.four_momenta.to(dtype), kinematics.boost(axis, gamma))
                assert (resolved_mass_squared(to_dense(p, massless.offsets)) == 0).all()
    pions = sample_jets(4, mass=0.13957)
    dense = to_dense(pions.four_momenta, pions.offsets)
    m2 = resolved_mass_squared(dense)
    real = dense[..., 0] > 0
    assert (m2[real] - 0.13957**2).abs().max() < 1e-8
    mixed = massless.four_momenta.clone()
    mixed[5, 0] = (mixed[5, 1:].square().sum() + 80.0**2).sqrt()  # one W among massless particles
    m2 = resolved_mass_squared(to_dense(mixed, massless.offsets))
    assert m2.max() == pytest.approx(6400)
    for p in (massless.four_momenta, pions.four_momenta, mixed):  # packed, the same without a rectangle
        assert torch.equal(
            packed_mass_squared(p, massless.offsets),
            to_packed(resolved_mass_squared(to_dense(p, massless.offsets))[..., None], massless.offsets)[
                :, 0
            ],
        )


def test_products_of_vectors_at_rest_back_to_back_and_zero() -> None:
    p = torch.tensor(
        [[[1.0, 0, 0, 0], [5.0, 0, 0, 5.0], [5.0, 0, 0, -5.0], [0, 0, 0, 0], [2.0, 0, 0, 3.0]]],
        dtype=torch.float64,
    )
    expected = torch.tensor(
        [[1, 5, 5, 0, 2], [5, 0, 50, 0, -5], [5, 50, 0, 0, 25], [0, 0, 0, 0, 0], [2, -5, 25, 0, -5]],
        dtype=torch.float64,
    )
    assert torch.allclose(gram_matrix(p)[0], expected, atol=1e-12)


def test_gradients_of_products_are_finite_and_right() -> None:
    p = sample_jets(1, mass=0.5, smallest=5, largest=5).four_momenta[None].requires_grad_()
    weights = torch.randn(1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (got,) = torch.autograd.grad((weights * gram_matrix(p)).sum(), p)
    (expected,) = torch.autograd.grad((weights * plain_product(p[:, :, None], p[:, None])).sum(), p)
    assert torch.allclose(got, expected, rtol=1e-7, atol=1e-7)
    q = torch.zeros(1, 3, 4, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(gram_matrix(q).sum(), q)
    assert torch.isfinite(gradient).all()
    (gradient,) = torch.autograd.grad(signed_log(root(q)).sum(), q)
    assert (gradient == 0).all()


def test_signed_log_is_odd_and_logarithmic() -> None:
    x = torch.tensor([-1e6, -1.0, 0.0, 1.0, 1e6], dtype=torch.float64)
    assert torch.allclose(
        signed_log(x),
        torch.tensor([-math.log(1e6 + 1), -math.log(2), 0, math.log(2), math.log(1e6 + 1)]).double(),
    )


# ------------------------------------------------------------------------------------------------------------
# references


def test_reference_vectors_stand_before_the_constituents_of_each_jet() -> None:
    p = torch.arange(12.0).view(3, 4)
    x, offsets, is_reference = with_references(p, torch.tensor([0, 2, 2, 3]), reference_vectors(("beam",)))
    assert offsets.tolist() == [0, 4, 6, 9]
    assert is_reference.tolist() == [True, True, False, False, True, True, True, True, False]
    assert torch.equal(x[~is_reference], p)
    assert torch.allclose(x[0], torch.tensor([math.sqrt(2), 0, 0, 1]))
    same, offsets, none = with_references(p, torch.tensor([0, 3]), reference_vectors(()))
    assert same is p
    assert not none.any()


def test_reference_vectors_are_known_by_name() -> None:
    assert reference_vectors(("time", "lightlike_beam")).shape == (3, 4)
    for name, rows in REFERENCES.items():
        m2 = kinematics.mass_squared(torch.tensor(rows))
        assert (m2 >= -1e-6).all(), name
    with pytest.raises(ConfigError, match="did you mean 'beam'"):
        reference_vectors(("beams",))


# -----------------------------------------------------------------------------------------------------------
# pairs, vectors


def test_pairs_are_all_ordered_pairs_of_each_jet_once() -> None:
    pairs = packed()
    offsets = pairs.offsets.tolist()
    expected = [(i, j) for a, b in pairwise(offsets) for i in range(a, b) for j in range(a, b) if i != j]
    assert list(zip(pairs.receiver.tolist(), pairs.sender.tolist(), strict=True)) == expected
    assert torch.equal(pairs.receiver[pairs.reverse], pairs.sender)
    assert torch.equal(pairs.sender[pairs.reverse], pairs.receiver)
    matrix = torch.zeros(len(COUNTS) * 30 * 30).index_fill(0, pairs.in_dense, 1.0).view(len(COUNTS), 30, 30)
    assert matrix.sum((1, 2)).tolist() == [n * (n - 1) for n in COUNTS]
    assert (matrix.diagonal(dim1=1, dim2=2) == 0).all()


def test_sums_over_neighbours_are_sums_over_pairs() -> None:
    pairs = packed()
    values = torch.randn(len(pairs), 3, dtype=torch.float64)
    expected = torch.zeros(sum(COUNTS), 3, dtype=torch.float64).index_add_(0, pairs.receiver, values)
    assert torch.allclose(pairs.sum(values), expected)
    assert torch.allclose(pairs.mean(values), expected / pairs.degree.clamp_min(1)[:, None])


def test_vectors_known_by_products_move_as_vectors_known_by_components() -> None:
    jets = sample_jets(4, mass=1.0, smallest=1, largest=12)
    pairs = Pairs.of(jets.offsets)
    gram = GramVectors.of(jets.four_momenta, pairs, torch.float64)
    components = ComponentVectors(jets.four_momenta, pairs)
    for seed in range(3):
        assert torch.allclose(gram.products(), components.products(), rtol=1e-9, atol=1e-7)
        assert torch.allclose(gram.mass_squared(), components.mass_squared(), rtol=1e-9, atol=1e-7)
        weights = torch.randn(len(pairs), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gram, components = gram.moved(weights, 0.1), components.moved(weights, 0.1)


def test_a_limit_bounds_every_component_of_a_change() -> None:
    pairs = packed((2,))
    x = torch.tensor([[900.0, 0, 0, 900], [1, 0, 1, 0]], dtype=torch.float64)
    moved = ComponentVectors(x, pairs, limit=100.0).moved(torch.ones(2, dtype=torch.float64), 0.5)
    assert torch.equal(
        moved.x - x, torch.tensor([[50, 0, -0.5, 50], [-50, 0, 0.5, -50]], dtype=torch.float64)
    )


# ------------------------------------------------------------------------------------------------------------
# messages


def random_maps(width: int, *, moves: bool) -> Maps:
    def made(*shape: int) -> Tensor:
        return (torch.randn(*shape, dtype=torch.float64) / shape[-1] ** 0.5).requires_grad_()

    maps = Maps(made(width, 2), made(width, width), made(width), made(1, width), made(1))
    return (
        maps._replace(position=made(width, width), position_shift=made(width), position_out=made(1, width))
        if moves
        else maps
    )


@pytest.mark.parametrize("piece", [1, 100, 4096])
@pytest.mark.parametrize("moves", [True, False])
def test_messages_in_pieces_are_the_messages_with_their_gradients(
    piece: int, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_file, "_PIECE", piece)
    torch.manual_seed(0)
    pairs, width = packed(), 5
    a, b = (torch.randn(sum(COUNTS), width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    s = torch.randn(len(pairs), 2, dtype=torch.float64, requires_grad=True)
    maps = random_maps(width, moves=moves)
    inputs = [a, b, s, *(t for t in maps if t is not None)]
    g_out, g_phi = (
        torch.randn(sum(COUNTS), width, dtype=torch.float64),
        torch.randn(len(pairs), dtype=torch.float64),
    )
    results = []
    for function in (messages, messages_in_pieces):
        out, phi = function(a, b, s, maps, pairs)
        assert (phi is not None) == moves
        loss = (out * g_out).sum() + (0 if phi is None else (phi * g_phi).sum())
        results.append([out, *([phi] if phi is not None else []), *torch.autograd.grad(loss, inputs)])
    for got, expected in zip(results[1], results[0], strict=True):
        assert torch.allclose(got, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(messages_in_pieces(a, b, s, maps, pairs)[0], results[0][0])


def test_statistics_over_pairs_are_those_of_the_pairs() -> None:
    torch.manual_seed(0)
    pairs, width = packed(), 5
    a, b = torch.randn(2, sum(COUNTS), width, dtype=torch.float64) + 3
    half = torch.randn(len(pairs), 2, dtype=torch.float64) - 7
    s = half + half[pairs.reverse]
    products = torch.randn(width, 2, dtype=torch.float64)
    e = a[pairs.receiver] + b[pairs.sender] + s @ products.T
    mean, variance = pair_statistics(a, b, s, products, pairs)
    assert torch.allclose(mean, e.mean(0))
    assert torch.allclose(variance, e.var(0, correction=0))
    folded, plain = PackedBatchNorm(width).double(), torch.nn.BatchNorm1d(width).double()
    for norm in (folded, plain):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    for _ in range(2):  # in training, then with the running statistics
        x, y, u = normalised(a, b, s, products, pairs, folded)
        assert torch.allclose(x[pairs.receiver] + y[pairs.sender] + s @ u.T, plain(e))
        assert torch.allclose(folded.running_var, plain.running_var)  # type: ignore[arg-type]
        folded.eval(), plain.eval()
