"""Minkowski products, metric (+, -, -, -), and how they keep their digits.

The product of two boosted momenta is a small difference of large numbers: at gamma = 4000, E_i E_j is 10^7 to
10^14 times p_i·p_j, and evaluating the definition leaves few digits or none. But almost nothing is lost in
the momenta themselves: the angle between two particles is known to an epsilon over the angle. So here

    p_i·p_j = d_i d_j + d_i |p_j| + |p_i| d_j + |p_i × p_j|² / (|p_i||p_j| + p_i.p_j),
    d = E - |p| = m² / (E + |p|),

in which every term is positive for physical momenta and nothing cancels. Only m² = E² - p² itself can be lost
to rounding, and for massless constituents (energy-flow objects mostly are) it is nothing but rounding; a jet
whose constituents are all massless as far as can be told is therefore taken to be exactly that. Products of
updated vectors never go back to components (see `hepml.nn.lorentz.vectors`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hepml.nn import kernels
from hepml.packed.rectangular import spread
from hepml.packed.segments import segment_sum

# A jet whose mean |m|/E is below sqrt(MASS_RESOLUTION · epsilon) has no masses that its dtype resolves.
# A massless momentum that was rounded once has |m²| of an epsilon E² or two; a boost by a matrix in the
# same precision leaves more, 100 epsilon E² in the worst jets.
MASS_RESOLUTION = 128.0

_CHUNK = 2**18  # elements of a temporary, so that it stays in cache


def plain_product(a: Tensor, b: Tensor) -> Tensor:
    """a·b as 2 a⁰b⁰ - sum_mu a^mu b^mu, in the dtype of its arguments. Shapes: [..., 4], [..., 4] -> [...].

    This order of operations is that of the published LorentzNet. It matters: in float32 the mass of a
    massless particle is nothing but rounding, and the published weights were trained on just that.
    """
    ab = a * b
    return 2 * ab[..., 0] - ab.sum(-1)


def resolved_mass_squared(p: Tensor, exact: Tensor | None = None) -> Tensor:
    """m² of the particles of each jet in GeV²; zero for all of a jet where it is rounding. Shapes: [B, N, 4]
    -> [B, N] float64.

    Absent particles are zero vectors. `exact` [B, N] marks vectors that were never rounded (reference
    vectors), whose m² is kept and says nothing about that of others.
    """
    m2, ratio, rounded = _mass_squared(p, exact)
    rounding = _is_rounding(ratio.sum(-1), rounded.sum(-1), p.dtype)[..., None]
    return torch.where(rounding if exact is None else rounding & ~exact, 0.0, m2)


def packed_mass_squared(p: Tensor, offsets: Tensor, exact: Tensor | None = None) -> Tensor:
    """`resolved_mass_squared` of packed jets, without their rectangle. Shapes: [ΣN, 4], [B + 1], [ΣN] ->
    [ΣN] float64."""
    m2, ratio, rounded = _mass_squared(p, exact)
    total, count = segment_sum(torch.stack((ratio, rounded.to(ratio.dtype)), dim=-1), offsets).unbind(-1)
    rounding = spread(_is_rounding(total, count.long(), p.dtype), offsets, p.shape[0])
    return torch.where(rounding if exact is None else rounding & ~exact, 0.0, m2)


def _mass_squared(p: Tensor, exact: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """m² = (E - |p|)(E + |p|), |m|/E, and which particles are present and were rounded; |m|/E is zero for the
    others. Shapes: [..., 4] -> [...] each."""
    p = p.double()
    energy, momentum = p[..., 0], torch.linalg.vector_norm(p[..., 1:], dim=-1)
    m2 = (energy - momentum) * (energy + momentum)
    with torch.no_grad():
        ratio = m2.abs().sqrt() / energy.abs().clamp_min(torch.finfo(energy.dtype).tiny)
        rounded = energy != 0 if exact is None else (energy != 0) & ~exact
        return m2, ratio * rounded, rounded


def _is_rounding(total: Tensor, count: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether the mean of |m|/E, `total` over `count` particles, is what rounding to `dtype` leaves."""
    resolution: float = (MASS_RESOLUTION * torch.finfo(dtype).eps) ** 0.5
    return total <= resolution * count


def gram_matrix(p: Tensor, exact: Tensor | None = None) -> Tensor:
    """All products p_i·p_j of the particles of each jet, m² on the diagonal. Shapes: [B, N, 4] -> [B, N, N]
    float64.

    Absent particles are zero vectors, with zero products; `exact` as for `resolved_mass_squared`.
    """
    if not kernels.allows("pieces", p, autocast=True):
        return _gram(p, exact)
    jets = max(1, _CHUNK // max(1, p.shape[1] ** 2))
    marks = [None] * len(p) if exact is None else exact.split(jets)
    parts = [_gram(some, mark) for some, mark in zip(p.split(jets), marks, strict=False)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gram(p: Tensor, exact: Tensor | None) -> Tensor:
    m2 = resolved_mass_squared(p, exact)
    p = p.double()
    energy, momentum = p[..., 0], torch.linalg.vector_norm(p[..., 1:], dim=-1)
    above = energy + momentum
    physical = above > 0  # else there is no cancellation in E - |p|, or nothing at all
    d = torch.where(physical, m2 / torch.where(physical, above, 1.0), energy - momentum)
    di, dj = d[..., :, None], d[..., None, :]
    ki, kj = momentum[..., :, None], momentum[..., None, :]
    k, parallel = ki * kj, p[..., 1:] @ p[..., 1:].transpose(-1, -2)
    (x, y, z), (u, v, w) = p[..., :, None, 1:].unbind(-1), p[..., None, :, 1:].unbind(-1)
    cross = (y * w - z * v).square() + (z * u - x * w).square() + (x * v - y * u).square()
    ahead = parallel > 0
    opening = torch.where(ahead, cross / torch.where(ahead, k + parallel, 1.0), k - parallel)
    out = di * dj + di * kj + ki * dj + opening
    result: Tensor = out.masked_fill(
        torch.eye(out.shape[-1], dtype=torch.bool, device=p.device), 0.0
    ) + torch.diag_embed(m2)
    return result
