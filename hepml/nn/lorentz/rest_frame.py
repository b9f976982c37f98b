"""The rest frames of jets: a canonical frame in which components are as small as the jet's mass.

A network that carries components (irreps, multivectors) loses the digits that a boost takes: at gamma = 4000
the components grow by as much, and invariants are differences of their products. An equivariant network gives
the same output in every frame, so it may be evaluated in the one where nothing is large: there the jet's
momenta are fixed by the jet but for a rotation, which costs no digits. What remains is to make the boost
itself without loss. With n the jet's direction and p± = E ± p.n,

    p- = d + |p_perp|² / (|p| + p.n),   d = E - |p| = m² / (E + |p|),   p_perp = p - (p.n) n,
    p'± = p± exp(∓y),                   exp(2y) = P+ / P-,              p'_perp = p_perp,

where P± are the sums of the p± of the jet's constituents. Every term is positive: the digits are those of the
angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepml.nn.lorentz.products import packed_mass_squared
from hepml.packed.rectangular import spread
from hepml.packed.segments import segment_sum


@dataclass(frozen=True, eq=False)
class RestFrames:
    """The boost of each jet into its rest frame: along its direction, without a rotation.

    A jet without a rest frame (one massless constituent, or several that are collinear) is boosted to an
    energy of 1 GeV instead; a jet without constituents stays.

    Args:
        direction: [B, 3] unit vectors, float64.
        stretch: [B] exp(y), the factor by which p- grows and p+ shrinks, float64.
        mass: [B] of the jets in GeV, float64.
    """

    direction: Tensor
    stretch: Tensor
    mass: Tensor

    @classmethod
    def of(cls, four_momenta: Tensor, offsets: Tensor) -> RestFrames:
        """The rest frames of packed jets [ΣN, 4] in GeV."""
        d = _energy_above_momentum(four_momenta, offsets)
        return cls._of(four_momenta.double(), d, offsets, torch.finfo(four_momenta.dtype).eps)

    @classmethod
    def _of(cls, p: Tensor, d: Tensor, offsets: Tensor, epsilon: float) -> RestFrames:
        total = segment_sum(p[:, 1:], offsets)
        momentum = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        moves = momentum > 0
        direction = torch.where(
            moves, total / torch.where(moves, momentum, 1.0), total.new_tensor([0.0, 0.0, 1.0])
        )
        plus, minus, _ = _light_cone(p, d, spread(direction, offsets, p.shape[0]))
        plus, minus = segment_sum(torch.stack((plus, minus), dim=-1), offsets).unbind(-1)
        present = plus > 0
        massive = present & (minus > (4 * epsilon) ** 2 * plus)  # else the mass is the rounding of directions
        ratio = torch.where(massive, plus / torch.where(massive, minus, 1.0), 1.0).sqrt()
        lightlike = torch.where(present & ~massive, 0.5 * plus, 1.0)
        mass = torch.where(massive, plus * torch.where(massive, minus, 1.0), 1.0).sqrt()
        return cls(direction, torch.where(massive, ratio, lightlike), torch.where(massive, mass, 0.0))

    def boost(self, vectors: Tensor, offsets: Tensor) -> Tensor:
        """Vectors of each jet, of any kind (reference vectors, say), seen from its rest frame.

        Their own masses are those of their components. Shapes: [M, 4] packed by `offsets` [B + 1] -> [M, 4],
        in the dtype of the vectors.
        """
        v = vectors.double()
        d = v[:, 0] - torch.linalg.vector_norm(v[:, 1:], dim=-1)
        return self._boost(v, d, offsets).to(vectors.dtype)

    def _boost(self, p: Tensor, d: Tensor, offsets: Tensor) -> Tensor:
        direction = spread(self.direction, offsets, p.shape[0])
        stretch = spread(self.stretch, offsets, p.shape[0])
        plus, minus, transverse = _light_cone(p, d, direction)
        plus, minus = plus / stretch, minus * stretch
        momentum = transverse + (0.5 * (plus - minus))[:, None] * direction
        return torch.cat(((0.5 * (plus + minus))[:, None], momentum), dim=-1)


def to_rest_frame(
    four_momenta: Tensor, offsets: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, RestFrames]:
    """Packed jets, each boosted into its rest frame; differentiable, computed in float64.

    Constituents whose masses are rounding are taken to be massless, jet by jet (see `packed_mass_squared`).
    Boosted or rotated jets have the same momenta in their rest frames but for a rotation: to about gamma ·
    epsilon in relative terms, for massless constituents.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV.
        offsets: [B + 1].
        dtype: of the momenta that are returned; that given where left out, which rounds them a second time.

    Returns:
        momenta [ΣN, 4], and the `RestFrames`, which boost further vectors of the same jets.
    """
    d = _energy_above_momentum(four_momenta, offsets)
    p = four_momenta.double()
    frames = RestFrames._of(p, d, offsets, torch.finfo(four_momenta.dtype).eps)
    return frames._boost(p, d, offsets).to(dtype or four_momenta.dtype), frames


def _energy_above_momentum(p: Tensor, offsets: Tensor) -> Tensor:
    """E - |p| = m² / (E + |p|) of each constituent, zero where the jet's masses are rounding. Shapes: [ΣN, 4]
    -> [ΣN] float64."""
    m2 = packed_mass_squared(p, offsets)
    p = p.double()
    momentum = torch.linalg.vector_norm(p[:, 1:], dim=-1)
    above = p[:, 0] + momentum
    physical = above > 0
    return torch.where(physical, m2 / torch.where(physical, above, 1.0), p[:, 0] - momentum)


def _light_cone(p: Tensor, d: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p+ [M], p- [M] and p_perp [M, 3] with respect to unit vectors [M, 3], for p [M, 4] and its E - |p|
    [M]."""
    momentum = torch.linalg.vector_norm(p[:, 1:], dim=-1)
    along = (p[:, 1:] * direction).sum(-1)
    transverse = p[:, 1:] - along[:, None] * direction
    large = momentum + along.abs()
    some = large > 0
    small = torch.where(some, transverse.square().sum(-1) / torch.where(some, large, 1.0), 0.0)
    ahead = along > 0
    return d + torch.where(ahead, large, small), d + torch.where(ahead, small, large), transverse
