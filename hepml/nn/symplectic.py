"""The flow of a learned, permutation-invariant Hamiltonian over the constituents of jets, with memory that
does not grow with its length.

H(q, p) = sum_i [ p_i M^-1 p_i / 2 + V(q_i) ] + 1/n sum_{i<j} sum_k c_ik c_jk u_k(|q_i - q_j|²), one
Hamiltonian a jet of n constituents, with charges c that travel along unchanged. Forces are written out, so
that training needs one backward pass and no second derivatives by autograd. Pairs are packed, each once
(`hepml.packed.pairs`); what depends on the charges alone is computed once a flow.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn import kernels
from hepml.nn.kernels.flow import reversible_flow
from hepml.nn.kernels.pair_sums import differences, products, spread
from hepml.packed.pairs import UnorderedPairs
from hepml.packed.segments import segment_sum


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

    def energy(self, q: Tensor, p: Tensor, charges: Tensor, pairs: UnorderedPairs, offsets: Tensor) -> Tensor:
        """H of each jet, [B]; q, p [ΣN, d], charges [ΣN, K]."""
        x = self.inner(q)
        single = self.kinetic(p) + (x.abs() + F.softplus(-2 * x.abs())) @ self.outer  # ln 2 cosh x
        apart = differences(q, pairs)
        wells = torch.exp(-0.5 * apart.square().sum(-1, keepdim=True) * torch.exp(-2 * self.log_width))
        pair = (products(charges, pairs) * wells) @ self.strength
        inner = segment_sum(pair[:, None], pairs.after)
        return segment_sum(single[:, None] + pairs.share(q.dtype)[:, None] * inner, offsets)[:, 0]

    def force(self, q: Tensor, coupling: Tensor, pairs: UnorderedPairs) -> Tensor:
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
        return single + pairs.share(q.dtype)[:, None] * spread(weight[:, None] * apart, pairs)


def flow(
    hamiltonian: CloudHamiltonian,
    q: Tensor,
    p: Tensor,
    charges: Tensor,
    pairs: UnorderedPairs,
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
    if reversible and steps and kernels.allows("flow", q, accelerator=True, autocast=True):
        return reversible_flow(integrate, hamiltonian, q, p, charges, pairs, steps, step_size)
    return integrate(hamiltonian, q, p, products(charges, pairs), pairs, steps, step_size)


def integrate(
    hamiltonian: CloudHamiltonian,
    q: Tensor,
    p: Tensor,
    coupling: Tensor,
    pairs: UnorderedPairs,
    steps: int,
    h: float,
) -> tuple[Tensor, Tensor]:
    """The flow, step by step: what `flow` computes."""
    for _ in range(steps):
        q = q + 0.5 * h * hamiltonian.velocity(p)
        p = p + h * hamiltonian.force(q, coupling, pairs)
        q = q + 0.5 * h * hamiltonian.velocity(p)
    return q, p
