"""Random transformations of a batch that physics allows, applied on the device, one draw a jet; each says
what it keeps (`AUGMENTATIONS`).

`rotate_phi` turns a jet about the beam, `reflect_phi` mirrors it in the plane of beam and jet axis,
`reflect_eta` mirrors the detector along the beam. Stored features relative to the jet axis are changed along:
a rotation leaves them as they are, a reflection in phi turns the sign of `delta_phi` and, with it, of the
transverse impact parameter `d0`. `delta_eta` is signed by the jet's hemisphere and so does not change under
`reflect_eta`, but `dz` turns its sign. A boost along the beam, a rotation about the jet axis, soft smearing
and collinear splitting leave stored features that follow from momenta out, to be recomputed. The first three
take a jet's further collections along. Larger changes, which make another jet of a jet, are in
`hepml.training.perturbations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml import kinematics
from hepml.data import features as feature_table
from hepml.data import jet_columns
from hepml.data.batch import JetBatch
from hepml.data.changed_jets import with_constituents, without_momentum_features
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.training import perturbations

# Features that turn their sign under each reflection; every other feature of the table is even.
_ODD = {"reflect_phi": ("delta_phi", "d0"), "reflect_eta": ("dz",)}


def rotate_phi(batch: JetBatch) -> JetBatch:
    """Each jet turned about the beam by its own uniform angle; features relative to the jet axis do not
    change."""
    angle = torch.rand(len(batch), device=batch.device, dtype=batch.dtype) * (2 * math.pi)

    def turned(part: JetBatch) -> JetBatch:
        momenta = _turn(part.four_momenta, angle[part.jet_of])
        jets = None if part.jet_momenta is None else _turn(part.jet_momenta, angle)
        return replace(part, four_momenta=momenta, jet_momenta=jets)

    return _of_all_collections(turned, batch)


def reflect_phi(batch: JetBatch) -> JetBatch:
    """Half of the jets mirrored in the plane of beam and jet axis: delta_phi -> -delta_phi."""
    mirrored, axis = _coin(batch), kinematics.phi(batch.jets)

    def reflected(part: JetBatch) -> JetBatch:
        p = part.four_momenta
        phi, pt = 2 * axis[part.jet_of] - kinematics.phi(p), kinematics.pt(p)
        other = torch.stack((p[:, 0], pt * torch.cos(phi), pt * torch.sin(phi), p[:, 3]), dim=-1)
        momenta = torch.where(mirrored[part.jet_of, None], other, p)
        # the jet axis lies in the mirror plane, so the jet's own momentum stays
        return replace(_flip(part, mirrored, "reflect_phi"), four_momenta=momenta)

    return _of_all_collections(reflected, batch)


def reflect_eta(batch: JetBatch) -> JetBatch:
    """Half of the jets mirrored along the beam: pz -> -pz."""
    mirrored = _coin(batch)
    sign = torch.where(mirrored, -1.0, 1.0).to(batch.dtype)

    def reflected(part: JetBatch) -> JetBatch:
        momenta = _mirror_z(part.four_momenta, sign[part.jet_of])
        jets = None if part.jet_momenta is None else _mirror_z(part.jet_momenta, sign)
        return replace(_flip(part, mirrored, "reflect_eta"), four_momenta=momenta, jet_momenta=jets)

    return _of_all_collections(reflected, batch)


def boost_z(batch: JetBatch) -> JetBatch:
    """Each jet boosted along the beam by its own rapidity, uniform within one unit."""
    shift = (2 * torch.rand(len(batch), device=batch.device, dtype=batch.dtype) - 1) * RAPIDITY
    momenta = _boost_z(batch.four_momenta, shift[batch.jet_of])
    jets = None if batch.jet_momenta is None else _boost_z(batch.jet_momenta, shift)
    return replace(without_momentum_features(batch), four_momenta=momenta, jet_momenta=jets)


def rotate_axis(batch: JetBatch) -> JetBatch:
    """Each jet turned about its own axis by a uniform angle."""
    angle = torch.rand(len(batch), device=batch.device, dtype=batch.dtype) * (2 * math.pi)
    axis = batch.jets[:, 1:]
    axis = axis / torch.linalg.vector_norm(axis, dim=1, keepdim=True).clamp_min(torch.finfo(axis.dtype).tiny)
    n, c, s = axis[batch.jet_of], torch.cos(angle)[batch.jet_of, None], torch.sin(angle)[batch.jet_of, None]
    v = batch.four_momenta[:, 1:]
    along = (v * n).sum(dim=1, keepdim=True) * n
    turned = along + c * (v - along) + s * torch.linalg.cross(n, v)
    momenta = torch.cat((batch.four_momenta[:, :1], turned), dim=1)
    return with_constituents(batch, momenta)


def smear_soft(batch: JetBatch) -> JetBatch:
    """Directions of constituents smeared by SOFT / pT, as soft radiation that was not seen would do: the
    softest move, the hard ones stay (arXiv:2108.04253)."""
    p = batch.four_momenta
    pt = kinematics.pt(p)
    width = torch.where(pt > 0, SOFT / pt.clamp_min(1e-3), 0.0).clamp_max(0.1)
    eta = kinematics.eta(p) + width * torch.randn_like(pt)
    phi = kinematics.phi(p) + width * torch.randn_like(pt)
    momenta = kinematics.from_pt_eta_phi(pt, eta, phi, kinematics.mass(p))
    return with_constituents(batch, momenta)


def split_collinear(batch: JetBatch) -> JetBatch:
    """One constituent of each jet split into two of the same direction, with a uniform share of its
    momentum."""
    has = batch.counts > 0
    place = (torch.rand(len(batch), device=batch.device) * batch.counts).long().clamp_max(batch.counts - 1)
    chosen = (batch.offsets[:-1] + place)[has]
    share = torch.rand(len(chosen), device=batch.device, dtype=batch.dtype)
    offsets = F.pad((batch.counts + has.long()).cumsum(0), (1, 0))
    rows = torch.empty(int(offsets[-1]), dtype=torch.int64, device=batch.device)
    copies = (offsets[1:] - 1)[has]
    old = torch.ones(len(rows), dtype=torch.bool, device=batch.device)
    old[copies] = False
    rows[old] = torch.arange(len(batch.four_momenta), device=batch.device)
    rows[copies] = chosen
    momenta = batch.four_momenta.clone()
    momenta[chosen] = share[:, None] * momenta[chosen]
    momenta = momenta[rows]
    momenta[copies] = (1 - share)[:, None] * batch.four_momenta[chosen]
    return with_constituents(batch, momenta, offsets, rows)


RAPIDITY = 1.0  # largest boost along the beam
SOFT = 0.1  # GeV


@dataclass(frozen=True)
class Augmentation:
    """A random change of jets, and what it keeps.

    Args:
        change: from a batch to one of as many jets.
        keeps: of each jet, "mass" and "pt" of the jet; "constituents": number, pT and mass of each; "angles":
            distances of constituents in rapidity and azimuth; "safe": everything that is infrared and
            collinear safe.
        exact: whether it is a symmetry of the physics, or a resolution below which jets are alike.
        further: whether further collections of a jet (secondary vertices) are changed along with it.
        stale: raw columns of constituents from a file that would be wrong behind it, and for which nothing
            here knows what they become.
        another: whether it makes another jet of a jet, of which no jet column of a file is true.
    """

    change: Callable[[JetBatch], JetBatch]
    keeps: tuple[str, ...]
    exact: bool = True
    further: bool = False
    stale: tuple[str, ...] = ()
    another: bool = False

    def __call__(self, batch: JetBatch) -> JetBatch:
        return self.change(batch)


_ALL = ("mass", "pt", "constituents", "angles", "safe")
_TRACK = feature_table.TRACK_COLUMNS
AUGMENTATIONS: dict[str, Augmentation] = {
    "rotate_phi": Augmentation(rotate_phi, _ALL, further=True),
    "reflect_phi": Augmentation(reflect_phi, _ALL, further=True),
    "reflect_eta": Augmentation(reflect_eta, _ALL, further=True),
    "boost_z": Augmentation(boost_z, _ALL, stale=("dz", "dz_error")),
    "rotate_axis": Augmentation(rotate_axis, ("mass", "pt"), stale=_TRACK),
    "smear_soft": Augmentation(smear_soft, ("constituents",), exact=False),
    "split_collinear": Augmentation(split_collinear, ("mass", "pt", "safe"), exact=False),
    **{
        change.__name__: Augmentation(change, ("pt",), exact=False, stale=_TRACK, another=True)
        for change in (
            perturbations.move_prong,
            perturbations.smear_momenta,
            perturbations.drop_soft,
            perturbations.split_wide,
        )
    },
}


def apply(names: Sequence[str], batch: JetBatch) -> JetBatch:
    """The batch after the named augmentations, in their order."""
    if names and batch.raw:  # a file's own relative coordinates would stay as they were
        batch = _of_all_collections(
            lambda part: replace(part, raw=feature_table.not_from_momenta(part.raw)), batch
        )
    if names:
        batch = _without_derived(batch)
    for name in names:
        batch = AUGMENTATIONS[name](batch)
    return batch


def refuse_stale(names: Sequence[str], inputs: Inputs) -> None:
    """Refuses augmentations that would leave columns of a file as they were where they are no longer true.

    Raises:
        ConfigError: names the augmentation and the columns.
    """
    columns = feature_table.raw_columns_for(inputs.features)
    of_jets = jet_columns.needed_from_file(inputs.jet_features)
    for name in names:
        kind = AUGMENTATIONS[name]
        stale = [*(c for c in columns if c in kind.stale), *(of_jets if kind.another else ())]
        if inputs.collections and not kind.further:
            listed = ", ".join(name for name, _ in inputs.collections)
            whole = ", ".join(name for name, other in AUGMENTATIONS.items() if other.further)
            raise ConfigError(
                f"{name} does not move the further collections ({listed})",
                where="training.augment",
                mend=f"leave it out (those that do: {whole}), or leave out model.collections",
            )
        if stale:
            raise ConfigError(
                f"{name} does not know what becomes of {', '.join(stale)}",
                where="training.augment",
                mend="leave it out, or choose features that follow from momenta",
            )


def _without_derived(batch: JetBatch) -> JetBatch:
    """The batch without stored jet columns that follow from momenta, which are recomputed."""
    names = batch.jet_feature_names
    kept = [i for i, name in enumerate(names) if name not in jet_columns.DERIVED]
    if batch.jet_features is None or len(kept) == len(names):
        return batch
    columns = batch.jet_features[:, kept] if kept else None
    return replace(batch, jet_features=columns, jet_feature_names=tuple(names[i] for i in kept))


def _of_all_collections(change: Callable[[JetBatch], JetBatch], batch: JetBatch) -> JetBatch:
    """The same change, with the same draw a jet, of the constituents and of every further collection."""
    changed = change(batch)
    if not batch.collections:
        return changed
    return replace(changed, collections={name: change(part) for name, part in batch.collections.items()})


def _boost_z(p: Tensor, rapidity: Tensor) -> Tensor:
    c, s = torch.cosh(rapidity), torch.sinh(rapidity)
    return torch.stack((c * p[:, 0] + s * p[:, 3], p[:, 1], p[:, 2], s * p[:, 0] + c * p[:, 3]), dim=-1)


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
