"""Pairs of constituents of one jet: which there are, what is known of each, and how a number a pair becomes
an attention bias.

Everything here is symmetric, U_ij = U_ji, so that a pair is kept once, j <= i, itself (i, i) included, and
only real constituents have pairs: sum_b N_b (N_b + 1) / 2 rows. Row `first_b + i (i + 1) / 2 + j` holds the
pair of constituents j <= i of jet b, so that the way to a dense [P, P] is arithmetic, not a search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hepml import kinematics

# ln of less than this is ln of this (arXiv:2202.03772's code).
_SMALLEST = 1e-8
# Pairs taken at a time on a CPU: 1 MB of one number each in float64, so that a batch of large jets needs no
# large temporaries.
_PAIRS = 1 << 17
PAIR_FEATURES = ("ln_kt", "ln_z", "ln_delta_r", "ln_m2")


@dataclass(frozen=True)
class Pairs:
    """The pairs j <= i of every jet of a batch.

    Args:
        i, j: [T] int64 packed rows of the two constituents, T = sum_b N_b (N_b + 1) / 2.
        first: [B] int64 row of each jet's first pair.
    """

    i: Tensor
    j: Tensor
    first: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> Pairs:
        """All pairs of jets with these offsets [B + 1]."""
        counts = offsets.diff()
        total = int(offsets[-1] - offsets[0]) if len(offsets) else 0
        rows = torch.arange(total, device=offsets.device)
        start = torch.repeat_interleave(offsets[:-1] - offsets[0], counts, output_size=total)
        partners = rows - start + 1
        ends = partners.cumsum(0)
        pairs = int(ends[-1]) if total else 0
        i = torch.repeat_interleave(rows, partners, output_size=pairs)
        j = torch.arange(pairs, device=offsets.device) + (start - ends + partners)[i]
        per_jet = counts * (counts + 1) // 2
        return cls(i, j, per_jet.cumsum(0) - per_jet)

    def __len__(self) -> int:
        return len(self.i)


def pair_features(four_momenta: Tensor, pairs: Pairs, rounded_masses: bool = False) -> Tensor:
    """ln kT, ln z, ln dR and ln m^2 of each pair (arXiv:2202.03772, eq. 3), [T, 4], in the dtype of the
    momenta.

        dR = sqrt((y_i - y_j)^2 + (phi_i - phi_j)^2), kT = min(pT_i, pT_j) dR, z = min(pT_i, pT_j) / (pT_i +
        pT_j), m^2 = (p_i + p_j)^2

    in GeV, with rapidities y. Logarithms are cut below at ln 1e-8, as in the published code. They are taken
    in float64, and a constituent whose mass is below what the dtype of its momentum resolves is taken as
    massless. Otherwise ln m^2 of a narrow pair, and of a constituent with itself, would be the logarithm of
    rounding, and change with the frame by units.

    Args:
        four_momenta: [ΣN, 4] as (E, px, py, pz) in GeV.
        pairs: of the same jets.
        rounded_masses: leave such constituents the mass that rounding gave them, as weaver-core does.
    """
    with torch.no_grad(), torch.autocast(four_momenta.device.type, enabled=False):
        p = four_momenta.double()
        energy, px, py, pz = p.unbind(-1)
        momentum = p[:, 1:].square().sum(-1).sqrt()
        massless = (energy - momentum).abs() <= 2 * torch.finfo(four_momenta.dtype).eps * energy
        if not rounded_masses:
            energy = torch.where(massless, momentum, energy)
        rapidity = 0.5 * torch.log(1 + 2 * pz / (energy - pz).clamp_min(1e-20))
        own = torch.stack((kinematics.pt(p), rapidity, torch.atan2(py, px), energy, px, py, pz))
        out = four_momenta.new_empty((len(pairs), len(PAIR_FEATURES)))
        step = _PAIRS if out.device.type == "cpu" else max(1, len(pairs))
        for start in range(0, len(pairs), step):
            piece = slice(start, start + step)
            left, right = own[:, pairs.i[piece]], own[:, pairs.j[piece]]
            distance = torch.hypot(left[1] - right[1], _turn(left[2] - right[2]))
            softer, total = torch.minimum(left[0], right[0]), left[0] + right[0]
            e, x, y, z = (left[3:] + right[3:]).unbind(0)
            mass2 = e * e - x * x - y * y - z * z
            share = softer / total.clamp_min(_SMALLEST)
            raw = torch.stack((softer * distance, share, distance, mass2), dim=-1)
            out[piece] = raw.clamp_min_(_SMALLEST).log_()
        return out


def _turn(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def pair_bias(table: Tensor, counts: Tensor, width: int) -> Tensor:
    """A number a pair and head as an additive attention bias, very negative where the key is padding.

    Args:
        table: [T, H] of the pairs of these jets alone, as `Pairs` orders them.
        counts: [B] constituents of each jet.
        width: P, constituents of the rectangle.

    Returns:
        [B, H, P, P].
    """
    at = torch.arange(width, device=table.device)
    per_jet = counts * (counts + 1) // 2
    corner = torch.maximum(at[:, None], at) * (torch.maximum(at[:, None], at) + 1) // 2 + torch.minimum(
        at[:, None], at
    )
    outside = at >= counts[:, None]
    cells = (per_jet.cumsum(0) - per_jet)[:, None, None] + corner
    cells.masked_fill_(outside[:, None] | outside[:, :, None], len(table))
    return _Spread.apply(table, cells)  # type: ignore[no-any-return]


def masking_value(dtype: torch.dtype) -> float:
    """What stands at padded keys before the softmax: finite, so that a jet without constituents has no NaN,
    and zero after it."""
    return torch.finfo(dtype).min / 4


class _Spread(torch.autograd.Function):
    """table [T, H] and cells [B, P, P], symmetric, T where there is no pair, to [B, H, P, P].

    Its gradient is two gathers, from both triangles, not a scatter.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        ctx.rows = len(table)
        padded = torch.cat((table, table.new_full((1, table.shape[1]), masking_value(table.dtype))))
        spread = padded.index_select(0, cells.flatten()).view(*cells.shape, table.shape[1])
        return spread.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (cells,) = ctx.saved_tensors
        (gradient,) = gradients
        _, heads, width, _ = gradient.shape
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, heads)
        lower = torch.ones((width, width), dtype=torch.bool, device=cells.device).tril() & (cells < ctx.rows)
        place = lower.flatten().nonzero().squeeze(1)  # in the order of the pairs
        i, j = place // width % width, place % width
        mirrored = place + (width - 1) * (j - i)
        out = rows.index_select(0, place)
        out += rows.index_select(0, mirrored) * (i != j)[:, None]
        return out, None
