"""A Hamiltonian graph network for N bodies: invariant under their permutation, and under translations where
only pairs interact.

(arXiv:1909.12790 integrates graph networks along learned Hamiltonians; the pair potential is its separable,
physical case.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepml.dynamics.networks.basic import Hamiltonian, Separable, published_mlp
from hepml.errors import ConfigError


class GraphHNN(Hamiltonian):
    """H = sum_i f(p_i, sum_{j≠i} e(q_i - q_j, p_i, p_j)): one round of messages, then a sum over bodies.

    Any two bodies are alike to it, so it is unchanged by permutations, and it takes any number of bodies
    after training.

    Args:
        dimension: phase-space coordinates 2 N D.
        space: dimensions D of space.
        hidden: units of the hidden layers of e and f.
        message: width of the messages.
        activation: of the hidden layers.
    """

    def __init__(
        self,
        dimension: int,
        space: int = 2,
        hidden: Sequence[int] = (64, 64),
        message: int = 32,
        activation: str = "softplus",
    ) -> None:
        super().__init__()
        _check_bodies(dimension, space)
        self.space = space
        self.edge = published_mlp(3 * space + 1, hidden, message, activation)
        self.node = published_mlp(space + message, hidden, 1, activation)

    def hamiltonian(self, z: Tensor) -> Tensor:
        q, p = (x.unflatten(-1, (-1, self.space)) for x in z.chunk(2, dim=-1))
        n = q.shape[-2]
        i, j = _ordered_pairs(n, q.device)
        apart = q[..., i, :] - q[..., j, :]
        distance = apart.square().sum(-1, keepdim=True).sqrt()
        messages = self.edge(torch.cat((apart, distance, p[..., i, :], p[..., j, :]), dim=-1))
        gathered = messages.unflatten(-2, (n, n - 1)).sum(-2)
        out: Tensor = self.node(torch.cat((p, gathered), dim=-1))[..., 0].sum(-1)
        return out


class PairHNN(Separable):
    """H = a sum_i p_i²/2 + sum_{i<j} u(r_ij): bodies of one kind, with a learned mass and a learned pair
    potential.

    Unchanged by permutations, translations, rotations and reflections, so its motion also conserves momentum
    and angular momentum. The potential is a network of ln r, with a linear start: u = MLP(ln r) + b/r^c with
    learned b and c.

    Args:
        dimension: phase-space coordinates 2 N D.
        space: dimensions D of space.
        hidden: units of the hidden layers of u.
        activation: of the hidden layers.
        softening: added to squared distances, a length squared.
        scale: factor on the network's share of the potential.
    """

    def __init__(
        self,
        dimension: int,
        space: int = 2,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        softening: float = 0.0,
        scale: float = 0.1,
    ) -> None:
        super().__init__()
        _check_bodies(dimension, space)
        self.space, self.softening, self.scale = space, softening, scale
        self.inverse_mass = nn.Parameter(torch.full((), 0.5))
        self.strength = nn.Parameter(torch.zeros(()))
        self.power = nn.Parameter(torch.full((), 0.5))
        self.network = published_mlp(1, hidden, 1, activation)

    def kinetic(self, p: Tensor) -> Tensor:
        return 0.5 * self.inverse_mass * p.square().sum(-1)

    def pair(self, log_distance: Tensor) -> Tensor:
        """u as a function of ln r. Shapes: [...] -> [...]."""
        smooth = self.network(log_distance[..., None])[..., 0]
        out: Tensor = self.scale * smooth + self.strength * torch.exp(-self.power * log_distance)
        return out

    def potential(self, q: Tensor) -> Tensor:
        x = q.unflatten(-1, (-1, self.space))
        i, j = torch.triu_indices(x.shape[-2], x.shape[-2], offset=1, device=q.device)
        squared = (x[..., i, :] - x[..., j, :]).square().sum(-1) + self.softening
        return self.pair(0.5 * torch.log(squared)).sum(-1)


def _check_bodies(dimension: int, space: int) -> None:
    if dimension % (2 * space):
        raise ConfigError(
            f"{dimension} phase-space coordinates are no whole number of bodies in {space} dimensions",
            mend="give model.space",
        )


def _ordered_pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All i ≠ j, sorted by i."""
    every = torch.arange(n, device=device)
    i, j = (
        every.repeat_interleave(n - 1),
        torch.cat([torch.cat((every[:k], every[k + 1 :])) for k in range(n)]),
    )
    return i, j
