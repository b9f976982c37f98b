"""The networks of arXiv:1906.01563: the plain baseline and the Hamiltonian network, and the Hamiltonians with
more mechanics in them.

Every network maps states [..., 2 d] to dz/dt [..., 2 d] when called. `Hamiltonian` ones have `hamiltonian(z)
-> [...]`; separable ones also `force(q)` and `velocity(p)`, so that explicit symplectic steps apply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from hepml.errors import ConfigError, did_you_mean
from hepml.nn.hamiltonian import hamiltonian_field, scalar_gradient

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
}


def published_mlp(
    inputs: int, hidden: Sequence[int], outputs: int, activation: str = "tanh"
) -> nn.Sequential:
    """The network of arXiv:1906.01563: orthogonal weights everywhere, no bias in the last layer.

    Raises:
        ConfigError: an unknown activation.
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(f"unknown activation '{activation}'", mend=did_you_mean(activation, ACTIVATIONS))
    layers: list[nn.Module] = []
    width = inputs
    for units in hidden:
        layers += [nn.Linear(width, units), ACTIVATIONS[activation]()]
        width = units
    layers.append(nn.Linear(width, outputs, bias=False))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
    return nn.Sequential(*layers)


class Baseline(nn.Module):
    """dz/dt = MLP(z): the baseline of arXiv:1906.01563.

    Args:
        dimension: phase-space coordinates 2 d.
        hidden: units of the hidden layers.
        activation: of the hidden layers.
    """

    separable: ClassVar[bool] = False

    def __init__(self, dimension: int, hidden: Sequence[int] = (200, 200), activation: str = "tanh") -> None:
        super().__init__()
        self.network = published_mlp(dimension, hidden, dimension, activation)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.network(z)
        return out


class Hamiltonian(nn.Module):
    """A network with a Hamiltonian; its field is the symplectic gradient, by one vector-Jacobian product."""

    separable: ClassVar[bool] = False

    def hamiltonian(self, z: Tensor) -> Tensor:
        """The learned energy, up to a constant. Shapes: [..., 2 d] -> [...]."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        return hamiltonian_field(self.hamiltonian, z)


class HNN(Hamiltonian):
    """H(z) = MLP(z): the Hamiltonian neural network of arXiv:1906.01563.

    The paper's code has a second, unused output; ours is the scalar alone.

    Args:
        dimension: phase-space coordinates 2 d.
        hidden: units of the hidden layers.
        activation: of the hidden layers.
    """

    def __init__(self, dimension: int, hidden: Sequence[int] = (200, 200), activation: str = "tanh") -> None:
        super().__init__()
        self.network = published_mlp(dimension, hidden, 1, activation)

    def hamiltonian(self, z: Tensor) -> Tensor:
        out: Tensor = self.network(z)[..., 0]
        return out


class Separable(Hamiltonian):
    """H = T(p) + V(q): explicit symplectic steps apply. Subclasses give `kinetic` and `potential`."""

    separable: ClassVar[bool] = True

    def kinetic(self, p: Tensor) -> Tensor:
        """Shapes: [..., d] -> [...]."""
        raise NotImplementedError

    def potential(self, q: Tensor) -> Tensor:
        """Shapes: [..., d] -> [...]."""
        raise NotImplementedError

    def hamiltonian(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        return self.kinetic(p) + self.potential(q)

    def force(self, q: Tensor) -> Tensor:
        """-dV/dq. Shapes: [..., d] -> [..., d]."""
        return -scalar_gradient(self.potential, q)

    def velocity(self, p: Tensor) -> Tensor:
        """dT/dp. Shapes: [..., d] -> [..., d]."""
        return scalar_gradient(self.kinetic, p)

    def forward(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        return torch.cat((self.velocity(p), self.force(q)), dim=-1)


class SeparableHNN(Separable):
    """H = MLP_T(p) + MLP_V(q) (the separable network of arXiv:1909.13334).

    Args:
        dimension: phase-space coordinates 2 d.
        hidden: units of the hidden layers of each.
        activation: of the hidden layers.
    """

    def __init__(self, dimension: int, hidden: Sequence[int] = (100, 100), activation: str = "tanh") -> None:
        super().__init__()
        self.t = published_mlp(dimension // 2, hidden, 1, activation)
        self.v = published_mlp(dimension // 2, hidden, 1, activation)

    def kinetic(self, p: Tensor) -> Tensor:
        out: Tensor = self.t(p)[..., 0]
        return out

    def potential(self, q: Tensor) -> Tensor:
        out: Tensor = self.v(q)[..., 0]
        return out


class MechanicalHNN(Separable):
    """H = p^T L L^T p / 2 + q^T K q / 2 + MLP(q): a learned mass matrix, and a potential that is harmonic up
    to a learned part.

    This is what every mechanical system with a constant mass matrix looks like: the momenta enter as a
    quadratic form, and only the potential is free. The network's share starts small, so that training
    begins at a harmonic oscillator: one with half the stiffness and half the inverse mass of a unit
    oscillator, so that it is none of our systems.

    Args:
        dimension: phase-space coordinates 2 d.
        hidden: units of the hidden layers of the potential.
        activation: of the hidden layers.
        scale: factor on the network's share of the potential.
        even: whether the potential is the same on both sides, V(-q) = V(q): a mirror-symmetric system.
    """

    def __init__(
        self,
        dimension: int,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        scale: float = 0.1,
        even: bool = False,
    ) -> None:
        super().__init__()
        d = dimension // 2
        self.inverse_mass_root = nn.Parameter(0.5**0.5 * torch.eye(d))
        self.stiffness = nn.Parameter(0.5 * torch.eye(d))
        self.network = published_mlp(d, hidden, 1, activation)
        self.scale, self.even = scale, even

    def kinetic(self, p: Tensor) -> Tensor:
        return 0.5 * (p @ self.inverse_mass_root).square().sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        return (p @ self.inverse_mass_root) @ self.inverse_mass_root.T

    def potential(self, q: Tensor) -> Tensor:
        free = self.network(q)
        if self.even:
            free = 0.5 * (free + self.network(-q))
        out: Tensor = 0.5 * ((q @ self.stiffness) * q).sum(-1) + self.scale * free[..., 0]
        return out
