"""Local frames: Lorentz matrices that turn with their vectors, also where the vectors leave no choice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.nn.lorentz import GramVectors, Pairs
from hepml.nn.lorentz.frames import FrameNetwork, frames, orthonormal, rest_boost
from hepml.nn.lorentz.rest_frame import to_rest_frame
from hepml.testing import sample_jets

METRIC = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))


def some(dtype: torch.dtype = torch.float64) -> Tensor:
    v = torch.randn(7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v[:, 0, 0] = v[:, 0, 1:].norm(dim=-1) + 0.5
    return v.to(dtype)


def element(gamma: float) -> Tensor:
    axis, other = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return kinematics.boost(axis, gamma) @ kinematics.rotation(other, 2.0)


def test_frames_are_lorentz_matrices_of_unit_determinant() -> None:
    matrices = frames(some())
    assert torch.allclose(matrices @ METRIC @ matrices.mT, METRIC.expand(7, 4, 4), atol=1e-12)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(7, dtype=torch.float64), rtol=1e-12)
    assert (matrices[:, 0, 0] >= 1).all()


@pytest.mark.parametrize(
    ("dtype", "gamma", "tolerance"), [(torch.float64, 5.0, 1e-11), (torch.float32, 2.0, 1e-3)]
)
def test_frames_move_with_their_vectors(dtype: torch.dtype, gamma: float, tolerance: float) -> None:
    matrix, v = element(gamma), some()
    before, after = frames(v.to(dtype)), frames((v @ matrix.T).to(dtype))
    assert torch.allclose(after.double() @ matrix, before.double(), atol=tolerance)
    other = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0] @ torch.diag(
        torch.tensor([1.0, 2, 1, 1]).double()
    )
    moved = v @ other.T
    moved[:, 0, 0] = moved[:, 0].norm(dim=-1) + 1
    assert not torch.allclose(frames(moved) @ other, frames(v), atol=0.1)


def test_the_vectors_stand_where_the_frame_says() -> None:
    v = some()
    seen = v @ frames(v).mT
    assert torch.allclose(seen[:, 0, 1:], torch.zeros(7, 3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(seen[:, 1, 2:], torch.zeros(7, 2, dtype=torch.float64), atol=1e-12)
    assert (seen[:, 1, 1] > 0).all()
    assert (seen[:, 2, 2] > 0).all()
    assert seen[:, 2, 3].abs().max() < 1e-12


def test_a_boost_to_rest_has_no_rotation() -> None:
    matrix = rest_boost(some()[:, 0])
    assert torch.allclose(matrix, matrix.mT)


def test_parallel_and_absent_vectors_have_a_frame_too() -> None:
    a = torch.tensor([[0.0, 3.0, 4.0]] * 2 + [[0.0] * 3] * 2, dtype=torch.float64)
    b = torch.stack(
        (2 * a[0], torch.zeros(3, dtype=torch.float64), a[0], torch.zeros(3, dtype=torch.float64))
    )
    matrices = orthonormal(a, b)
    assert torch.allclose(
        matrices @ matrices.mT, torch.eye(3, dtype=torch.float64).expand(4, 3, 3), atol=1e-14
    )
    assert torch.allclose(matrices[:3, 0], (a[:1] / 5).expand(3, 3))
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(4, dtype=torch.float64))


def test_gradients_are_right() -> None:
    assert torch.autograd.gradcheck(frames, (some()[:2].requires_grad_(),), rtol=1e-4, atol=1e-8)


def test_the_network_predicts_vectors_that_turn_with_the_jet_and_are_time_like() -> None:
    jets, turn = sample_jets(mass=0.1), kinematics.rotation(torch.tensor([0.3, -1.0, 0.2]).double(), 1.1)
    torch.manual_seed(0)
    network, pairs = FrameNetwork(hidden=8).double(), Pairs.of(jets.offsets)

    def vectors(p: Tensor) -> Tensor:
        rest, boosts = to_rest_frame(p, jets.offsets)
        products = GramVectors.of(p, pairs, torch.float64)
        with torch.no_grad():
            return network(rest, rest.new_zeros((len(rest), 0)), products, boosts.mass[jets.jet_of])

    v = vectors(jets.four_momenta)
    turned = vectors(kinematics.transform(jets.four_momenta, turn))
    assert torch.allclose(turned, kinematics.transform(v, turn), rtol=1e-9, atol=1e-9)
    assert (kinematics.mass_squared(v[:, 0]) > 0).all()
    assert (v[:, :, 0] > 0).all()
