"""Local canonical frames (arXiv:2505.20280): a frame for each constituent, which turns with the jet and is
boosted with it.

A small network of invariants weighs sums of momenta into three vectors for each constituent. The first,
time-like one is boosted to rest; what the other two become there is made orthonormal. The frame is L = R B
with the rotation R and the boost B, and a momentum seen from it, L p, does not change under any Lorentz
transformation of the jet: L' = L Λ⁻¹. Any network may then read it.

Momenta are those of the jet's rest frame (`hepml.nn.lorentz.rest_frame`), where components are small and
nothing is lost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hepml.kinematics import root
from hepml.nn.lorentz.vectors import GramVectors
from hepml.packed.rectangle import mask_of, masking_value, to_dense, to_packed

_ROUNDING = 1e-12  # of the energy of a vector: shorter momenta in float64 are nothing but rounding
_FIRST = (0.0, 1e-3, 2e-3)  # which axis is farthest from a direction along another, whatever the rounding
FLOOR = 1e-2  # GeV, added to the mass of a pair: two parallel massless particles have none


class FrameNetwork(nn.Module):
    """Three vectors for each particle, as sums over the others of the jet with weights made of invariants.

        v_i = sum_j a_ij (p_i + p_j) / (|p_i + p_j| + floor) + a_ii (t + p_i / E_i),
        a_ij = softmax_j phi(s_i, s_j, ln p_i·p_j)

    with the jet's own direction in time t, so that a lone particle has vectors too. Sums of vectors into the
    future are vectors into the future, so frames always exist.

    Args:
        scalars: S, invariants of each particle beyond its share of the jet's energy.
        hidden: width of phi.
        depth: hidden layers of phi.
        dropout: in phi.
    """

    def __init__(self, scalars: int = 0, hidden: int = 128, depth: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.own, self.other = (nn.Linear(1 + scalars, hidden, bias=bias) for bias in (True, False))
        self.product = nn.Linear(1, hidden, bias=False)
        layers: list[nn.Module] = [nn.GELU()]
        for _ in range(depth - 1):
            layers += [nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.GELU()]
        self.phi = nn.Sequential(*layers, nn.Linear(hidden, 3))
        self.alone = nn.Linear(1 + scalars, 3)

    def forward(self, p: Tensor, scalars: Tensor, products: GramVectors, mass: Tensor) -> Tensor:
        """The vectors of each particle.

        Args:
            p: [M, 4] momenta in their jets' rest frames in GeV, float64.
            scalars: [M, S].
            products: of all particles in GeV², float64.
            mass: [M] of the particles' jets in GeV.

        Returns:
            [M, 3, 4] float64, the first time-like.
        """
        offsets, width = products.pairs.offsets, max(1, products.pairs.width)
        gram = products.gram if products.pairs.width else products.gram.new_zeros((len(offsets) - 1, 1, 1))
        p, scalars, masses = (to_dense(x, offsets, width) for x in (p, scalars, mass[:, None]))
        vectors = self.dense(p, scalars, gram, masses[:, 0, 0], mask_of(offsets, width))
        out: Tensor = to_packed(vectors.flatten(2), offsets).unflatten(1, (3, 4))
        return out

    def dense(
        self, p: Tensor, scalars: Tensor, gram: Tensor, mass: Tensor, mask: Tensor, skip: int = 0
    ) -> Tensor:
        """The same for jets in a rectangle, but for the first few particles of each, which only others look
        at.

        Args:
            p, scalars: [B, N, 4] and [B, N, S] of all particles.
            gram: [B, N, N] their products.
            mass: [B] of the jets.
            mask: [B, N] True where there is a particle.
            skip: how many have no vectors.

        Returns:
            [B, N - skip, 3, 4].
        """
        dtype = self.product.weight.dtype
        scale = mass.clamp_min(FLOOR)[:, None]
        energy = torch.log((p[..., 0] / scale).clamp_min(1e-12)).to(dtype) / 4 + 1
        nodes = torch.cat((energy[..., None], scalars.to(dtype)), dim=-1)
        square, own = gram.diagonal(dim1=-2, dim2=-1), slice(skip, None)
        product = gram[:, own]
        shared = torch.log((product / scale[..., None].square()).clamp_min(1e-12)).to(dtype) / 8 + 1
        particle = torch.arange(p.shape[1], device=p.device)
        self_ = particle[own, None] == particle
        logits = self._logits(self.own(nodes[:, own]), self.other(nodes), shared)  # [3, B, N - skip, N]
        logits = logits.masked_fill(~mask[:, None], masking_value(dtype))
        alone = self.alone(nodes[:, own]).movedim(-1, 0)
        shares = torch.where(self_, alone[..., None], logits).softmax(-1).double()
        both = (square[:, own, None] + square[:, None] + 2 * product).masked_fill(self_, 0.0)
        weights = shares.masked_fill(self_, 0.0) / (root(both) + FLOOR)
        alone = shares[..., own].diagonal(dim1=-2, dim2=-1)
        time = p.new_tensor([1.0, 0.0, 0.0, 0.0])
        lone = time + p[:, own] / (p[:, own, :1].abs() + 1e-9)
        vectors = weights.sum(-1)[..., None] * p[:, own] + weights @ p + alone[..., None] * lone
        return vectors.movedim(0, 2)

    def _logits(self, a: Tensor, b: Tensor, shared: Tensor) -> Tensor:
        """phi of each pair, [3, B, W, S], of which the hidden units are recomputed in the backward pass.

        Args:
            a, b: [B, W, H] and [B, S, H] first layer at receivers and at senders.
            shared: [B, W, S] one number a pair.
        """
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            out: Tensor = checkpoint(self._pairs, a, b, shared, use_reentrant=False)
            return out
        return self._pairs(a, b, shared)

    def _pairs(self, a: Tensor, b: Tensor, shared: Tensor) -> Tensor:
        x = a[:, :, None] + b[:, None] + shared[..., None] * self.product.weight[:, 0]
        out: Tensor = self.phi(x).movedim(-1, 0)
        return out


def frames(vectors: Tensor, parallel: float = 1e-8) -> Tensor:
    """Lorentz matrices L = R B of vectors [..., 3, 4], the first time-like and into the future: [..., 4, 4].

    B brings the first vector to rest; R turns the second's momentum there to x and the third's into the upper
    half of the xy-plane. Under a transformation of all vectors, L' = L Λ⁻¹. Vectors whose sine there is below
    `parallel` are taken to be parallel (see `orthonormal`). Where all three are parallel as four-vectors, as
    those of a lone constituent are, the direction of the first stands for the others.
    """
    boost = rest_boost(vectors[..., 0, :])
    others = vectors[..., 1:, :] @ boost.mT
    others = torch.where(_long(others[..., 1:], _ROUNDING * others[..., :1]), others[..., 1:], 0.0)
    triad = orthonormal(others[..., 0, :], others[..., 1, :], parallel, vectors[..., 0, 1:])
    rotation = F.pad(triad, (1, 0, 1, 0))
    time = torch.zeros_like(rotation)
    time[..., 0, 0] = 1.0
    return (rotation + time) @ boost


def rest_boost(u: Tensor) -> Tensor:
    """The boost, without a rotation, to the rest frame of time-like vectors. Shapes: [..., 4] -> [..., 4,
    4]."""
    size = root(_mass_squared(u)).clamp_min(torch.finfo(u.dtype).tiny)[..., None]
    u = u / size
    gamma, momentum = u[..., :1], u[..., 1:]
    space = momentum[..., :, None] * momentum[..., None, :] / (1 + gamma)[..., None]
    space = space + torch.eye(3, dtype=u.dtype, device=u.device)
    return torch.cat(
        (
            u.new_tensor([1.0, -1.0, -1.0, -1.0]).mul(u)[..., None, :],
            torch.cat((-momentum[..., None], space), dim=-1),
        ),
        dim=-2,
    )


def orthonormal(a: Tensor, b: Tensor, parallel: float = 1e-8, otherwise: Tensor | None = None) -> Tensor:
    """A right-handed orthonormal frame with a along x and b in the upper half of the xy-plane, by rows.

    Where a and b are parallel, a direction across a stands for b: if all momenta lie on a line, all
    frames around it show the same. It is the same direction for all frames on the line, so that one frame
    seen from another does not depend on it either. Where a is zero, b stands for a, and where both are,
    `otherwise` or z. Shapes: [..., 3] two or three times -> [..., 3, 3].
    """
    z = torch.zeros_like(a)
    z[..., 2] = 1.0
    if otherwise is not None:
        z = torch.where(_long(otherwise, 0.0 * otherwise[..., :1]), otherwise, z)
    scale = torch.maximum(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True))
    first = torch.where(_long(a, parallel * scale), a, torch.where(_long(b, 0.0 * scale), b, z))
    x = F.normalize(first, dim=-1)
    across = torch.linalg.cross(x, b)
    least = (x.detach().abs() + x.new_tensor(_FIRST)).argmin(-1, keepdim=True)
    some = torch.zeros_like(x).scatter(-1, least, 1.0)
    across = torch.where(
        _long(across, parallel * b.norm(dim=-1, keepdim=True)), across, torch.linalg.cross(x, some)
    )
    up = F.normalize(across, dim=-1)
    return torch.stack((x, torch.linalg.cross(up, x), up), dim=-2)


def _long(vector: Tensor, limit: Tensor) -> Tensor:
    return (vector.square().sum(-1, keepdim=True) > limit.square()).detach()


def _mass_squared(p: Tensor) -> Tensor:
    momentum = p[..., 1:].square().sum(-1)
    return p[..., 0].square() - momentum
