"""Random changes of a batch that make another jet of each jet: for distillation, where a teacher scores the
new jets, and the labels of the old ones need not hold.

`move_prong` moves and rescales the constituents about one of them together, `smear_momenta` each of them by
itself, `drop_soft` leaves soft ones out, and `split_wide` splits some into two at an angle. How far is drawn
for each jet, from nothing to what the constants below say, so that jets near those of the sample are the
most common. A jet's own momentum in the file changes as the sum of its constituents does, and the jet keeps
its transverse momentum, which the sample was selected by.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.changed_jets import with_constituents
from hepml.packed.segments import segment_sum

PRONG = 0.05, 0.5  # smallest and largest distance of a prong's constituents from the one it grew about
PRONG_SHIFT = 0.2  # width of its move, as a share of that distance
PRONG_SCALE = 0.2  # width of the logarithm of what its momenta are multiplied by
SMEAR_SCALE, SMEAR_SHIFT = 0.2, 0.015  # the same of each constituent, and in radians
DROPPED, SPLIT = 0.2, 0.2  # largest share of a jet's soft constituents left out, and of all those split
ANGLE = 0.03  # mean angle of a splitting


def move_prong(batch: JetBatch) -> JetBatch:
    """The constituents about one, drawn by its share of the momentum, moved and rescaled together."""
    p, of, jets = batch.four_momenta, batch.jet_of, len(batch)
    pt, eta, phi = kinematics.pt(p), kinematics.eta(p), kinematics.phi(p)
    centre = _drawn_by(pt, batch)[of]
    low, high = (math.log(x) for x in PRONG)
    radius = torch.exp(low + (high - low) * _uniform(batch, jets))
    distance = kinematics.delta_r(eta, phi, eta[centre], phi[centre])
    inside = (distance < radius[of]).to(p.dtype)
    shift = PRONG_SHIFT * radius
    eta = eta + inside * (shift * _normal(batch, jets))[of]
    phi = phi + inside * (shift * _normal(batch, jets))[of]
    pt = pt * torch.exp(inside * (PRONG_SCALE * _normal(batch, jets))[of])
    return _changed(batch, kinematics.from_pt_eta_phi(pt, eta, phi, kinematics.mass(p)))


def smear_momenta(batch: JetBatch) -> JetBatch:
    """Each constituent's transverse momentum and direction smeared."""
    p, most = batch.four_momenta, len(batch.four_momenta)
    how_far = _uniform(batch, len(batch))[batch.jet_of]
    pt = kinematics.pt(p) * torch.exp(SMEAR_SCALE * how_far * _normal(batch, most))
    eta = kinematics.eta(p) + SMEAR_SHIFT * how_far * _normal(batch, most)
    phi = kinematics.phi(p) + SMEAR_SHIFT * how_far * _normal(batch, most)
    return _changed(batch, kinematics.from_pt_eta_phi(pt, eta, phi, kinematics.mass(p)))


def drop_soft(batch: JetBatch) -> JetBatch:
    """Some constituents of less than the jet's mean transverse momentum left out."""
    pt = kinematics.pt(batch.four_momenta)
    soft = pt * batch.counts[batch.jet_of] < segment_sum(pt[:, None], batch.offsets)[:, 0][batch.jet_of]
    share = (DROPPED * _uniform(batch, len(batch)))[batch.jet_of]
    kept = ~(soft & (_uniform(batch, len(pt)) < share))
    kept |= _drawn_by(pt, batch)[batch.jet_of] == torch.arange(len(pt), device=batch.device)  # never all
    rows = torch.nonzero(kept)[:, 0]
    return _changed(batch, batch.four_momenta[rows], rows)


def split_wide(batch: JetBatch) -> JetBatch:
    """Some constituents split into two that share the transverse momentum, the softer one at an angle."""
    p = batch.four_momenta
    share = (SPLIT * _uniform(batch, len(batch)))[batch.jet_of]
    split = _uniform(batch, len(p)) < share
    softer = torch.where(split, 0.5 * _uniform(batch, len(p)), 0.0)
    angle = -ANGLE * torch.log1p(-_uniform(batch, len(p)))
    towards = 2 * math.pi * _uniform(batch, len(p))
    pt, eta, phi, mass = kinematics.pt(p), kinematics.eta(p), kinematics.phi(p), kinematics.mass(p)
    eta, phi = eta + angle * torch.cos(towards), phi + angle * torch.sin(towards)
    beside = kinematics.from_pt_eta_phi(softer * pt, eta, phi, softer * mass)
    both = torch.stack(((1 - softer)[:, None] * p, beside), dim=1).flatten(0, 1)
    present = torch.stack((torch.ones_like(split), split), dim=1).flatten()
    rows = torch.arange(len(p), device=batch.device).repeat_interleave(2)[present]
    return _changed(batch, both[present], rows)


# ------------------------------------------------------------------------------------------------------------


def _changed(batch: JetBatch, momenta: Tensor, rows: Tensor | None = None) -> JetBatch:
    """The batch with other constituents, `rows` [M] of which tell from which they come; rescaled to the
    transverse momentum that each jet had, and without what followed from momenta."""
    of = batch.jet_of if rows is None else batch.jet_of[rows]
    offsets = F.pad(torch.bincount(of, minlength=len(batch)).cumsum(0), (1, 0))
    before = segment_sum(batch.four_momenta, batch.offsets)
    after = segment_sum(momenta, offsets)
    tiny = torch.finfo(momenta.dtype).tiny
    scale = torch.where(
        kinematics.pt(after) > 0, kinematics.pt(before) / kinematics.pt(after).clamp_min(tiny), 1.0
    )
    momenta = momenta * scale[of, None]
    own = batch.jet_momenta
    if own is not None:
        own = own + (scale[:, None] * after - before)
    return replace(with_constituents(batch, momenta, offsets, rows), jet_momenta=own)


def _drawn_by(pt: Tensor, batch: JetBatch) -> Tensor:
    """The position of one constituent of each jet, drawn in proportion to its transverse momentum, [B]; of
    no meaning for a jet without constituents."""
    keys = torch.log(-torch.log(_uniform(batch, len(pt)).clamp(1e-12, 1 - 1e-7))) - torch.log(
        pt.clamp_min(1e-12)
    )
    order = torch.argsort(keys)
    order = order[torch.argsort(batch.jet_of[order], stable=True)]
    return order[batch.offsets[:-1].clamp_max(max(len(pt) - 1, 0))] if len(pt) else batch.offsets[:-1]


def _uniform(batch: JetBatch, many: int) -> Tensor:
    return torch.rand(many, device=batch.device, dtype=batch.dtype)


def _normal(batch: JetBatch, many: int) -> Tensor:
    return torch.randn(many, device=batch.device, dtype=batch.dtype)
