"""The dissipative Hamiltonian network (arXiv:2201.10085): a conserved and a lossy part of the motion,
learned separately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from hepml.dynamics.networks.basic import Hamiltonian, MechanicalHNN, published_mlp
from hepml.nn.hamiltonian import hamiltonian_field, scalar_gradient


class DissipativeHNN(Hamiltonian):
    """dz/dt = J grad H(z) + grad D(z): a rotational and an irrotational field, by Helmholtz's decomposition
    (arXiv:2201.10085).

    H is the energy, D the dissipation (Rayleigh) function; either can be changed or left out after training,
    so that friction may be turned off.

    Args:
        dimension: phase-space coordinates 2 d.
        hidden: units of the hidden layers of each network.
        activation: of the hidden layers.
    """

    def __init__(self, dimension: int, hidden: Sequence[int] = (200, 200), activation: str = "tanh") -> None:
        super().__init__()
        self.h = published_mlp(dimension, hidden, 1, activation)
        self.d = published_mlp(dimension, hidden, 1, activation)

    def hamiltonian(self, z: Tensor) -> Tensor:
        out: Tensor = self.h(z)[..., 0]
        return out

    def dissipation(self, z: Tensor) -> Tensor:
        """D. Shapes: [..., 2 d] -> [...]."""
        out: Tensor = self.d(z)[..., 0]
        return out

    def conservative(self, z: Tensor) -> Tensor:
        """J grad H alone: the motion without friction. Shapes: [..., 2 d] -> [..., 2 d]."""
        return hamiltonian_field(self.hamiltonian, z)

    def forward(self, z: Tensor) -> Tensor:
        return self.conservative(z) + scalar_gradient(self.dissipation, z)


class DampedMechanicalHNN(MechanicalHNN):
    """A mechanical Hamiltonian with a learned friction: dq/dt = dT/dp, dp/dt = -dV/dq - G G^T dq/dt, so that
    energy can only fall.

    Args:
        dimension: phase-space coordinates 2 d.
        hidden: units of the hidden layers of the potential.
        activation: of the hidden layers.
        scale: factor on the network's share of the potential.
        even: whether the potential is the same on both sides, V(-q) = V(q).
    """

    separable: ClassVar[bool] = False  # the force depends on the momentum

    def __init__(
        self,
        dimension: int,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        scale: float = 0.1,
        even: bool = False,
    ) -> None:
        super().__init__(dimension, hidden, activation, scale, even)
        self.friction_root = nn.Parameter(0.1 * torch.eye(dimension // 2))

    def forward(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        v = self.velocity(p)
        return torch.cat((v, self.force(q) - (v @ self.friction_root) @ self.friction_root.T), dim=-1)
