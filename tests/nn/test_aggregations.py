"""The permutation-equivariant aggregations against their definition, index by index, and their
equivariance."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hepml.nn.lorentz.aggregations import Aggregate1to2, Aggregate2to0, Aggregate2to2, Scales
from hepml.packed.halves import Halves

COUNTS = (4, 0, 1, 6, 2)


def packed(counts: tuple[int, ...] = COUNTS) -> Halves:
    return Halves.of(torch.tensor((0, *counts)).cumsum(0))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrices(counts: tuple[int, ...] = COUNTS, channels: int = 3) -> list[Tensor]:
    """One [N, N, C] a jet, not symmetric."""
    return [randn(n, n, channels, seed=k) for k, n in enumerate(counts)]


def to_packed(jets: list[Tensor], halves: Halves) -> Tensor:
    diagonal = torch.cat([t.diagonal().T for t in jets])
    above = [torch.triu_indices(len(t), len(t), 1) for t in jets]
    up, down = (
        torch.cat([t[i, j] for t, (i, j) in zip(made, above, strict=True)])
        for made in (jets, transposed(jets))
    )
    return torch.cat((diagonal, up, down))


def transposed(jets: list[Tensor]) -> list[Tensor]:
    return [t.transpose(0, 1) for t in jets]


def to_matrices(t: Tensor, halves: Halves) -> list[Tensor]:
    total, size = halves.nodes, len(halves)
    whole = t.new_zeros(total, total, t.shape[1])
    whole[range(total), range(total)] = t[:total]
    whole[halves.first, halves.second] = t[total : total + size]
    whole[halves.second, halves.first] = t[total + size :]
    return [whole[low:high, low:high] for low, high in itertools.pairwise(halves.offsets.tolist())]


def fifteen(t: Tensor) -> Tensor:
    """The fifteen aggregations of one jet by their definition, without a normalisation: [N, N, C] -> [15, N,
    N, C]."""
    n = len(t)
    out = t.new_zeros(15, *t.shape)
    for i, j in itertools.product(range(n), repeat=2):
        columns = [sum(t[k, a] for k in range(n)) for a in (i, j)]
        rows = [sum(t[a, k] for k in range(n)) for a in (i, j)]
        trace, total = sum(t[k, k] for k in range(n)), t.sum((0, 1))
        delta = float(i == j)
        of_halves = t[i, j], t[j, i], delta * t[i, i], t[j, j], t[i, i]
        of_columns = delta * columns[0], columns[1], columns[0]
        of_rows = delta * rows[0], rows[1], rows[0]
        of_jet = trace, delta * trace, total, delta * total
        values = (*of_halves, *of_columns, *of_rows, *of_jet)
        for b, value in enumerate(values):
            out[b, i, j] = value
    return out


def layer(kind: type, channels: int = 3, outputs: int = 2, **arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    made = kind(channels, outputs, nodes=5.0, **arguments).double()
    for name, p in made.named_parameters():
        if "bias" in name or "alphas" in name:
            torch.nn.init.uniform_(p, -1, 1)
    return made


def scale_of(made: torch.nn.Module, n: int, powers: tuple[int, ...]) -> Tensor:
    """[aggregations, C] by the formula of the docstring."""
    rows = [
        torch.full((3,), 5.0**-r, dtype=torch.float64)
        if made.scales.alphas is None
        else (n / 5.0) ** made.scales.alphas[k] / float(n) ** r
        for k, r in enumerate(powers)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_rank_2_to_2_is_the_combination_of_the_fifteen(normalisation: str) -> None:
    made, halves, jets = layer(Aggregate2to2, normalisation=normalisation), packed(), matrices()
    got = to_matrices(made(to_packed(jets, halves), halves), halves)
    for t, out in zip(jets, got, strict=True):
        n = len(t)
        if not n:
            continue
        scale = torch.cat((torch.ones(5, 3), scale_of(made, n, (1,) * 8 + (2, 2))))
        expected = torch.einsum("bijc,bc,bce->ije", fifteen(t), scale.double(), made.weight) + made.bias
        expected = expected + torch.eye(n)[..., None] * made.diagonal_bias
        assert torch.allclose(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_rank_1_to_2_and_2_to_0_are_their_definitions(normalisation: str) -> None:
    halves, jets = packed(), matrices()
    up, down = (
        layer(Aggregate1to2, normalisation=normalisation),
        layer(Aggregate2to0, normalisation=normalisation),
    )
    x = randn(sum(COUNTS), 3, seed=9)
    raised, pooled = to_matrices(up(x, halves), halves), down(to_packed(jets, halves), halves)
    for b, (low, high) in enumerate(itertools.pairwise(halves.offsets.tolist())):
        n, own, t = high - low, x[low:high], jets[b]
        if not n:
            assert torch.equal(pooled[b], down.bias)
            continue
        s, delta = scale_of(up, n, (0, 0, 0, 1, 1)), torch.eye(n)[..., None]
        terms = (delta * own, own[None, :].expand(n, n, 3), own[:, None].expand(n, n, 3), delta * own.sum(0))
        terms = (*terms, own.sum(0).expand(n, n, 3))
        expected = sum(term * s[k] @ up.weight[k] for k, term in enumerate(terms)) + up.bias
        assert torch.allclose(raised[b], expected, atol=1e-12)
        s = scale_of(down, n, (2, 1))
        both = torch.cat((t.sum((0, 1)) * s[0], t.diagonal().sum(-1) * s[1]))
        expected = torch.nn.functional.leaky_relu(both) @ down.weight + down.bias
        assert torch.allclose(pooled[b], expected, atol=1e-12)


def test_the_fifteen_are_linearly_independent() -> None:
    flat = fifteen(randn(5, 5, 4)).flatten(1)  # four tensors, since of one t and s are but numbers
    assert torch.linalg.matrix_rank(flat) == 15


def test_rank_2_to_2_commutes_with_permutations() -> None:
    made, halves, jets = layer(Aggregate2to2), packed(), matrices()
    orders = [torch.randperm(len(t), generator=torch.Generator().manual_seed(k)) for k, t in enumerate(jets)]
    turned = [t[p][:, p] for t, p in zip(jets, orders, strict=True)]
    after = to_matrices(made(to_packed(turned, halves), halves), halves)
    before = to_matrices(made(to_packed(jets, halves), halves), halves)
    for a, b, p in zip(after, before, orders, strict=True):
        assert torch.allclose(a, b[p][:, p], atol=1e-12)


def test_permuting_rows_alone_is_noticed() -> None:
    """The negative case: T_ij with only i permuted is another tensor, and the layer says so."""
    made, halves, jets = layer(Aggregate2to2), packed(), matrices()
    flipped = [t.flip(0) for t in jets]
    after = to_matrices(made(to_packed(flipped, halves), halves), halves)
    before = to_matrices(made(to_packed(jets, halves), halves), halves)
    assert (
        max((a - b.flip(0)).abs().max().item() for a, b in zip(after, before, strict=True) if len(a) > 1)
        > 0.1
    )


def test_gradients_are_right() -> None:
    halves = packed((3, 0, 2, 1))
    made = layer(Aggregate2to2)
    t = to_packed(matrices((3, 0, 2, 1)), halves).requires_grad_()
    parameters = tuple(made.parameters())

    def out(t: Tensor, *_: Tensor) -> Tensor:
        return made(t, halves)

    assert torch.autograd.gradcheck(out, (t, *parameters))


def test_alphas_turn_means_into_sums() -> None:
    scales = Scales(1, (1, 2), "mean", 5.0, random=False)
    with torch.no_grad():
        assert scales(torch.tensor([10]))[0, :, 0].tolist() == pytest.approx([0.1, 0.01])
        scales.alphas.copy_(torch.tensor([[1.0], [2.0]]))
        assert scales(torch.tensor([10, 3]))[:, :, 0].flatten().tolist() == pytest.approx(
            [0.2, 0.04, 0.2, 0.04]
        )
        assert torch.isfinite(scales(torch.tensor([0]))).all()
