"""The Lagrangian network (arXiv:2003.04630): the law of motion from a learned L(q, dq/dt), without
canonical momenta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from hepml.dynamics.networks.basic import published_mlp
from hepml.nn.hamiltonian import one_scalar


class LagrangianNN(nn.Module):
    """Euler-Lagrange with a learned Lagrangian: a = (d²L/dv²)^-1 (dL/dq - d²L/dv dq v) (arXiv:2003.04630, eq.
    6).

    The states of our systems hold momenta p = m v with known masses, so they are turned into velocities and
    back.

    Args:
        dimension: coordinates of the state, 2 d.
        hidden: units of the hidden layers.
        activation: of the hidden layers; smooth, since its second derivatives are used.
        inverse_mass: dq/dt = inverse_mass p.
        regular: added to the learned mass matrix, so that it can be inverted at the beginning.
    """

    separable: ClassVar[bool] = False

    def __init__(
        self,
        dimension: int,
        hidden: Sequence[int] = (128, 128),
        activation: str = "softplus",
        inverse_mass: float = 1.0,
        regular: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = published_mlp(dimension, hidden, 1, activation)
        self.inverse_mass, self.regular = inverse_mass, regular

    def lagrangian(self, q: Tensor, v: Tensor) -> Tensor:
        """L = MLP(q, v) + regular v²/2. Shapes: [..., d], [..., d] -> [...]."""
        out: Tensor = self.network(torch.cat((q, v), dim=-1))[..., 0] + 0.5 * self.regular * v.square().sum(
            -1
        )
        return out

    def energy(self, z: Tensor) -> Tensor:
        """v dL/dv - L, which the motion conserves. Shapes: [..., 2 d] -> [...]."""
        q, p = z.chunk(2, dim=-1)
        v = (p * self.inverse_mass).detach().requires_grad_()
        with torch.enable_grad():
            value = self.lagrangian(q, v)
            (by_v,) = torch.autograd.grad(value.sum(), v)
        return ((v * by_v).sum(-1) - value).detach()

    def acceleration(self, q: Tensor, v: Tensor) -> Tensor:
        """d²q/dt². Shapes: [..., d], [..., d] -> [..., d]."""
        wanted = torch.is_grad_enabled()
        d = q.shape[-1]
        with torch.enable_grad():
            q = q if wanted and q.requires_grad else q.detach().requires_grad_()
            v = v if wanted and v.requires_grad else v.detach().requires_grad_()
            value = one_scalar(self.lagrangian(q, v), q)
            by_q, by_v = torch.autograd.grad(value.sum(), (q, v), create_graph=True)
            # The rows of the Hessian in v, one product each: d is small.
            rows = [
                torch.autograd.grad(by_v[..., i].sum(), (v, q), create_graph=wanted, retain_graph=True)
                for i in range(d)
            ]
            mass = torch.stack([row[0] for row in rows], dim=-2)
            mixed = torch.stack([row[1] for row in rows], dim=-2)
            push = by_q - (mixed @ v[..., None])[..., 0]
            out = torch.linalg.solve(mass, push)
        result: Tensor = out if wanted else out.detach()
        return result

    def forward(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        v = p * self.inverse_mass
        return torch.cat((v.expand_as(q), self.acceleration(q, v) / self.inverse_mass), dim=-1)
