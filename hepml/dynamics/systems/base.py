"""`System`: what every mechanical system offers.

A state is z = (q, p), [..., 2 d] in float64 by default: positions first, then momenta. Every function batches
over leading axes and differentiates. Energies are in the units of the published task (masses, lengths and
couplings of order one).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hepml.nn.hamiltonian import hamiltonian_field

# What `sample` draws from. The paper's notebooks seeded the second kind.
Random = np.random.Generator | np.random.RandomState


class System(ABC):
    """A mechanical system with a known Hamiltonian.

    Attributes:
        name: the name in configs.
        separable: whether H(q, p) = T(p) + V(q), which explicit symplectic steps need.
        conserves: whether the motion conserves H.
        coordinates: names of q then p, for plots.
    """

    name: ClassVar[str]
    separable: ClassVar[bool] = True
    conserves: ClassVar[bool] = True
    coordinates: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """Number of phase-space coordinates, 2 d."""
        return len(self.coordinates)

    @abstractmethod
    def hamiltonian(self, z: Tensor) -> Tensor:
        """Total energy. Shapes: [..., 2 d] -> [...]."""

    @abstractmethod
    def sample(self, count: int, generator: Random) -> Tensor:
        """Initial states as the published task draws them, [count, 2 d] float64."""

    def force(self, q: Tensor) -> Tensor:
        """dp/dt = -dV/dq of the conservative part. Shapes: [..., d] -> [..., d]."""
        raise NotImplementedError(f"{self.name} is not separable")

    def velocity(self, p: Tensor) -> Tensor:
        """dq/dt = dT/dp. Shapes: [..., d] -> [..., d]."""
        raise NotImplementedError(f"{self.name} is not separable")

    def field(self, z: Tensor) -> Tensor:
        """dz/dt, with every damping. Shapes: [..., 2 d] -> [..., 2 d]."""
        if not self.separable:
            return hamiltonian_field(self.hamiltonian, z)
        q, p = z.chunk(2, dim=-1)
        return torch.cat((self.velocity(p), self.force(q)), dim=-1)

    def __call__(self, z: Tensor) -> Tensor:
        return self.field(z)

    def exact(self, z0: Tensor, times: Tensor) -> Tensor | None:
        """The solution in closed form, [B, 2 d] and [T] -> [B, T, 2 d], or None where there is none."""
        return None


def tensor(values: np.ndarray) -> Tensor:
    """A float64 tensor."""
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float64)
