"""One-dimensional oscillators: the ideal spring and pendulum of arXiv:1906.01563, and their damped
relatives."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hepml.dynamics.systems.base import Random, System, tensor
from hepml.errors import ConfigError


class Spring(System):
    """Ideal mass-spring, H = q² + p² (arXiv:1906.01563, task 1). It turns in phase space with angular
    frequency 2.

    Args:
        smallest, largest: bounds of the radius in phase space of initial states.
    """

    name: ClassVar[str] = "spring"
    coordinates = ("q", "p")

    def __init__(self, smallest: float = 0.1, largest: float = 1.0) -> None:
        self.smallest, self.largest = smallest, largest

    def hamiltonian(self, z: Tensor) -> Tensor:
        return z.square().sum(-1)

    def force(self, q: Tensor) -> Tensor:
        return -2 * q

    def velocity(self, p: Tensor) -> Tensor:
        return 2 * p

    def exact(self, z0: Tensor, times: Tensor) -> Tensor:
        q, p = z0[:, None, 0], z0[:, None, 1]
        c, s = torch.cos(2 * times), torch.sin(2 * times)
        return torch.stack((q * c + p * s, p * c - q * s), dim=-1)

    def sample(self, count: int, generator: Random) -> Tensor:
        return _on_ring(count, generator, self.smallest, self.largest)


class Pendulum(System):
    """Ideal pendulum, H = k (1 - cos q) + p² with k = 2 m g l = 3 (arXiv:1906.01563, task 2).

    Args:
        strength: k.
        smallest, largest: bounds of the radius in phase space of initial states.
    """

    name: ClassVar[str] = "pendulum"
    coordinates = ("q", "p")

    def __init__(self, strength: float = 3.0, smallest: float = 1.3, largest: float = 2.3) -> None:
        self.strength, self.smallest, self.largest = strength, smallest, largest

    def hamiltonian(self, z: Tensor) -> Tensor:
        return self.strength * (1 - torch.cos(z[..., 0])) + z[..., 1].square()

    def force(self, q: Tensor) -> Tensor:
        return -self.strength * torch.sin(q)

    def velocity(self, p: Tensor) -> Tensor:
        return 2 * p

    def sample(self, count: int, generator: Random) -> Tensor:
        return _on_ring(count, generator, self.smallest, self.largest)


class DampedPendulum(Pendulum):
    """A pendulum with friction, dp/dt = -k sin q - c p: the simulated stand-in for the real pendulum of
    arXiv:1906.01563, task 3.

    The recorded pendulum (Schmidt and Lipson 2009) is described in the paper's code by H = 2.4 (1 - cos q) +
    p² and loses energy slowly.

    Args:
        strength: k.
        friction: c.
        smallest, largest: bounds of the radius in phase space of initial states.
    """

    name: ClassVar[str] = "damped_pendulum"
    conserves: ClassVar[bool] = False

    def __init__(
        self, strength: float = 2.4, friction: float = 0.02, smallest: float = 1.0, largest: float = 1.4
    ) -> None:
        super().__init__(strength, smallest, largest)
        self.friction = friction

    def field(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        return torch.cat((self.velocity(p), self.force(q) - self.friction * p), dim=-1)


class DampedSpring(System):
    """Mass-spring with friction, H = k q²/2 + p²/(2 m), dp/dt = -k q - c p (the task of arXiv:2201.10085).

    Args:
        stiffness, mass, friction: k, m and c; underdamped where c/m < 2 sqrt(k/m).
        smallest, largest: bounds of the radius in phase space of initial states.
    """

    name: ClassVar[str] = "damped_spring"
    conserves: ClassVar[bool] = False
    coordinates = ("q", "p")

    def __init__(
        self,
        stiffness: float = 1.0,
        mass: float = 1.0,
        friction: float = 0.3,
        smallest: float = 0.2,
        largest: float = 1.0,
    ) -> None:
        if friction / mass >= 2 * (stiffness / mass) ** 0.5:
            raise ConfigError("the spring is overdamped", mend="give friction/mass < 2 sqrt(stiffness/mass)")
        self.stiffness, self.mass, self.friction = stiffness, mass, friction
        self.smallest, self.largest = smallest, largest

    def hamiltonian(self, z: Tensor) -> Tensor:
        return 0.5 * self.stiffness * z[..., 0].square() + 0.5 * z[..., 1].square() / self.mass

    def force(self, q: Tensor) -> Tensor:
        return -self.stiffness * q

    def velocity(self, p: Tensor) -> Tensor:
        return p / self.mass

    def field(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        return torch.cat((self.velocity(p), self.force(q) - self.friction * p), dim=-1)

    def exact(self, z0: Tensor, times: Tensor) -> Tensor:
        rate = self.friction / self.mass / 2
        omega = (self.stiffness / self.mass - rate**2) ** 0.5
        q0, v0 = z0[:, None, 0], z0[:, None, 1] / self.mass
        decay, c, s = torch.exp(-rate * times), torch.cos(omega * times), torch.sin(omega * times)
        a = (v0 + rate * q0) / omega
        q = decay * (q0 * c + a * s)
        v = decay * ((a * omega - rate * q0) * c - (q0 * omega + rate * a) * s)
        return torch.stack((q, self.mass * v), dim=-1)

    def sample(self, count: int, generator: Random) -> Tensor:
        return _on_ring(count, generator, self.smallest, self.largest)


def _on_ring(count: int, generator: Random, smallest: float, largest: float) -> Tensor:
    """Directions of points uniform in a square, radii uniform between the bounds, as the paper draws them."""
    direction = generator.random((count, 2)) * 2 - 1
    radius = generator.random(count) * (largest - smallest) + smallest
    return tensor(direction / (direction**2).sum(1, keepdims=True) ** 0.5 * radius[:, None])
