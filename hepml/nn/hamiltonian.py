"""Vector fields from scalar functions: J grad H by one vector-Jacobian product.

A Hamiltonian maps phase-space points z = (q, p), [..., 2 d], to one scalar each, [...]. Its vector field
dz/dt = J grad H = (dH/dp, -dH/dq) costs one backward pass for a whole batch, because the points do not see
each other: the gradient of the sum over the batch holds the gradient of each. No Jacobian is built.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hepml.errors import ModelError

ScalarFunction = Callable[[Tensor], Tensor]


def hamiltonian_field(hamiltonian: ScalarFunction, z: Tensor) -> Tensor:
    """Symplectic gradient dz/dt = (dH/dp, -dH/dq) (arXiv:1906.01563, eq. 2).

    Differentiable with respect to the parameters of H, and to z where z requires a gradient, whenever
    gradients are enabled.

    Args:
        hamiltonian: [..., 2 d] -> [...] or [..., 1].
        z: [..., 2 d]; the first half are positions, the second half momenta.

    Returns:
        [..., 2 d].

    Raises:
        ModelError: more than one scalar a point, or an odd number of phase-space coordinates.
    """
    if z.shape[-1] % 2:
        raise ModelError(
            f"a phase space of {z.shape[-1]} coordinates has no positions and momenta in pairs",
            mend="give z = (q, p) with as many momenta as positions",
        )
    gradient = scalar_gradient(hamiltonian, z)
    by_q, by_p = gradient.chunk(2, dim=-1)
    return torch.cat((by_p, -by_q), dim=-1)


def scalar_gradient(function: ScalarFunction, z: Tensor) -> Tensor:
    """Gradient of a scalar function at each point, by one vector-Jacobian product.

    Args:
        function: [..., n] -> [...] or [..., 1].
        z: [..., n].

    Returns:
        [..., n]; part of the graph where gradients are enabled.

    Raises:
        ModelError: the function returns more than one scalar a point.
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        point = z if wanted and z.requires_grad else z.detach().requires_grad_()
        value = one_scalar(function(point), point)
        (gradient,) = torch.autograd.grad(value.sum(), point, create_graph=wanted)
    return gradient


def one_scalar(value: Tensor, z: Tensor) -> Tensor:
    """The value as [...], checked to be one scalar for each point of z [..., n].

    Raises:
        ModelError: it is not.
    """
    points = z.shape[:-1]
    if value.shape == points:
        return value
    if value.shape == (*points, 1):
        return value[..., 0]
    raise ModelError(
        f"a Hamiltonian returned shape {tuple(value.shape)} for points of shape {tuple(z.shape)}, not "
        "one scalar a point",
        mend="end it with one output, or sum over its outputs",
    )
