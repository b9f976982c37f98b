"""Bodies that attract each other: the two- and three-body tasks of arXiv:1906.01563, and N of them.

States are body-major: q = (x1, y1, x2, y2, ...), p likewise; G = 1. Two- and three-body initial states draw
their random numbers in the order of the paper's published notebooks, so that seeds 0 to 14 of numpy's
`RandomState` give the very orbits that the paper was evaluated on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hepml.dynamics.systems.base import Random, System, tensor
from hepml.errors import ConfigError


class NBody(System):
    """N self-gravitating bodies, H = sum_i p_i²/(2 m_i) - sum_{i<j} m_i m_j / sqrt(r_ij² + e²).

    Initial states: bodies on a disc with velocities near those of circular orbits about their common centre,
    which rests at the origin.

    Args:
        bodies: N.
        space: dimensions of space, 2 or 3.
        masses: one a body; 1/N each where left out, so that the total is 1.
        softening: e, a length.
        spread: relative spread of the initial velocities.
    """

    name: ClassVar[str] = "n_body"

    def __init__(
        self,
        bodies: int = 8,
        space: int = 2,
        masses: Sequence[float] | None = None,
        softening: float = 0.1,
        spread: float = 0.1,
    ) -> None:
        if masses is not None and len(masses) != bodies:
            raise ConfigError(f"{len(masses)} masses for {bodies} bodies", mend="give one mass a body")
        if bodies < 2 or space not in (2, 3):
            raise ConfigError(
                f"{bodies} bodies in {space} dimensions", mend="give at least 2 bodies and 2 or 3 dimensions"
            )
        self.bodies, self.space, self.softening, self.spread = bodies, space, softening, spread
        self.masses = torch.tensor(
            masses if masses is not None else [1.0 / bodies] * bodies, dtype=torch.float64
        )
        axes = "xyz"[:space]
        self.coordinates = tuple(f"{a}{i + 1}" for i in range(bodies) for a in axes) + tuple(
            f"p{a}{i + 1}" for i in range(bodies) for a in axes
        )
        self._first, self._second = torch.triu_indices(bodies, bodies, offset=1)

    def _bodies(self, x: Tensor) -> Tensor:
        out: Tensor = x.unflatten(-1, (self.bodies, self.space))
        return out

    def potential(self, q: Tensor) -> Tensor:
        """Shapes: [..., d] -> [...]."""
        x, m = self._bodies(q), self.masses.to(q)
        apart = x[..., self._first, :] - x[..., self._second, :]
        distance = torch.sqrt(apart.square().sum(-1) + self.softening**2)
        return -(m[self._first] * m[self._second] / distance).sum(-1)

    def kinetic(self, p: Tensor) -> Tensor:
        """Shapes: [..., d] -> [...]."""
        return 0.5 * (self._bodies(p).square().sum(-1) / self.masses.to(p)).sum(-1)

    def hamiltonian(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        return self.kinetic(p) + self.potential(q)

    def force(self, q: Tensor) -> Tensor:
        x, m = self._bodies(q), self.masses.to(q)
        apart = x[..., None, :, :] - x[..., :, None, :]  # from i to j
        squared = apart.square().sum(-1) + self.softening**2
        # A body does not pull itself; its separation is zero, so any finite weight will do.
        squared = squared + torch.eye(self.bodies, dtype=q.dtype, device=q.device)
        weight = m[:, None] * m / (squared * squared.sqrt())
        return (weight[..., None] * apart).sum(-2).flatten(-2)

    def velocity(self, p: Tensor) -> Tensor:
        return (self._bodies(p) / self.masses.to(p)[:, None]).flatten(-2)

    def sample(self, count: int, generator: Random) -> Tensor:
        n = self.bodies
        radius = 0.5 + np.sqrt(generator.random((count, n)))
        angle = 2 * math.pi * (np.arange(n) / n + 0.5 / n * (2 * generator.random((count, n)) - 1))
        x = np.zeros((count, n, self.space))
        v = np.zeros_like(x)
        x[..., 0], x[..., 1] = radius * np.cos(angle), radius * np.sin(angle)
        if self.space == 3:
            x[..., 2] = 0.1 * generator.standard_normal((count, n))
        speed = np.sqrt(float(self.masses.sum()) / radius) * 0.7
        v[..., 0], v[..., 1] = -speed * np.sin(angle), speed * np.cos(angle)
        v *= 1 + self.spread * generator.standard_normal((count, n, 1))
        m = self.masses.numpy()[:, None]
        x -= (m * x).sum(1, keepdims=True) / m.sum()
        v -= (m * v).sum(1, keepdims=True) / m.sum()
        return tensor(np.concatenate((x.reshape(count, -1), (m * v).reshape(count, -1)), axis=1))


class TwoBody(NBody):
    """Two unit masses on near-circular orbits (arXiv:1906.01563, task 4).

    Args:
        noise: relative spread of the initial velocity about that of a circular orbit.
        smallest, largest: bounds of each coordinate of the first body.
    """

    name: ClassVar[str] = "two_body"

    def __init__(self, noise: float = 0.05, smallest: float = 0.5, largest: float = 1.5) -> None:
        super().__init__(2, 2, (1.0, 1.0), softening=0.0)
        self.noise, self.smallest, self.largest = noise, smallest, largest

    def sample(self, count: int, generator: Random) -> Tensor:
        position = generator.random((count, 2)) * (self.largest - self.smallest) + self.smallest
        r = np.sqrt((position**2).sum(1, keepdims=True))
        velocity = np.stack((-position[:, 1], position[:, 0]), axis=1) / (2 * r**1.5)
        velocity *= 1 + self.noise * generator.standard_normal((count, 1))
        return tensor(np.concatenate((position, -position, velocity, -velocity), axis=1))


class ThreeBody(NBody):
    """Three unit masses on a rotating triangle, disturbed into chaos (arXiv:1906.01563, task 5).

    Args:
        noise: largest relative disturbance of each component of the initial velocities.
        smallest, largest: bounds of the distance from the centre.
    """

    name: ClassVar[str] = "three_body"

    def __init__(self, noise: float = 0.2, smallest: float = 0.9, largest: float = 1.2) -> None:
        super().__init__(3, 2, (1.0, 1.0, 1.0), softening=0.0)
        self.noise, self.smallest, self.largest = noise, smallest, largest

    def sample(self, count: int, generator: Random) -> Tensor:
        direction = 2 * generator.random((count, 2)) - 1
        r = generator.random((count, 1)) * (self.largest - self.smallest) + self.smallest
        first = direction * r / np.sqrt((direction**2).sum(1, keepdims=True))
        circular = math.sqrt(math.sin(math.pi / 3) / (2 * math.cos(math.pi / 6) ** 2))
        start = _turn(first, math.pi / 2) / r**1.5 * circular
        places = np.stack([_turn(first, 2 * math.pi / 3 * i) for i in range(3)], axis=1)
        velocities = np.stack([_turn(start, 2 * math.pi / 3 * i) for i in range(3)], axis=1)
        velocities *= 1 + self.noise * (2 * generator.random((count, 3, 2)) - 1)
        return tensor(np.concatenate((places.reshape(count, 6), velocities.reshape(count, 6)), axis=1))


def _turn(vectors: np.ndarray, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.stack((c * vectors[:, 0] - s * vectors[:, 1], s * vectors[:, 0] + c * vectors[:, 1]), axis=1)
