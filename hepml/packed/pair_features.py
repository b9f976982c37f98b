"""What is known of each pair of constituents (arXiv:2202.03772)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hepml import kinematics

# ln of less than this is ln of this (arXiv:2202.03772's code).
_SMALLEST = 1e-8
# Pairs taken at a time on a CPU: 1 MB of one number each in float64, so that a batch of large jets needs no
# large temporaries.
_PAIRS = 1 << 17
PAIR_FEATURES = ("ln_kt", "ln_z", "ln_delta_r", "ln_m2")


def pair_features(four_momenta: Tensor, i: Tensor, j: Tensor, rounded_masses: bool = False) -> Tensor:
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
        i, j: [T] rows of the two constituents of each pair.
        rounded_masses: leave such constituents the mass that rounding gave them, as weaver-core does.
    """
    with torch.no_grad(), torch.autocast(four_momenta.device.type, enabled=False):
        p = four_momenta.double()
        energy, px, py, pz = p.unbind(-1)
        momentum = p[:, 1:].square().sum(-1).sqrt()
        massless = (energy - momentum).abs() <= 2 * torch.finfo(four_momenta.dtype).eps * energy
        if not rounded_masses:
            energy = torch.where(massless, momentum, energy)
        ratio = 1 + 2 * pz / (energy - pz).clamp_min(1e-20)  # (E + pz) / (E - pz), zero along the beam
        rapidity = 0.5 * torch.log(ratio.clamp_min(1e-20))
        columns = (kinematics.pt(p), rapidity, torch.atan2(py, px), energy, px, py, pz)
        if torch.compiler.is_compiling():  # a column at a time: in a file, to cut a table is to copy it
            left, right = ([x.index_select(0, end) for x in columns] for end in (i, j))
            return _logarithms(left, right).to(four_momenta.dtype)
        own = torch.stack(columns)
        if own.device.type != "cpu" or len(i) <= _PAIRS:
            return _logarithms(own[:, i], own[:, j]).to(four_momenta.dtype)
        out = four_momenta.new_empty((len(i), len(PAIR_FEATURES)))
        for start in range(0, len(i), _PAIRS):
            piece = slice(start, start + _PAIRS)
            out[piece] = _logarithms(own[:, i[piece]], own[:, j[piece]])
        return out


def _logarithms(left: Tensor | list[Tensor], right: Tensor | list[Tensor]) -> Tensor:
    """The four logarithms from (pT, y, phi, E, px, py, pz) of both constituents. Shapes: [7, T] twice ->
    [T, 4]."""
    distance = torch.hypot(left[1] - right[1], _turn(left[2] - right[2]))
    softer, total = torch.minimum(left[0], right[0]), left[0] + right[0]
    e, x, y, z = (left[n] + right[n] for n in range(3, 7))
    mass2 = e * e - x * x - y * y - z * z
    share = softer / total.clamp_min(_SMALLEST)
    raw = torch.stack((softer * distance, share, distance, mass2), dim=-1)
    return raw.clamp_min_(_SMALLEST).log_()


def _turn(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
