"""Jets boosted into their rest frames: at rest, the same jet in every frame but for a rotation, and no digits
lost on the way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.nn.lorentz import gram_matrix, plain_product
from hepml.nn.lorentz.rest_frame import RestFrames, to_rest_frame
from hepml.packed.rectangle import to_dense
from hepml.packed.segments import segment_sum
from hepml.testing import sample_jets


def products(p: Tensor, offsets: Tensor) -> Tensor:
    """By the definition, from components: what a network of components computes."""
    dense = to_dense(p.double(), offsets)
    return plain_product(dense[:, :, None], dense[:, None])


def boosted(jets: JetBatch, gamma: float, seed: int = 0) -> Tensor:
    axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    turn = kinematics.rotation(axis.roll(1), 1.0 + seed)
    return kinematics.transform(jets.four_momenta.double(), kinematics.boost(axis, gamma) @ turn).to(
        jets.dtype
    )


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_a_jet_is_at_rest_and_keeps_its_mass_and_products(mass: float) -> None:
    jets = sample_jets(mass=mass)
    rest, frames = to_rest_frame(jets.four_momenta, jets.offsets)
    total = segment_sum(rest, jets.offsets)
    assert torch.allclose(total[:, 0], kinematics.mass(jets.jets), rtol=1e-10)
    assert torch.allclose(frames.mass, total[:, 0], rtol=1e-12)
    assert (total[:, 1:].norm(dim=-1) / total[:, 0]).max() < 1e-13
    gram = gram_matrix(to_dense(jets.four_momenta, jets.offsets))
    assert torch.allclose(products(rest, jets.offsets), gram, rtol=1e-10, atol=1e-10 * float(gram.mean()))


def test_it_is_the_boost_by_the_jets_velocity() -> None:
    jets = sample_jets(mass=1.0)
    rest, _ = to_rest_frame(jets.four_momenta, jets.offsets)
    for b in range(len(jets)):
        own, total = slice(*jets.offsets[b : b + 2].tolist()), jets.jets[b]
        matrix = kinematics.boost(-total[1:], float(total[0] / kinematics.mass(total)))
        assert torch.allclose(rest[own], kinematics.transform(jets.four_momenta[own], matrix), atol=1e-9)


@pytest.mark.parametrize("gamma", [1.5, 100.0, 4000.0, 1e5])
def test_every_frame_leads_to_the_same_jet_but_for_a_rotation(gamma: float) -> None:
    """Products by their definition, from components, agree to 1e-9 of the jet's mass squared; from the
    boosted components themselves they do not by far."""
    jets = sample_jets()
    there, frames = to_rest_frame(jets.four_momenta, jets.offsets)
    before, scale = products(there, jets.offsets), frames.mass.square()[:, None, None]
    for seed in range(3):
        p = boosted(jets, gamma, seed)
        rest, again = to_rest_frame(p, jets.offsets)
        assert torch.allclose(again.mass, frames.mass, rtol=1e-14 * gamma + 1e-13)
        assert torch.allclose(rest[:, 0], there[:, 0], rtol=1e-13 * gamma + 1e-12)
        assert ((products(rest, jets.offsets) - before).abs() / scale).max() < 1e-14 * gamma + 1e-13 < 1e-8
        if gamma >= 4000:
            assert ((products(p, jets.offsets) - before).abs() / scale).max() > 1e-16 * gamma**2 > 1e-9


@pytest.mark.parametrize("gamma", [10.0, 4000.0])
def test_float32_jets_keep_what_their_directions_tell(gamma: float) -> None:
    jets = sample_jets(dtype=torch.float32)
    there, frames = to_rest_frame(jets.four_momenta, jets.offsets)
    rest, _ = to_rest_frame(boosted(jets, gamma), jets.offsets)
    assert rest.dtype == torch.float32
    difference = products(rest, jets.offsets) - products(there, jets.offsets)
    assert (difference.abs() / frames.mass.square()[:, None, None]).max() < 1e-6 * gamma


def test_masses_are_lost_by_the_rounding_of_the_input_alone() -> None:
    """Massive constituents: E'² epsilon against m², as in `gram_matrix`."""
    jets = sample_jets(mass=0.14)
    there, frames = to_rest_frame(jets.four_momenta, jets.offsets)
    rest, _ = to_rest_frame(boosted(jets, 10.0), jets.offsets)
    difference = products(rest, jets.offsets) - products(there, jets.offsets)
    assert (difference.abs() / frames.mass.square()[:, None, None]).max() < 1e-9


def test_jets_without_a_rest_frame_have_one_gev() -> None:
    p = sample_jets(3).four_momenta[:5].clone()
    p[2] = 0.3 * p[1]
    batch = JetBatch.from_arrays(p, torch.tensor([0, 0, 1, 3, 5]))  # none, one, two collinear, two
    p = batch.four_momenta.requires_grad_()
    rest, frames = to_rest_frame(p, batch.offsets)
    assert torch.allclose(segment_sum(rest, batch.offsets)[:3, 0], torch.tensor([0.0, 1.0, 1.0]).double())
    assert frames.mass[:3].tolist() == [0.0, 0.0, 0.0]
    assert frames.mass[3] > 0
    (gradient,) = torch.autograd.grad(rest.square().sum(), p)
    assert torch.isfinite(gradient).all()
    for part in (batch.take([0]), batch.take([])):
        assert to_rest_frame(part.four_momenta, part.offsets)[0].shape == (0, 4)


def test_a_jet_at_rest_stays() -> None:
    jets = sample_jets()
    rest, _ = to_rest_frame(jets.four_momenta, jets.offsets)
    again, frames = to_rest_frame(rest, jets.offsets)
    assert torch.allclose(again, rest, atol=1e-12)
    pair = torch.tensor([[1.0, 0, 0, 1.0], [1.0, 0, 0, -1.0]], dtype=torch.float64)
    assert torch.equal(to_rest_frame(pair, torch.tensor([0, 2]))[0], pair)
    assert torch.allclose(frames.stretch, torch.ones(len(jets), dtype=torch.float64))


def test_reference_vectors_move_along() -> None:
    jets = sample_jets()
    rest, frames = to_rest_frame(jets.four_momenta, jets.offsets)
    beam = torch.tensor([1.0, 0, 0, 1.0], dtype=torch.float64).repeat(len(jets), 1)
    moved = frames.boost(beam, torch.arange(len(jets) + 1))
    expected = kinematics.minkowski_product(jets.four_momenta, beam[jets.jet_of])
    assert torch.allclose(kinematics.minkowski_product(rest, moved[jets.jet_of]), expected, rtol=1e-11)
    assert torch.allclose(frames.boost(jets.four_momenta, jets.offsets), rest, atol=1e-9)
    assert torch.allclose(RestFrames.of(jets.four_momenta, jets.offsets).stretch, frames.stretch)


def test_gradients_are_right() -> None:
    jets = sample_jets(2, mass=1.0, smallest=2, largest=4)
    assert torch.autograd.gradcheck(
        lambda p: to_rest_frame(p, jets.offsets)[0],
        (jets.four_momenta.requires_grad_(),),
        rtol=1e-4,
        atol=1e-7,
    )
