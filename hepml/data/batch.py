"""`JetBatch`, the one currency of hepml: packed constituents of several jets, without padding.

Constituents of all jets stand one behind the other; `offsets` says where each jet begins and ends. Models
take a `JetBatch` and return the parameters of q(z|x), one row a jet. Padded views are made by
`hepml.representations`, never here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hepml import kinematics
from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.errors import DataError, LayoutError, did_you_mean

if TYPE_CHECKING:
    import awkward as ak

ArrayLike = Any


@dataclass(frozen=True, eq=False)
class JetBatch:
    """Several jets, packed.

    Args:
        four_momenta: [ΣN, 4] constituents as (E, px, py, pz) in GeV.
        offsets: [B + 1] int64; the constituents of jet b are rows `offsets[b]:offsets[b + 1]`. A jet may have
            none.
        features: [ΣN, F] standardised constituent features, or None where only four-momenta are known.
        feature_names: the F names; empty for unnamed features, which are then taken in the order a model asks
            for.
        jet_features: [B, J] jet-level columns, or None.
        jet_feature_names: the J names.
        labels: [B] int64 classes or [B, T] float regression targets, or None.
        weights: [B] event weights, or None for one each.
        index: [B] int64 position of each jet in its source, or None.
        jet_momenta: [B, 4] the jets' own four-momenta where the file has them; else the sum of the
            constituents is used.
        extras: further views that travel along, by name (see `hepml.data.extras`), one row a constituent or
            one row a jet each.
    """

    four_momenta: Tensor
    offsets: Tensor
    features: Tensor | None = None
    feature_names: tuple[str, ...] = ()
    jet_features: Tensor | None = None
    jet_feature_names: tuple[str, ...] = ()
    labels: Tensor | None = None
    weights: Tensor | None = None
    index: Tensor | None = None
    jet_momenta: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    # ------------------------------------------------------------------ making

    @classmethod
    def from_arrays(
        cls,
        four_momenta: ArrayLike,
        offsets: ArrayLike,
        features: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        feature_names: str | Sequence[str] = (),
        jet_features: ArrayLike | None = None,
        jet_feature_names: Sequence[str] = (),
        weights: ArrayLike | None = None,
        index: ArrayLike | None = None,
        dtype: torch.dtype | None = None,
    ) -> JetBatch:
        """A batch from numpy arrays, tensors or sequences, which are viewed where their dtype allows.

        Args:
            four_momenta: [ΣN, 4] as (E, px, py, pz) in GeV.
            offsets: [B + 1], rising from 0 to ΣN.
            features: [ΣN, F] standardised features. Left out, the features that follow from four-momenta are
                computed when a model asks.
            labels: [B] classes (integers) or [B] or [B, T] targets (floats).
            feature_names: the F names, or the name of a feature set; without them a model takes the columns
                in its own order.
            jet_features, jet_feature_names: [B, J] jet-level columns and their names.
            weights: [B].
            index: [B] positions in the source.
            dtype: floating dtype of the batch; that of `four_momenta` where left out (float32 for integers).

        Raises:
            DataError: shapes that do not fit each other, offsets that do not rise from 0 to ΣN, NaN or
                infinite momenta.
        """
        p = _tensor(four_momenta)
        if dtype is None:
            dtype = p.dtype if p.is_floating_point() else torch.float32
        p = p.to(dtype)
        o = _tensor(offsets).to(device=p.device, dtype=torch.int64)
        _check_packed(p, o)
        f = None if features is None else _tensor(features).to(device=p.device, dtype=dtype)
        names = feature_table.resolve(feature_names) if feature_names else ()
        if f is not None and (f.ndim != 2 or f.shape[0] != p.shape[0]):
            raise DataError(
                f"features have shape {tuple(f.shape)}, four_momenta {tuple(p.shape)}",
                mend="give one row a constituent: [ΣN, F]",
            )
        if f is not None and names and len(names) != f.shape[1]:
            raise DataError(
                f"{len(names)} feature names for {f.shape[1]} feature columns", mend="name each column once"
            )
        y = None if labels is None else _tensor(labels).to(p.device)
        if y is not None:
            y = y.to(dtype) if y.is_floating_point() else y.to(torch.int64)
            _check_rows("labels", y, len(o) - 1)
        w = None if weights is None else _tensor(weights).to(device=p.device, dtype=dtype)
        if w is not None:
            _check_rows("weights", w, len(o) - 1)
        j = None if jet_features is None else _tensor(jet_features).to(device=p.device, dtype=dtype)
        if j is not None:
            _check_rows("jet_features", j, len(o) - 1)
        i = None if index is None else _tensor(index).to(device=p.device, dtype=torch.int64)
        return cls(p, o, f, tuple(names), j, tuple(jet_feature_names), y, w, i)

    @classmethod
    def from_awkward(cls, jets: ak.Array, features: str | Sequence[str] = (), **selection: Any) -> JetBatch:
        """A batch from awkward jets as `hepml.read_jets` gives them.

        Args:
            jets: one entry a jet, with `constituents` (px, py, pz, energy and any further columns) and
                jet-level fields.
            features: constituent features to compute, by name or set; none computes them on demand from
                four-momenta.
            selection: `jet_features`, `max_constituents`, `label`, `weight`, `dtype` (see
                `hepml.data.packing.pack`).
        """
        from hepml.data.packing import pack

        return pack(jets, features=features, **selection)

    # ------------------------------------------------------------------ asking

    def __len__(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @property
    def device(self) -> torch.device:
        return self.four_momenta.device

    @property
    def dtype(self) -> torch.dtype:
        return self.four_momenta.dtype

    @cached_property
    def counts(self) -> Tensor:
        """Constituents in each jet, [B] int64."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def jet_of(self) -> Tensor:
        """Index of the jet that each constituent belongs to, [ΣN] int64."""
        jets = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(jets, self.counts, output_size=self.four_momenta.shape[0])

    @cached_property
    def max_count(self) -> int:
        """Constituents of the largest jet."""
        return int(self.counts.max()) if len(self) else 0

    @cached_property
    def jets(self) -> Tensor:
        """Four-momentum of each jet, [B, 4]: the file's own where it is known, else the sum of the
        constituents."""
        if self.jet_momenta is not None:
            return self.jet_momenta
        return self.four_momenta.new_zeros((len(self), 4)).index_add_(0, self.jet_of, self.four_momenta)

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """Raw columns that follow from the four-momenta alone, each [ΣN]."""
        return feature_table.momentum_columns(self.four_momenta, self.jet_of, self.jets)

    def select(self, names: Sequence[str]) -> Tensor:
        """Constituent features by name, [ΣN, len(names)].

        Stored columns are returned as they are (a view where all are asked for in their order); features that
        need only four-momenta are computed where they are not stored.

        Raises:
            LayoutError: a feature is neither stored nor computable; names it and the nearest there is.
        """
        names = tuple(names)
        stored = self.features
        if stored is not None and not self.feature_names:
            if stored.shape[1] != len(names):
                raise LayoutError(
                    f"the batch has {stored.shape[1]} unnamed feature columns, {len(names)} were asked "
                    f"for ({', '.join(names)})",
                    mend="give these columns in that order, or name them with feature_names=",
                )
            return stored
        if stored is not None and names == self.feature_names:
            return stored
        at = {name: i for i, name in enumerate(self.feature_names)}
        if stored is not None and all(name in at for name in names):
            return stored[:, [at[name] for name in names]]
        parts = []
        for name in names:
            if stored is not None and name in at:
                parts.append(stored[:, at[name]])
                continue
            feature = feature_table.lookup(name)
            absent = [c for c in feature.needs if c not in self.columns]
            if absent:
                known = [
                    *self.feature_names,
                    *(n for n, f in feature_table.FEATURES.items() if set(f.needs) <= set(self.columns)),
                ]
                raise LayoutError(
                    f"these jets have no feature '{name}'",
                    mend=did_you_mean(name, known, noun="features at hand"),
                )
            parts.append(feature(self.columns))
        return (
            torch.stack(parts, dim=-1)
            if parts
            else self.four_momenta.new_zeros((self.four_momenta.shape[0], 0))
        )

    def extra(self, name: str) -> Tensor:
        """A further view by name: the one that travels along, else made from the four-momenta and kept with
        this batch.

        Raises:
            LayoutError: no such extra; names the nearest.
        """
        if name in self.extras:
            return self.extras[name]
        made: dict[str, Tensor] = self.__dict__.setdefault("_made", {})
        if name not in made:
            with torch.no_grad():
                made[name] = extra_table.lookup(name).build(self.four_momenta, self.offsets)
        return made[name]

    def select_jets(self, names: Sequence[str]) -> Tensor:
        """Jet-level columns by name, [B, len(names)].

        `jet_pt`, `jet_eta`, `jet_phi`, `jet_energy`, `jet_mass` and `jet_nparticles` follow from the
        constituents where they are not stored.

        Raises:
            LayoutError: a column is neither stored nor computable.
        """
        at = {name: i for i, name in enumerate(self.jet_feature_names)}
        parts = []
        for name in names:
            if self.jet_features is not None and name in at:
                parts.append(self.jet_features[:, at[name]])
            elif name in _DERIVED_JET_COLUMNS:
                parts.append(_DERIVED_JET_COLUMNS[name](self))
            else:
                raise LayoutError(
                    f"these jets have no column '{name}'",
                    mend=did_you_mean(
                        name, [*self.jet_feature_names, *_DERIVED_JET_COLUMNS], noun="columns at hand"
                    ),
                )
        return torch.stack(parts, dim=-1) if parts else self.four_momenta.new_zeros((len(self), 0))

    # ------------------------------------------------------------------ changing

    def to(
        self, device_or_dtype: torch.device | torch.dtype | str, *, non_blocking: bool = False
    ) -> JetBatch:
        """The batch on another device, or with another floating dtype; offsets, classes and indices keep
        theirs."""

        def move(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return t
            if isinstance(device_or_dtype, torch.dtype):
                return t.to(device_or_dtype) if t.is_floating_point() else t
            return t.to(device_or_dtype, non_blocking=non_blocking)

        changed = {f.name: move(getattr(self, f.name)) for f in fields(self)}
        changed["extras"] = {name: move(t) for name, t in self.extras.items()}
        return replace(self, **changed)

    def pin_memory(self) -> JetBatch:
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        changed: dict[str, Any] = {
            f.name: v.pin_memory() for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        changed["extras"] = {name: t.pin_memory() for name, t in self.extras.items()}
        return replace(self, **changed)

    def with_four_momenta(self, four_momenta: Tensor) -> JetBatch:
        """The same jets with other four-momenta [ΣN, 4]; stored constituent features, jet momenta
        and extras, which would no longer fit, are left out."""
        return replace(
            self, four_momenta=four_momenta, features=None, feature_names=(), jet_momenta=None, extras={}
        )

    def permute(self, order: Tensor) -> JetBatch:
        """The same jets with constituents in another order; `order` [ΣN] must keep each constituent in its
        jet. Extras are left out, and made anew when asked for."""
        taken = None if self.features is None else self.features[order]
        return replace(self, four_momenta=self.four_momenta[order], features=taken, extras={})

    def take(self, jets: ArrayLike) -> JetBatch:
        """The jets at these positions, in this order, as a new packed batch; extras that are not registered
        are left out."""
        which = _tensor(jets).to(device=self.device)
        which = which.nonzero().flatten() if which.dtype == torch.bool else which.to(torch.int64)
        counts = self.counts[which]
        offsets = torch.zeros(len(which) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        total = int(offsets[-1])
        rows = torch.arange(total, device=self.device) + torch.repeat_interleave(
            self.offsets[which] - offsets[:-1], counts, output_size=total
        )

        def jet(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[which]

        known = {name: found for name in self.extras if (found := extra_table.find(name)) is not None}
        return replace(
            self,
            four_momenta=self.four_momenta[rows],
            offsets=offsets,
            features=None if self.features is None else self.features[rows],
            jet_features=jet(self.jet_features),
            labels=jet(self.labels),
            weights=jet(self.weights),
            index=jet(self.index),
            jet_momenta=jet(self.jet_momenta),
            extras={n: self.extras[n][rows if e.per == "constituent" else which] for n, e in known.items()},
        )


_DERIVED_JET_COLUMNS = {
    "jet_pt": lambda b: kinematics.pt(b.jets),
    "jet_eta": lambda b: kinematics.eta(b.jets),
    "jet_phi": lambda b: kinematics.phi(b.jets),
    "jet_energy": lambda b: b.jets[:, 0],
    "jet_mass": lambda b: kinematics.mass(b.jets),
    "jet_nparticles": lambda b: b.counts.to(b.dtype),
}


def _tensor(values: ArrayLike) -> Tensor:
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    if not array.flags.writeable:  # torch views writable memory only
        array = array.copy()
    return torch.from_numpy(np.ascontiguousarray(array))


def _check_rows(name: str, t: Tensor, jets: int) -> None:
    if t.shape[:1] != (jets,):
        raise DataError(f"{name} have shape {tuple(t.shape)} for {jets} jets", mend="give one row a jet")


def _check_packed(p: Tensor, offsets: Tensor) -> None:
    if p.ndim != 2 or p.shape[1] != 4:
        raise DataError(
            f"four_momenta have shape {tuple(p.shape)}", mend="give [ΣN, 4] as (E, px, py, pz) in GeV"
        )
    if (
        offsets.ndim != 1
        or len(offsets) < 1
        or int(offsets[0]) != 0
        or int(offsets[-1]) != p.shape[0]
        or bool((offsets.diff() < 0).any())
    ):
        raise DataError(
            f"offsets do not rise from 0 to the {p.shape[0]} constituents",
            mend="give [B + 1] offsets, as numpy.concatenate([[0], numpy.cumsum(counts)])",
        )
    if not bool(torch.isfinite(p).all()):
        bad = int((~torch.isfinite(p)).any(dim=1).nonzero()[0])
        jet = int(torch.searchsorted(offsets, torch.tensor(bad, device=offsets.device), right=True)) - 1
        raise DataError(
            "NaN or infinite four-momentum",
            where=f"jet {jet}, constituent {bad - int(offsets[jet])}",
            mend="drop or repair that jet",
        )
