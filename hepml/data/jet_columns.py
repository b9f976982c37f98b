"""Jet-level columns that follow from a jet's four-momentum and its number of constituents, and that
four-momentum itself: defined here once, for files, batches and models alike.

The jets' own momentum, where a file has one, goes before the sum of the constituents (calibrated jets differ
from it). Where both agree but for rounding, the sum is taken: a jet then has the same momentum to the last
bit whether or not its file stored one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.collider import momentum_of
from hepml.errors import LayoutError, did_you_mean

# In units of the energy: more than float32 rounding, less than any calibration.
ROUNDING = 1e-5

_COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {
    "jet_pt": kinematics.pt,
    "jet_eta": kinematics.eta,
    "jet_phi": kinematics.phi,
    "jet_energy": lambda p: p[..., 0],
    "jet_mass": kinematics.mass,
}
DERIVED = (*_COLUMNS, "jet_nparticles")


def derived(name: str, momenta: Tensor, counts: Tensor) -> Tensor:
    """A jet column of `DERIVED`, computed in double precision and returned in that of the momenta, [B].

    Args:
        momenta: [B, 4] four-momenta of the jets in GeV.
        counts: [B] constituents.
    """
    if name == "jet_nparticles":
        return counts.to(momenta.dtype)
    return _COLUMNS[name](momenta.double()).to(momenta.dtype)


class Jets(Protocol):
    """What derived columns are computed from: a batch."""

    @property
    def jets(self) -> Tensor: ...

    @property
    def counts(self) -> Tensor: ...


def pick(names: Sequence[str], stored: Tensor | None, stored_names: Sequence[str], source: Jets) -> Tensor:
    """Jet columns by name, [B, len(names)]: stored ones as they are, others derived.

    Raises:
        LayoutError: a column is neither stored nor derived; names the nearest there is.
    """
    at = {name: i for i, name in enumerate(stored_names)}
    parts = []
    for name in names:
        if stored is not None and name in at:
            parts.append(stored[:, at[name]])
        elif name in DERIVED:
            parts.append(derived(name, source.jets, source.counts))
        else:
            raise LayoutError(
                f"these jets have no column '{name}'",
                mend=did_you_mean(name, [*stored_names, *DERIVED], noun="columns at hand"),
            )
    return torch.stack(parts, dim=-1) if parts else source.jets.new_zeros((len(source.jets), 0))


def derived_array(name: str, momenta: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same for numpy arrays, [B] float32."""
    return derived(name, torch.from_numpy(momenta), torch.from_numpy(counts)).numpy()


def sum_of_columns(columns: Mapping[str, np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """Sums of each jet's constituents from separate columns `energy`, `px`, `py`, `pz`, [B, 4] float64."""
    sums = np.zeros((len(offsets) - 1, 4))
    there = offsets[1:] > offsets[:-1]
    starts = offsets[:-1][there]
    if len(starts):
        with np.errstate(over="ignore", invalid="ignore"):  # of jets that no policy has dropped yet
            for i, name in enumerate(("energy", "px", "py", "pz")):
                sums[there, i] = np.add.reduceat(columns[name], starts, dtype=np.float64)
    return sums


def settle(own: np.ndarray, summed: np.ndarray) -> np.ndarray:
    """The jets' own momenta, and the sums where both agree but for rounding, [B, 4]."""
    with np.errstate(over="ignore", invalid="ignore"):
        same = (np.abs(own - summed) <= ROUNDING * np.abs(summed[:, :1])).all(axis=1)
    return np.where(same[:, None], summed, own)


def from_collider_columns(columns: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """[B, 4] float32 (E, px, py, pz) from `pt`, `eta`, `phi` and `energy` or `mass`; None where one lacks."""
    if not {"pt", "eta", "phi"} <= columns.keys() or not {"energy", "mass"} & columns.keys():
        return None
    pt, eta, phi = (columns[n].astype(np.float64) for n in ("pt", "eta", "phi"))
    with np.errstate(all="ignore"):  # what overflows is screened
        px, py, pz = momentum_of(pt, eta, phi)
        energy = (
            columns["energy"]
            if "energy" in columns
            else np.sqrt(px**2 + py**2 + pz**2 + columns["mass"].astype(np.float64) ** 2)
        )
        return np.stack([energy, px, py, pz], axis=1).astype(np.float32)


def needed_from_file(names: Sequence[str]) -> tuple[str, ...]:
    """Of these jet columns, those that do not follow from momenta."""
    return tuple(name for name in names if name not in DERIVED)
