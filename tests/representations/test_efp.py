"""Energy-flow polynomials: all multigraphs once, values of the definition and of the energyflow package,
defined for short jets."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.packed.rectangle import Rectangle
from hepml.packed.rectangular import rectangular
from hepml.representations.efp import energy_flow_polynomials, polynomials
from hepml.representations.efp_graphs import canonical, connected, edge_count, multigraphs, vertices
from hepml.representations.efp_plan import plan
from hepml.testing import sample_jets

REFERENCE = Path(__file__).parent / "data" / "efp_reference.npz"


def test_multigraphs_are_as_many_as_published() -> None:
    """Connected and all multigraphs by number of edges: OEIS A076864 and A050535."""
    assert [len(connected(d)) for d in range(1, 8)] == [1, 2, 5, 12, 33, 103, 333]
    sizes = [sum(map(edge_count, graph)) for graph in multigraphs(7)]
    assert [sizes.count(d) for d in range(8)] == [1, 1, 3, 8, 23, 66, 212, 686]
    assert len(set(multigraphs(7))) == len(multigraphs(7)) == 1000


def test_relabelled_multigraphs_are_recognised_and_others_are_not() -> None:
    forms = set()
    for edges in connected(4):
        n = vertices(edges)
        matrix = np.zeros((n, n), dtype=int)
        for i, j, m in edges:
            matrix[i, j] = matrix[j, i] = m
        own = {
            canonical(tuple(map(tuple, matrix[np.ix_(p, p)].tolist())))
            for p in map(list, permutations(range(n)))
        }
        assert len(own) == 1
        forms |= own
    assert len(forms) == len(connected(4))


def test_the_plan_needs_the_fourth_power_of_the_multiplicity_once() -> None:
    found = plan(7)
    kinds = [(found.matrices if kind == "m" else found.vectors)[number][0] for kind, number in found.order]
    assert len(found.closings) == 489
    assert kinds.count("diamond") == 1
    assert kinds.count("chain") <= 12


def by_definition(p: Tensor, degree: int, beta: float) -> Tensor:
    """Each polynomial as one einsum over all its vertices."""
    z = kinematics.pt(p) / kinematics.pt(p).sum()
    y, phi = kinematics.rapidity(p), kinematics.phi(p)
    theta = torch.hypot(y[:, None] - y, kinematics.delta_phi(phi[:, None], phi)) ** beta
    out = []
    for graph in multigraphs(degree):
        value = torch.ones((), dtype=p.dtype)
        for edges in graph:
            terms: list[object] = [x for v in range(vertices(edges)) for x in (z, [v])]
            terms += [x for i, j, m in edges for x in (theta**m, [i, j])]
            value = value * torch.einsum(*terms, [])  # type: ignore[arg-type]
        out.append(value)
    return torch.stack(out)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_values_are_those_of_the_definition(beta: float) -> None:
    batch = sample_jets(3, smallest=3, largest=5)
    found = polynomials(batch.four_momenta, batch.offsets, 5, beta)
    for j in range(3):
        wanted = by_definition(batch.take([j]).four_momenta, 5, beta)
        torch.testing.assert_close(found[j], wanted, rtol=1e-11, atol=0)


def test_k4_and_its_kin_are_those_of_the_definition() -> None:
    """Degrees 6 and 7, where a sum over four vertices does not factor, on a jet of three constituents and two
    unequal pairs."""
    p = sample_jets(1, smallest=4, largest=4).four_momenta
    found = polynomials(p, torch.tensor([0, 4]), 7, 1.0)
    torch.testing.assert_close(found[0], by_definition(p, 7, 1.0), rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    ("name", "beta", "dtype", "tolerance"),
    [
        ("beta1", 1.0, torch.float64, 1e-6),
        ("beta05", 0.5, torch.float64, 1e-6),
        ("beta1", 1.0, torch.float32, 1e-5),
        # Constituents of one calorimeter cell differ in direction by the rounding of their momenta. Here that
        # is no distance;
        # R^0.5 of it shows.
        ("beta05", 0.5, torch.float32, 1e-3),
    ],
)
def test_values_on_real_jets_are_those_of_energyflow(
    name: str, beta: float, dtype: torch.dtype, tolerance: float
) -> None:
    """Kept in single precision, which is good to 6e-8; the largest difference in double precision was 1.3e-12
    when they were made."""
    with np.load(REFERENCE) as file:
        p, offsets = torch.from_numpy(file["four_momenta"]).to(dtype), torch.from_numpy(file["offsets"])
        wanted = torch.from_numpy(file[name])
    assert wanted.shape == (20, 1000)
    torch.testing.assert_close(polynomials(p, offsets, 7, beta).float(), wanted, rtol=tolerance, atol=0)


def test_short_jets_have_their_limits() -> None:
    batch = sample_jets(4, smallest=0, largest=3)  # 0, 1, 2, 3 constituents
    found = polynomials(batch.four_momenta, batch.offsets, 7, 1.0)
    assert torch.isfinite(found).all()
    assert found[:, 0].tolist() == [1.0] * 4
    assert (found[:2, 1:] == 0).all()
    triangle = next(i for i, g in enumerate(multigraphs(7)) if g == (((0, 1, 1), (0, 2, 1), (1, 2, 1)),))
    assert found[2, triangle] == 0
    assert found[3, triangle] > 0
    for empty in (batch.take([]), batch.take([0])):
        assert polynomials(empty.four_momenta, empty.offsets, 3, 1.0).shape == (len(empty), 13)


def test_a_value_does_not_depend_on_the_other_jets() -> None:
    batch = sample_jets(12, smallest=0, largest=30)
    together = polynomials(batch.four_momenta, batch.offsets, 7, 0.5)
    alone = torch.cat(
        [polynomials(b.four_momenta, b.offsets, 7, 0.5) for b in (batch.take([i]) for i in range(12))]
    )
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=0)


def test_gradients_of_the_four_momenta_are_finite_and_right() -> None:
    batch = sample_jets(3, smallest=1, largest=5)
    p = torch.cat((batch.four_momenta, batch.four_momenta[-1:]))  # two constituents in one place
    offsets = batch.offsets + torch.tensor([0, 0, 0, 1])
    p.requires_grad_()
    out = energy_flow_polynomials(JetBatch(p, offsets), 6, 1.0)
    (gradient,) = torch.autograd.grad(out.sum(), p)
    assert torch.isfinite(gradient).all()
    step = torch.zeros_like(p)
    step[2] = 1e-6 * torch.tensor([1.0, 0.3, -0.5, 0.2])
    with torch.no_grad():
        slope = (polynomials(p + step, offsets, 6, 1.0) - polynomials(p - step, offsets, 6, 1.0)).sum() / 2
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-5, atol=0)


def test_polynomials_of_a_rectangle_are_those_of_its_constituents() -> None:
    jets = sample_jets(4, mass=0.5, largest=7)
    where = Rectangle.of(jets.offsets, jets.max_count + 2)
    mask = where.mask.flip(1)  # constituents stand anywhere in their rows
    momenta = where.dense(jets.four_momenta).flip(1).flatten(0, 1)
    found = polynomials(momenta, rectangular(mask), 6, 0.5)
    assert torch.allclose(found, polynomials(jets.four_momenta, jets.offsets, 6, 0.5), rtol=1e-12, atol=1e-14)
