"""The networks are the published ones, conserve what they claim, and refuse what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepml.dynamics.integrators import rollout
from hepml.dynamics.networks import NETWORKS, LagrangianNN, network
from hepml.errors import ConfigError, ModelError
from hepml.nn.hamiltonian import hamiltonian_field, scalar_gradient

HAMILTONIAN = ["hnn", "separable_hnn", "mechanical_hnn", "graph_hnn", "pair_hnn"]


def states(count: int = 6, dimension: int = 12, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((count, dimension)))


def made(name: str, dimension: int = 12, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return network(name, dimension, **arguments).double()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_maps_states_to_derivatives_of_the_same_shape(name: str) -> None:
    net = made(name)
    assert net(states()).shape == (6, 12)
    assert torch.allclose(net(states())[2], net(states()[2]), atol=1e-10), "points see each other"


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_weight_learns_from_a_derivative_loss(name: str) -> None:
    net = made(name)
    net(states()).square().sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None]
    # a constant added to a Hamiltonian, or to what is summed into it, moves nothing
    assert all(n.endswith("bias") for n in without), without


@pytest.mark.parametrize("name", HAMILTONIAN)
def test_field_is_tangent_to_the_level_sets_of_the_learned_energy(name: str) -> None:
    net, z = made(name), states()
    along = (scalar_gradient(net.hamiltonian, z) * net(z)).sum(-1)
    assert along.abs().max() < 1e-12
    assert net(z).abs().max() > 1e-3


@pytest.mark.parametrize("name", HAMILTONIAN)
def test_field_has_no_divergence(name: str) -> None:
    net, z = made(name), states(1)[0]
    jacobian = torch.autograd.functional.jacobian(net, z)
    assert abs(float(jacobian.trace())) < 1e-10


def test_plain_baseline_has_divergence() -> None:
    jacobian = torch.autograd.functional.jacobian(made("mlp"), states(1)[0])
    assert abs(float(jacobian.trace())) > 1e-3


@pytest.mark.parametrize("name", ["separable_hnn", "mechanical_hnn", "pair_hnn"])
def test_separable_networks_step_explicitly_and_run_back(name: str) -> None:
    net, z = made(name), states()
    times = torch.linspace(0, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        there = rollout(net, z, times, "verlet", substeps=50)[:, -1]
        back = rollout(net, there, times.flip(0), "verlet", substeps=50)[:, -1]
    assert (there - z).abs().max() > 1e-2
    assert (back - z).abs().max() < 1e-10


def test_vector_field_takes_one_backward_pass_for_any_number_of_dimensions() -> None:
    passes = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, g: Tensor) -> Tensor:
            passes.append(1)
            return g

    hamiltonian_field(lambda z: Counted.apply(z).square().sum(-1), states(4, 24))
    assert len(passes) == 1


def test_hnn_and_baseline_are_the_published_networks() -> None:
    baseline, hnn = network("mlp", 2), network("hnn", 2)
    assert [tuple(p.shape) for p in baseline.parameters()] == [(200, 2), (200,), (200, 200), (200,), (2, 200)]
    assert [tuple(p.shape) for p in hnn.parameters()] == [(200, 2), (200,), (200, 200), (200,), (1, 200)]
    square = hnn.network[2].weight.detach()
    assert torch.allclose(square @ square.T, torch.eye(200), atol=1e-5)


@pytest.mark.parametrize("name", ["graph_hnn", "pair_hnn"])
def test_learned_energy_of_bodies_does_not_depend_on_their_order_and_forces_move_with_them(name: str) -> None:
    net, z = made(name), states()
    order = torch.tensor([2, 0, 1])

    def swap(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 3, 2))[:, :, order].flatten(1)

    assert torch.allclose(net.hamiltonian(z), net.hamiltonian(swap(z)), atol=1e-12)
    assert torch.allclose(swap(net(z)), net(swap(z)), atol=1e-11)


def test_plain_hnn_depends_on_the_order_of_bodies() -> None:
    net, z = made("hnn"), states()
    swapped = z.unflatten(-1, (2, 3, 2))[:, :, torch.tensor([2, 0, 1])].flatten(1)
    assert (net.hamiltonian(z) - net.hamiltonian(swapped)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["graph_hnn", "pair_hnn"])
def test_bodies_keep_total_momentum_and_a_trained_law_takes_any_number_of_them(name: str) -> None:
    net = made(name)
    for dimension in (12, 20):
        force = net(states(4, dimension))[:, dimension // 2 :].unflatten(-1, (-1, 2))
        assert force.sum(-2).abs().max() < 1e-11


def test_dissipative_network_splits_into_a_rotational_and_an_irrotational_field() -> None:
    net, z = made("dissipative_hnn", 4), states(1, 4)[0]
    rotational = torch.autograd.functional.jacobian(net.conservative, z)
    irrotational = torch.autograd.functional.jacobian(lambda x: scalar_gradient(net.dissipation, x), z)
    assert abs(float(rotational.trace())) < 1e-11
    assert (irrotational - irrotational.T).abs().max() < 1e-11
    assert torch.allclose(net(z), net.conservative(z) + scalar_gradient(net.dissipation, z))


def test_learned_friction_only_takes_energy() -> None:
    net, z = made("damped_mechanical_hnn", 6), states(50, 6)
    rate = (scalar_gradient(net.hamiltonian, z) * net(z)).sum(-1)
    assert (rate <= 1e-12).all()
    assert rate.min() < -1e-4


def test_even_potential_is_the_same_on_both_sides() -> None:
    net, q = made("mechanical_hnn", 4, even=True), states(5, 2)
    assert torch.allclose(net.potential(q), net.potential(-q), atol=1e-14)


def test_lagrangian_network_gives_the_motion_of_a_known_lagrangian() -> None:
    class Known(LagrangianNN):
        def lagrangian(
            self, q: Tensor, v: Tensor
        ) -> Tensor:  # a pendulum on a cart, masses and length 1, g = 1
            x, a, dx, da = q[..., 0], q[..., 1], v[..., 0], v[..., 1]
            return dx**2 + 0.5 * da**2 + dx * da * torch.cos(a) + torch.cos(a) + 0 * x

    z = states(5, 4)
    a, v = z[:, 1], z[:, 2:]
    mass = torch.stack(
        (
            torch.stack((2 * torch.ones_like(a), torch.cos(a)), -1),
            torch.stack((torch.cos(a), torch.ones_like(a)), -1),
        ),
        -2,
    )
    push = torch.stack((v[:, 1] ** 2 * torch.sin(a), -torch.sin(a)), -1)
    wanted = torch.cat((v, torch.linalg.solve(mass, push)), -1)
    assert torch.allclose(Known(4).double()(z), wanted, atol=1e-11)


def test_lagrangian_network_conserves_its_energy() -> None:
    net = made("lagrangian_nn", 2, inverse_mass=2.0)
    z = 0.3 * states(3, 2)
    path = rollout(net, z, torch.linspace(0, 2, 3, dtype=torch.float64), "adaptive", tolerance=1e-10).detach()
    energy = net.energy(path.flatten(0, 1)).view(3, 3)
    assert (path[:, -1] - z).abs().max() > 1e-2
    assert (energy - energy[:, :1]).abs().max() < 1e-7


@pytest.mark.parametrize("outputs", [2, 3])
def test_hamiltonian_with_more_than_one_scalar_is_refused(outputs: int) -> None:
    with pytest.raises(ModelError, match="not one scalar a point"):
        hamiltonian_field(nn.Linear(4, outputs).double(), states(5, 4))


def test_odd_phase_space_is_refused() -> None:
    with pytest.raises(ModelError, match="in pairs"):
        hamiltonian_field(lambda z: z.sum(-1), states(2, 3))


def test_bodies_that_do_not_fit_the_space_are_refused() -> None:
    with pytest.raises(ConfigError, match="no whole number of bodies"):
        network("pair_hnn", 12, space=5)


def test_unknown_network_or_argument_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pair_hnn'"):
        network("pair_hn", 4)
    with pytest.raises(ConfigError, match="did you mean 'hidden'"):
        network("hnn", 4, hiden=(3,))


@pytest.mark.parametrize("name", ["hnn", "separable_hnn"])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_the_field_of_a_network_is_the_gradient_that_autograd_finds(name: str, activation: str) -> None:
    """The field, and what it gives the weights and the states in training."""
    torch.manual_seed(0)
    net = network(name, 6, activation=activation).double()
    z = torch.randn(5, 3, 6, dtype=torch.float64, requires_grad=True)
    leaves = [z, *net.parameters()]
    fields = net(z), hamiltonian_field(net.hamiltonian, z)
    assert torch.allclose(*fields, rtol=0, atol=1e-13)
    found, expected = (
        torch.autograd.grad(field.sin().sum(), leaves, allow_unused=True, materialize_grads=True)
        for field in fields
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
