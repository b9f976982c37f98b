"""The flow of a learned, permutation-invariant Hamiltonian over the constituents of jets, with memory that
does not grow with its length.

H(q, p) = sum_i [ p_i M^-1 p_i / 2 + V(q_i) ] + 1/n sum_{i<j} sum_k c_ik c_jk u_k(|q_i - q_j|²), one
Hamiltonian a jet of n constituents, with charges c that travel along unchanged. Forces are written out, so
that training needs one backward pass and no second derivatives by autograd. Pairs are packed, each once
(`hepml.packed.unordered_pairs`); what depends on the charges alone is made once a flow.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hepml.packed.segments import segment_sum
from hepml.packed.unordered_pairs import Pairs, differences, products, spread


class CloudHamiltonian(nn.Module):
    """The Hamiltonian of a cloud of constituents and its force.

    V is a network with one hidden layer, w . ln(2 cosh(W q + b)), and u_k a Gaussian well or hill of learned
    height and width.

    Args:
        dimension: of positions and of momenta of one constituent.
        hidden: units of V.
        interactions: number of charges and of pair potentials.
    """

    def __init__(self, dimension: int, hidden: int = 64, interactions: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(dimension, hidden)
        self.outer = nn.Parameter(torch.randn(hidden) / hidden**0.5)
        self.log_inverse_mass = nn.Parameter(torch.zeros(dimension))
        self.strength = nn.Parameter(torch.randn(interactions) * 0.5)
        # widths spread evenly in the logarithm, from near neighbours to the whole cloud
        self.log_width = nn.Parameter(torch.linspace(math.log(0.3), math.log(3.0), max(interactions, 1)))

    def kinetic(self, p: Tensor) -> Tensor:
        """Of each constituent. Shapes: [ΣN, d] -> [ΣN]."""
        return 0.5 * (p.square() * self.log_inverse_mass.exp()).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        """Shapes: [ΣN, d] -> [ΣN, d]."""
        return p * self.log_inverse_mass.exp()

    def energy(self, q: Tensor, p: Tensor, charges: Tensor, pairs: Pairs, offsets: Tensor) -> Tensor:
        """H of each jet, [B]; q, p [ΣN, d], charges [ΣN, K]."""
        x = self.inner(q)
        single = self.kinetic(p) + (x.abs() + F.softplus(-2 * x.abs())) @ self.outer  # ln 2 cosh x
        apart = differences(q, pairs)
        wells = torch.exp(-0.5 * apart.square().sum(-1, keepdim=True) * torch.exp(-2 * self.log_width))
        pair = (products(charges, pairs) * wells) @ self.strength
        inner = segment_sum(pair[:, None], pairs.after)
        return segment_sum(single[:, None] + pairs.share[:, None] * inner, offsets)[:, 0]

    def force(self, q: Tensor, coupling: Tensor, pairs: Pairs) -> Tensor:
        """-dH/dq. Shapes: [ΣN, d], [P, K] -> [ΣN, d].

        Args:
            q: positions.
            coupling: products of the charges of each pair.
            pairs: of the jets.
        """
        single = -(torch.tanh(self.inner(q)) * self.outer) @ self.inner.weight
        apart = differences(q, pairs)
        sharpness = torch.exp(-2 * self.log_width)
        wells = torch.exp(apart.square().sum(-1, keepdim=True) * (-0.5 * sharpness))
        weight = (coupling * wells) @ (self.strength * sharpness)
        return single + pairs.share[:, None] * spread(weight[:, None] * apart, pairs)


def flow(
    hamiltonian: CloudHamiltonian,
    q: Tensor,
    p: Tensor,
    charges: Tensor,
    pairs: Pairs,
    *,
    steps: int,
    step_size: float,
    reversible: bool = True,
) -> tuple[Tensor, Tensor]:
    """Integrates the motion by position Verlet (drift, kick, drift): symplectic, hence volume-preserving, and
    exactly reversible.

    Args:
        hamiltonian: of the cloud.
        q, p: [ΣN, d] positions and momenta.
        charges: [ΣN, K], constants of the motion.
        pairs: of the jets.
        steps: how many; a negative `step_size` runs back.
        step_size: h.
        reversible: whether the backward pass recomputes the motion backwards, with constant memory, instead
            of keeping every step.

    Returns:
        positions and momenta at the end.
    """
    if not reversible or steps == 0:
        return _integrate(hamiltonian, q, p, products(charges, pairs), pairs, steps, step_size)
    weights = tuple(hamiltonian.parameters())
    return _Flow.apply(hamiltonian, pairs, steps, step_size, q, p, charges, *weights)  # type: ignore[no-any-return]


def _integrate(
    hamiltonian: CloudHamiltonian, q: Tensor, p: Tensor, coupling: Tensor, pairs: Pairs, steps: int, h: float
) -> tuple[Tensor, Tensor]:
    for _ in range(steps):
        q = q + 0.5 * h * hamiltonian.velocity(p)
        p = p + h * hamiltonian.force(q, coupling, pairs)
        q = q + 0.5 * h * hamiltonian.velocity(p)
    return q, p


class _Flow(torch.autograd.Function):
    """The flow, whose backward pass walks the motion back: of all its states only the last is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        hamiltonian: CloudHamiltonian,
        pairs: Pairs,
        steps: int,
        h: float,
        q: Tensor,
        p: Tensor,
        charges: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            q, p = _integrate(hamiltonian, q, p, products(charges, pairs), pairs, steps, h)
        ctx.hamiltonian, ctx.pairs, ctx.steps, ctx.h = hamiltonian, pairs, steps, h
        ctx.save_for_backward(q, p, charges)
        return q, p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        q, p, charges = ctx.saved_tensors
        by_q, by_p = gradients
        hamiltonian, h = ctx.hamiltonian, ctx.h
        weights = tuple(hamiltonian.parameters())
        mass = hamiltonian.log_inverse_mass.detach().exp()
        with torch.enable_grad():
            charges = charges.detach().requires_grad_()
            made = products(charges, ctx.pairs)
        coupling = made.detach().requires_grad_()
        by_coupling, by_mass = torch.zeros_like(coupling), torch.zeros_like(mass)
        by_weights = [torch.zeros_like(w) for w in weights]
        for _ in range(ctx.steps):
            # Back through the second drift: q holds q1, p holds p1.
            by_mass += 0.5 * h * (p * by_q).sum(0)
            by_p = by_p + 0.5 * h * mass * by_q
            middle = (q - 0.5 * h * mass * p).detach()
            with torch.enable_grad():
                at = middle.requires_grad_()
                force = hamiltonian.force(at, coupling, ctx.pairs)
                found = torch.autograd.grad(force, (at, coupling, *weights), h * by_p, allow_unused=True)
            by_q = by_q + found[0]
            by_coupling += found[1]
            for total, part in zip(by_weights, found[2:], strict=True):
                if part is not None:
                    total += part
            # Undo the kick and the first drift.
            p = p - h * force.detach()
            by_mass += 0.5 * h * (p * by_q).sum(0)
            by_p = by_p + 0.5 * h * mass * by_q
            q = middle.detach() - 0.5 * h * mass * p
        (by_charges,) = torch.autograd.grad(made, charges, by_coupling)
        for w, total in zip(weights, by_weights, strict=True):
            if w is hamiltonian.log_inverse_mass:
                total += by_mass * mass  # d exp(l)/dl
        return None, None, None, None, by_q, by_p, by_charges, *by_weights
