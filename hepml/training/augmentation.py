"""Random transformations of a batch that are true symmetries of the physics, applied on the device, one draw
a jet.

`rotate_phi` turns a jet about the beam, `reflect_phi` mirrors it in the plane of beam and jet axis,
`reflect_eta` mirrors the detector along the beam. Stored features relative to the jet axis are changed along:
a rotation leaves them as they are, a reflection in phi turns the sign of `delta_phi` and, with it, of the
transverse impact parameter `d0`. `delta_eta` is signed by the jet's hemisphere and so does not change under
`reflect_eta`, but `dz` turns its sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch

# Features that turn their sign under each reflection; every other feature of the table is even.
_ODD = {"reflect_phi": ("delta_phi", "d0"), "reflect_eta": ("dz",)}


def rotate_phi(batch: JetBatch) -> JetBatch:
    """Each jet turned about the beam by its own uniform angle; features relative to the jet axis do not
    change."""
    angle = torch.rand(len(batch), device=batch.device, dtype=batch.dtype) * (2 * math.pi)
    momenta = _turn(batch.four_momenta, angle[batch.jet_of])
    jets = None if batch.jet_momenta is None else _turn(batch.jet_momenta, angle)
    return replace(batch, four_momenta=momenta, jet_momenta=jets)


def reflect_phi(batch: JetBatch) -> JetBatch:
    """Half of the jets mirrored in the plane of beam and jet axis: delta_phi -> -delta_phi."""
    mirrored = _coin(batch)
    axis = kinematics.phi(batch.jets)[batch.jet_of]
    p = batch.four_momenta
    phi = 2 * axis - kinematics.phi(p)
    pt = kinematics.pt(p)
    reflected = torch.stack((p[:, 0], pt * torch.cos(phi), pt * torch.sin(phi), p[:, 3]), dim=-1)
    momenta = torch.where(mirrored[batch.jet_of, None], reflected, p)
    # the jet axis lies in the mirror plane, so the jet's own momentum stays
    return replace(_flip(batch, mirrored, "reflect_phi"), four_momenta=momenta)


def reflect_eta(batch: JetBatch) -> JetBatch:
    """Half of the jets mirrored along the beam: pz -> -pz."""
    mirrored = _coin(batch)
    sign = torch.where(mirrored, -1.0, 1.0).to(batch.dtype)
    momenta = _mirror_z(batch.four_momenta, sign[batch.jet_of])
    jets = None if batch.jet_momenta is None else _mirror_z(batch.jet_momenta, sign)
    return replace(_flip(batch, mirrored, "reflect_eta"), four_momenta=momenta, jet_momenta=jets)


AUGMENTATIONS: dict[str, Callable[[JetBatch], JetBatch]] = {
    f.__name__: f for f in (rotate_phi, reflect_phi, reflect_eta)
}


def apply(names: Sequence[str], batch: JetBatch) -> JetBatch:
    """The batch after the named augmentations, in their order."""
    if names and batch.raw:  # a file's own relative coordinates would stay as they were
        batch = replace(batch, raw=feature_table.not_from_momenta(batch.raw))
    for name in names:
        batch = AUGMENTATIONS[name](batch)
    return batch


def _coin(batch: JetBatch) -> Tensor:
    return torch.rand(len(batch), device=batch.device) < 0.5


def _turn(p: Tensor, angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack((p[:, 0], c * p[:, 1] - s * p[:, 2], s * p[:, 1] + c * p[:, 2], p[:, 3]), dim=-1)


def _mirror_z(p: Tensor, sign: Tensor) -> Tensor:
    return torch.stack((p[:, 0], p[:, 1], p[:, 2], p[:, 3] * sign), dim=-1)


def _flip(batch: JetBatch, mirrored: Tensor, reflection: str) -> JetBatch:
    if batch.features is None:
        return batch
    odd = [i for i, name in enumerate(batch.feature_names) if name in _ODD[reflection]]
    if not odd:
        return batch
    features = batch.features.clone()
    sign = torch.where(mirrored, -1.0, 1.0).to(batch.dtype)[batch.jet_of, None]
    features[:, odd] = features[:, odd] * sign
    return replace(batch, features=features)
