"""The flow of a Hamiltonian in the memory of its last state alone: the backward pass integrates the motion
backwards.

`hepml.nn.symplectic.integrate` is the definition, of which automatic differentiation keeps every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hepml.nn.kernels.pair_sums import products
from hepml.packed.pairs import UnorderedPairs


class Hamiltonian(Protocol):
    """What the backward pass asks of a `hepml.nn.symplectic.CloudHamiltonian`."""

    @property
    def log_inverse_mass(self) -> Tensor: ...

    def parameters(self) -> Iterable[Tensor]: ...

    def force(self, q: Tensor, coupling: Tensor, pairs: UnorderedPairs) -> Tensor: ...


Integrate = Callable[..., tuple[Tensor, Tensor]]


def reversible_flow(
    integrate: Integrate,
    hamiltonian: Hamiltonian,
    q: Tensor,
    p: Tensor,
    charges: Tensor,
    pairs: UnorderedPairs,
    steps: int,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    """Positions and momenta [ΣN, d] after the steps of `integrate`; differentiable once."""
    weights = tuple(hamiltonian.parameters())
    out: tuple[Tensor, Tensor] = _Flow.apply(
        integrate, hamiltonian, pairs, steps, step_size, q, p, charges, *weights
    )
    return out


class _Flow(torch.autograd.Function):
    """The flow, whose backward pass walks the motion back: of all its states only the last is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        integrate: Integrate,
        hamiltonian: Hamiltonian,
        pairs: UnorderedPairs,
        steps: int,
        h: float,
        q: Tensor,
        p: Tensor,
        charges: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            q, p = integrate(hamiltonian, q, p, products(charges, pairs), pairs, steps, h)
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
            pair_products = products(charges, ctx.pairs)
        coupling = pair_products.detach().requires_grad_()
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
                derivatives = torch.autograd.grad(
                    force, (at, coupling, *weights), h * by_p, allow_unused=True
                )
            by_q = by_q + derivatives[0]
            by_coupling += derivatives[1]
            for total, part in zip(by_weights, derivatives[2:], strict=True):
                if part is not None:
                    total += part
            # Undo the kick and the first drift.
            p = p - h * force.detach()
            by_mass += 0.5 * h * (p * by_q).sum(0)
            by_p = by_p + 0.5 * h * mass * by_q
            q = middle.detach() - 0.5 * h * mass * p
        (by_charges,) = torch.autograd.grad(pair_products, charges, by_coupling)
        for w, total in zip(weights, by_weights, strict=True):
            if w is hamiltonian.log_inverse_mass:
                total += by_mass * mass  # d exp(l)/dl
        return None, None, None, None, None, by_q, by_p, by_charges, *by_weights
