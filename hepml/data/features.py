"""Named constituent features with the published standardisation.

A feature is a name, the raw columns it needs, a formula and the standardisation `(x - shift) * scale`,
clipped as the published recipe clips it (JetClass, arXiv:2202.03772). Raw columns are flat tensors over all
constituents of all jets, so every formula is one vectorised expression. Features that need only four-momenta
can be computed for any batch, on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.jet_columns import ROUNDING
from hepml.errors import LayoutError, did_you_mean

Columns = Mapping[str, Tensor]


@dataclass(frozen=True)
class Feature:
    """One constituent feature.

    Args:
        name: the name that configs and models use.
        needs: raw columns (see `RAW_COLUMNS`) that the formula reads.
        formula: from flat raw columns [ΣN] to the unstandardised feature [ΣN].
        shift, scale: standardised value is `(x - shift) * scale`.
        clip: bounds after standardisation, or None.
    """

    name: str
    needs: tuple[str, ...]
    formula: Callable[[Columns], Tensor]
    shift: float = 0.0
    scale: float = 1.0
    clip: tuple[float, float] | None = None

    def __call__(self, columns: Columns) -> Tensor:
        """The standardised feature, [ΣN]."""
        x = self.formula(columns)
        if self.shift != 0.0 or self.scale != 1.0:
            x = (x - self.shift) * self.scale
        return x if self.clip is None else x.clamp(*self.clip)


# Raw constituent columns. The first block follows from four-momenta alone; `jet_*` are the jet's values
# repeated for each constituent.
# delta_eta is signed by the jet's hemisphere, (eta - eta_jet) * sign(eta_jet), as in JetClass.
MOMENTUM_COLUMNS = ("px", "py", "pz", "energy", "pt", "delta_eta", "delta_phi", "jet_pt", "jet_energy")
_NEVER_READ = ("px", "py", "pz", "energy", "pt", "jet_pt", "jet_energy")
TRACK_COLUMNS = ("d0", "d0_error", "dz", "dz_error")
PID_COLUMNS = ("charge", "is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
RAW_COLUMNS = MOMENTUM_COLUMNS + TRACK_COLUMNS + PID_COLUMNS

_WIDE = (-5.0, 5.0)
_TINY = 1e-30
_NOTHING = 1e-20  # GeV
_LARGE = 1e10


def _log(x: Tensor) -> Tensor:
    return torch.log(x.clamp_min(_TINY))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole; of a whole that is zero (a jet whose constituents balance) everything is a large part,
    and nothing none. Finite in value and gradient, unlike 0 / 0, which a clip does not mend."""
    if kinematics.all_at_least(whole, _NOTHING):
        return part / whole
    nothing = whole.abs() < _NOTHING
    large = torch.where(part > 0, torch.full_like(part, _LARGE), torch.zeros_like(part))
    return torch.where(nothing, large, part / whole.masked_fill(nothing, 1.0))


def _as_is(name: str) -> Feature:
    return Feature(name, (name,), lambda c: c[name])


_ALL = [
    Feature("log_pt", ("pt",), lambda c: _log(c["pt"]), 1.7, 0.7, _WIDE),
    Feature("log_energy", ("energy",), lambda c: _log(c["energy"]), 2.0, 0.7, _WIDE),
    Feature("log_pt_rel", ("pt", "jet_pt"), lambda c: _log(_ratio(c["pt"], c["jet_pt"])), -4.7, 0.7, _WIDE),
    Feature(
        "log_energy_rel",
        ("energy", "jet_energy"),
        lambda c: _log(_ratio(c["energy"], c["jet_energy"])),
        -4.7,
        0.7,
        _WIDE,
    ),
    Feature(
        "delta_r",
        ("delta_eta", "delta_phi"),
        lambda c: kinematics.length(c["delta_eta"], c["delta_phi"]),
        0.2,
        4.0,
        _WIDE,
    ),
    _as_is("charge"),
    _as_is("is_charged_hadron"),
    _as_is("is_neutral_hadron"),
    _as_is("is_photon"),
    _as_is("is_electron"),
    _as_is("is_muon"),
    Feature("d0", ("d0",), lambda c: torch.tanh(c["d0"])),
    Feature("d0_error", ("d0_error",), lambda c: c["d0_error"], clip=(0.0, 1.0)),
    Feature("dz", ("dz",), lambda c: torch.tanh(c["dz"])),
    Feature("dz_error", ("dz_error",), lambda c: c["dz_error"], clip=(0.0, 1.0)),
    _as_is("delta_eta"),
    _as_is("delta_phi"),
    # Momentum fraction of the jet; linear in pT, as infrared and collinear safety asks (arXiv:1810.05165).
    # Only in a jet whose constituents balance is it far above one; there it is bounded.
    Feature("pt_fraction", ("pt", "jet_pt"), lambda c: _ratio(c["pt"], c["jet_pt"]), clip=(0.0, 10.0)),
]

# What a constituent is, one column a particle and its antiparticle (arXiv:2201.08187, quark or gluon).
PDG_IDS = (11, 13, 22, 130, 211, 321, 2112, 2212)


def _is_kind(number: int) -> Feature:
    return Feature(
        f"pdg_{number}", ("pdg_id",), lambda c: (c["pdg_id"].abs() == number).to(c["pdg_id"].dtype)
    )


IDENTITY = tuple(f"pdg_{number}" for number in PDG_IDS)
FEATURES: dict[str, Feature] = {f.name: f for f in [*_ALL, *map(_is_kind, PDG_IDS)]}

KINEMATIC = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "delta_r", "delta_eta", "delta_phi")
KINEMATIC_PID = (*KINEMATIC[:5], *PID_COLUMNS, "delta_eta", "delta_phi")
FULL = (*KINEMATIC[:5], *PID_COLUMNS, *TRACK_COLUMNS, "delta_eta", "delta_phi")
FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "kinematic": KINEMATIC,
    "kinematic_pid": KINEMATIC_PID,
    "full": FULL,
    "identity": IDENTITY,
}


# A name that begins so is the raw column itself, also where a feature has the same name: `raw:d0`.
RAW = "raw:"


def resolve(features: str | Sequence[str]) -> tuple[str, ...]:
    """Names of a feature set (`kinematic` 7, `kinematic_pid` 13, `full` 17, in the published order), or the
    names as given."""
    if isinstance(features, str):
        if features in FEATURE_SETS:
            return FEATURE_SETS[features]
        if features in FEATURES:
            return (features,)
        raise LayoutError(
            f"unknown feature set '{features}'", mend=did_you_mean(features, [*FEATURE_SETS, *FEATURES])
        )
    return tuple(features)


def lookup(name: str) -> Feature:
    """The feature of that name; a name that is not in the table stands for the raw column of that name, as it
    is."""
    if name.startswith(RAW):
        column = name.removeprefix(RAW)
        return Feature(name, (column,), lambda c: c[column])
    return FEATURES.get(name) or _as_is(name)


def raw_columns_for(names: Iterable[str]) -> tuple[str, ...]:
    """Raw columns that these features need, without repetition, in first-use order."""
    return tuple(dict.fromkeys(column for name in names for column in lookup(name).needs))


def file_columns_for(names: Iterable[str]) -> tuple[str, ...]:
    """Of these features' raw columns, those to read from a file beside the four-momenta: a file's own
    relative coordinates among them, momenta not."""
    return tuple(c for c in raw_columns_for(names) if c not in _NEVER_READ)


def momentum_columns(four_momenta: Tensor, jet_of: Tensor, jet_momenta: Tensor) -> dict[str, Tensor]:
    """The raw columns that follow from four-momenta alone.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV.
        jet_of: [ΣN] index of each constituent's jet.
        jet_momenta: [B, 4] four-momentum of each jet.

    Returns:
        the columns named in `MOMENTUM_COLUMNS`, each [ΣN].
    """
    # Contiguous columns: torch computes strided ones by other routines, which differ in the last bit, and a
    # neighbour search makes a difference of scores of it.
    return columns_of_components(four_momenta.T.contiguous().unbind(), lambda c: c[jet_of], jet_momenta)


def columns_of_components(
    components: Sequence[Tensor], spread: Callable[[Tensor], Tensor], jet_momenta: Tensor
) -> dict[str, Tensor]:
    """The same from separate columns E, px, py, pz, each [ΣN] and contiguous.

    Angles are computed in float64 and rounded once: constituents on a calorimeter's grid are neighbours at
    equal distances, and the last bit of an angle, which no two programs share, would decide between them.

    Args:
        spread: gives each constituent the value of its jet, [B] -> [ΣN].
    """
    energy, px, py, pz = components
    jet_energy, jet_px, jet_py, jet_pz = jet_momenta.T.contiguous().unbind()
    pt, jet_pt = kinematics.length(px, py), kinematics.length(jet_px, jet_py)
    x, y, z = (c.double() for c in (px, py, pz))
    jet_x, jet_y, jet_z = (c.double() for c in (jet_px, jet_py, jet_pz))
    jet_eta = kinematics.eta_of(jet_z, kinematics.length(jet_x, jet_y))
    hemisphere = torch.where(jet_eta < 0, -1.0, 1.0).to(jet_eta.dtype)
    delta_eta = (kinematics.eta_of(z, kinematics.length(x, y)) - spread(jet_eta)) * spread(hemisphere)
    delta_phi = kinematics.signed_angle(x, y, spread(jet_x), spread(jet_y))
    return {
        "energy": energy,
        "px": px,
        "py": py,
        "pz": pz,
        "pt": pt,
        "delta_eta": delta_eta.to(energy.dtype),
        "delta_phi": delta_phi.to(energy.dtype),
        "jet_pt": spread(jet_pt),
        "jet_energy": spread(jet_energy),
    }


def with_own_columns(computed: Columns, own: Columns) -> dict[str, Tensor]:
    """Columns that follow from four-momenta, and a file's own.

    A file's own relative coordinates go before computed ones. Where both agree but for rounding, which is as
    good as always, the computed ones are taken: a constituent then has the same features to the last bit
    whether or not its file stored them.
    """
    out = dict(computed)
    for name, stored in own.items():
        if name in computed:
            reach = ROUNDING * computed[name].abs().clamp_min(1.0)
            if kinematics.all_at_least(reach - (stored - computed[name]).abs(), 0.0):
                stored = computed[name]
            else:
                stored = torch.where((stored - computed[name]).abs() <= reach, computed[name], stored)
        out[name] = stored
    return out


def not_from_momenta(columns: Columns) -> dict[str, Tensor]:
    """The columns that stay the same when four-momenta change."""
    return {name: column for name, column in columns.items() if name not in MOMENTUM_COLUMNS}


class HasColumns(Protocol):
    """What computes raw columns when they are asked for: a batch."""

    @property
    def columns(self) -> Columns: ...

    @property
    def four_momenta(self) -> Tensor: ...


def pick(
    names: Sequence[str], stored: Tensor | None, stored_names: Sequence[str], source: HasColumns
) -> Tensor:
    """Features by name, [ΣN, len(names)]: stored columns as they are (a view where all are asked for in their
    order), others computed.

    Args:
        names: features.
        stored: [ΣN, F] standardised, or None; without names they are taken in the order asked for.
        stored_names: the F names, or none.
        source: of raw columns.

    Raises:
        LayoutError: a feature is neither stored nor computable; names it and the nearest there is.
    """
    names, stored_names = tuple(names), tuple(stored_names)
    if stored is not None and not stored_names:
        if stored.shape[1] != len(names):
            raise LayoutError(
                f"the batch has {stored.shape[1]} unnamed feature columns, {len(names)} were asked "
                f"for ({', '.join(names)})",
                mend="give these columns in that order, or name them with feature_names=",
            )
        return stored
    if stored is not None and names == stored_names:
        return stored
    at = {name: i for i, name in enumerate(stored_names)}
    if stored is not None and all(name in at for name in names):
        return stored[:, [at[name] for name in names]]
    parts = []
    for name in names:
        if stored is not None and name in at:
            parts.append(stored[:, at[name]])
            continue
        feature, columns = lookup(name), source.columns
        if any(c not in columns for c in feature.needs):
            known = [*stored_names, *(n for n, f in FEATURES.items() if set(f.needs) <= set(columns))]
            raise LayoutError(
                f"these jets have no feature '{name}'",
                mend=did_you_mean(name, known, noun="features at hand"),
            )
        parts.append(feature(columns))
    p = source.four_momenta
    return torch.stack(parts, dim=-1) if parts else p.new_zeros((p.shape[0], 0))


def compute(names: Sequence[str], columns: Columns) -> Tensor:
    """Standardised features side by side, [ΣN, len(names)].

    Raises:
        LayoutError: a column that a feature needs is not there; names the feature and the nearest column.
    """
    out = compute_columns(names, columns)
    if not out:
        return next(iter(columns.values())).new_zeros((len(next(iter(columns.values()))), 0))
    return torch.stack(out, dim=-1)


def compute_columns(names: Sequence[str], columns: Columns) -> list[Tensor]:
    """The same as one tensor [ΣN] a feature."""
    out = []
    for name in names:
        feature = lookup(name)
        for column in feature.needs:
            if column not in columns:
                raise LayoutError(
                    f"feature '{name}' needs column '{column}', which these jets do not have",
                    mend=did_you_mean(column, columns, noun="columns at hand"),
                )
        out.append(feature(columns))
    return out
