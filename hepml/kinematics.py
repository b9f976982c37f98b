"""Four-vector functions for torch tensors, one quantity a function.

A four-momentum is the last axis of a tensor, `[..., 4]` as (E, px, py, pz) in GeV. Everything batches,
differentiates and keeps the dtype and device it was given. The Minkowski metric is (+, -, -, -). Awkward
arrays have the `vector` package for the same purpose; these functions are for what happens on the device.
Lengths and masses have no derivative at the origin; it is zero here (as torch has it for angles), where the
formula's would be NaN and spoil every gradient it meets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "boost", "delta_phi", "delta_r", "eta", "eta_of", "from_pt_eta_phi", "length", "mass", "mass_squared",
    "minkowski_product", "phi", "pt", "rapidity", "root", "rotation", "signed_angle", "transform",
]  # fmt: skip
_LARGEST_ETA = 20.0


def pt(p: Tensor) -> Tensor:
    """Transverse momentum sqrt(px² + py²) in GeV. Shapes: [..., 4] -> [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.pt(p).tolist()
        [3.0]
    """
    return length(p[..., 1], p[..., 2])


def length(x: Tensor, y: Tensor) -> Tensor:
    """sqrt(x² + y²), whose gradient at the origin is zero. Shapes: [...], [...] -> [...].

    Examples:
        >>> import torch
        >>> hepml.kinematics.length(torch.tensor(3.0), torch.tensor(4.0)).item()
        5.0
    """
    if not (x.requires_grad or y.requires_grad):
        return torch.hypot(x, y)
    origin = (x == 0) & (y == 0)
    return torch.hypot(x.masked_fill(origin, 1.0), y).masked_fill(origin, 0.0)


def all_at_least(x: Tensor, least: float) -> bool:
    """Whether all values are known to be so large, so that a rare case need not be computed; False proves
    nothing. Values are looked at where that costs little: on a CPU, and not while a graph is recorded."""
    if x.device.type != "cpu" or not x.numel() or torch.compiler.is_compiling() or _is_traced():
        return False
    return bool(x.detach().amin() >= least)


def _is_traced() -> bool:
    return bool(torch._C._get_tracing_state())


def root(x: Tensor) -> Tensor:
    """sqrt(max(x, 0)), whose gradient is zero where x is not positive. Shapes: [...] -> [...].

    Examples:
        >>> import torch
        >>> hepml.kinematics.root(torch.tensor([4.0, -1.0])).tolist()
        [2.0, 0.0]
    """
    if not x.requires_grad:
        return x.clamp_min(0).sqrt()
    flat = x <= 0
    return x.masked_fill(flat, 1.0).sqrt().masked_fill(flat, 0.0)


def phi(p: Tensor) -> Tensor:
    """Azimuth in (-pi, pi]. Shapes: [..., 4] -> [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.phi(p).tolist()
        [0.0]
    """
    return torch.atan2(p[..., 2], p[..., 1])


def eta(p: Tensor) -> Tensor:
    """Pseudorapidity asinh(pz / pT), within ±20 along the beam. Shapes: [..., 4] -> [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.eta(p).round(decimals=3).tolist()
        [1.0989999771118164]
    """
    return eta_of(p[..., 3], pt(p))


def eta_of(pz: Tensor, pt_: Tensor) -> Tensor:
    """Pseudorapidity from pz and pT, within ±20: along the beam it has no bound, and its hyperbolic sine no
    finite number. Shapes: [...], [...] -> [...].

    Examples:
        >>> import torch
        >>> hepml.kinematics.eta_of(torch.tensor(0.0), torch.tensor(3.0)).item()
        0.0
    """
    pt_ = pt_.clamp_min(max(torch.finfo(pz.dtype).tiny, 1e-20))
    if pz.requires_grad or pt_.requires_grad:
        return torch.asinh(pz / pt_).clamp(-_LARGEST_ETA, _LARGEST_ETA)
    # the same, at a fifth of the time on a CPU; its derivative would be wrong at pz = 0
    size = pz.abs()
    return torch.log((torch.hypot(pt_, size) + size) / pt_).clamp_max(_LARGEST_ETA).copysign(pz)


def rapidity(p: Tensor) -> Tensor:
    """Rapidity ½ ln((E+pz)/(E-pz)). Shapes: [..., 4] -> [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.rapidity(p).round(decimals=3).tolist()
        [0.3179999887943268]
    """
    return torch.atanh((p[..., 3] / p[..., 0]).clamp(-1 + 1e-12, 1 - 1e-12))


def minkowski_product(a: Tensor, b: Tensor) -> Tensor:
    """Minkowski product a·b = a⁰b⁰ - a¹b¹ - a²b² - a³b³ in GeV². Shapes: [..., 4], [..., 4] -> [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.minkowski_product(p, p).tolist()
        [144.0]
    """
    return a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(-1)


def mass_squared(p: Tensor) -> Tensor:
    """Invariant mass squared in GeV², by (E-|p|)(E+|p|), which loses less than E² - p². Shapes: [..., 4] ->
    [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.mass_squared(p).tolist()
        [144.0]
    """
    momentum = root(p[..., 1:].square().sum(-1))
    return (p[..., 0] - momentum) * (p[..., 0] + momentum)


def mass(p: Tensor) -> Tensor:
    """Invariant mass in GeV, zero for space-like vectors. Shapes: [..., 4] -> [...].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> hepml.kinematics.mass(p).tolist()
        [12.0]
    """
    return root(mass_squared(p))


def delta_phi(a: Tensor, b: Tensor) -> Tensor:
    """Azimuthal difference a - b wrapped to [-pi, pi).

    Examples:
        >>> import torch
        >>> hepml.kinematics.delta_phi(torch.tensor(3.0), torch.tensor(-3.0)).round(decimals=3).item()
        -0.28299999237060547
    """
    return torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi


def signed_angle(x: Tensor, y: Tensor, to_x: Tensor, to_y: Tensor) -> Tensor:
    """Angle in the transverse plane from (to_x, to_y) to (x, y), in [-pi, pi]; zero where either is.
    Shapes: [...] each -> [...].

    From the two directions' products, without a wrap: torch's atan2 gives other last bits at the end of an
    array than in its middle, so that the angle would depend on where in a batch a constituent stands.

    Examples:
        >>> import torch
        >>> one, zero = torch.tensor(1.0), torch.tensor(0.0)
        >>> round(hepml.kinematics.signed_angle(one, zero, zero, one).item(), 3)
        -1.571
    """
    # + 0.0: opposite directions are pi apart, whatever the sign of a zero
    across, along = y * to_x - x * to_y + 0.0, x * to_x + y * to_y
    if across.requires_grad:
        return torch.atan2(across, along)  # whose derivative at the origin is zero
    half = (length(across, along) + along.abs()).clamp_min(torch.finfo(x.dtype).tiny)
    angle = 2 * torch.atan(across / half)
    if all_at_least(along, 0.0):
        return angle
    straight = torch.full_like(angle, math.pi).copysign(across)
    return torch.where(along < 0, straight - angle, angle)


def delta_r(eta_a: Tensor, phi_a: Tensor, eta_b: Tensor, phi_b: Tensor) -> Tensor:
    """Angular distance sqrt(Δeta² + Δphi²).

    Examples:
        >>> import torch
        >>> zero = torch.tensor(0.0)
        >>> separation = hepml.kinematics.delta_r(torch.tensor(0.3), zero, zero, torch.tensor(0.4))
        >>> round(separation.item(), 3)
        0.5
    """
    return length(eta_a - eta_b, delta_phi(phi_a, phi_b))


def from_pt_eta_phi(pt_: Tensor, eta_: Tensor, phi_: Tensor, mass_: Tensor | float = 0.0) -> Tensor:
    """Four-momenta from collider coordinates. Shapes: [...] each (GeV) -> [..., 4].

    Examples:
        >>> import torch
        >>> hepml.kinematics.from_pt_eta_phi(*torch.tensor([[3.0], [0.0], [0.0]])).tolist()
        [[3.0, 3.0, 0.0, 0.0]]
    """
    px, py, pz = pt_ * torch.cos(phi_), pt_ * torch.sin(phi_), pt_ * torch.sinh(eta_)
    energy = torch.sqrt(
        px * px + py * py + pz * pz + torch.as_tensor(mass_, dtype=pt_.dtype, device=pt_.device) ** 2
    )
    return torch.stack((energy, px, py, pz), dim=-1)


def boost(direction: Tensor, gamma: float | Tensor) -> Tensor:
    """Boost matrix along a spatial direction.

    Args:
        direction: [3], any length but zero.
        gamma: Lorentz factor ≥ 1.

    Returns:
        [4, 4] matrix L; four-momenta transform as `p @ L.T`.

    Examples:
        >>> import torch
        >>> x = torch.tensor([1.0, 0.0, 0.0])
        >>> hepml.kinematics.boost(x, 2.0).shape
        torch.Size([4, 4])
    """
    n = direction / direction.norm()
    g = torch.as_tensor(gamma, dtype=n.dtype, device=n.device)
    gb = torch.sqrt((g - 1) * (g + 1))
    out = torch.eye(4, dtype=n.dtype, device=n.device)
    out[0, 0] = g
    out[0, 1:] = out[1:, 0] = gb * n
    out[1:, 1:] += (g - 1) * torch.outer(n, n)
    return out


def rotation(axis: Tensor, angle: float | Tensor) -> Tensor:
    """Spatial rotation by `angle` about `axis` [3] as a [4, 4] matrix (Rodrigues).

    Examples:
        >>> import torch
        >>> z = torch.tensor([0.0, 0.0, 1.0])
        >>> hepml.kinematics.rotation(z, 0.5).shape
        torch.Size([4, 4])
    """
    n = axis / axis.norm()
    a = torch.as_tensor(angle, dtype=n.dtype, device=n.device)
    k = torch.zeros(3, 3, dtype=n.dtype, device=n.device)
    k[0, 1], k[0, 2], k[1, 2] = -n[2], n[1], -n[0]
    k[1, 0], k[2, 0], k[2, 1] = n[2], -n[1], n[0]
    out = torch.eye(4, dtype=n.dtype, device=n.device)
    out[1:, 1:] += torch.sin(a) * k + (1 - torch.cos(a)) * (k @ k)
    return out


def transform(p: Tensor, matrix: Tensor) -> Tensor:
    """Applies a [4, 4] Lorentz matrix to four-momenta. Shapes: [..., 4] -> [..., 4].

    Examples:
        >>> import torch
        >>> p = torch.tensor([[13.0, 3.0, 0.0, 4.0]])
        >>> matrix = hepml.kinematics.rotation(torch.tensor([0.0, 0.0, 1.0]), 0.5)
        >>> turned = hepml.kinematics.transform(p, matrix)
        >>> hepml.kinematics.mass(turned).round(decimals=3).tolist()
        [12.0]
    """
    return p @ matrix.to(p).transpose(-1, -2)


def __dir__() -> list[str]:
    return sorted(__all__)
