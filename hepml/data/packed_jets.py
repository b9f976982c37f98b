"""`PackedJets`: the concatenated columns of several jets, what follows from them, and the same jets moved,
reordered or chosen. What users hold is a `JetBatch` (`batch.py`), which adds how jets are taken in and
shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data import arrays, jet_columns
from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.data.arrays import as_tensor, check_packed, whole
from hepml.data.reading.chunk import leading_rows
from hepml.data.rows import JetRows, gather, positions
from hepml.packed.lazy import lazy
from hepml.packed.rectangular import counts_of, mask_behind
from hepml.packed.segments import jet_of_rows, rows_in_order, segment_sum

ArrayLike = Any
_PER_JET = ("jet_features", "labels", "weights", "index", "jet_momenta")


@dataclass(frozen=True, eq=False, repr=False)
class PackedJets:
    """Several jets, packed: the columns are described at `JetBatch`."""

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
    raw: Mapping[str, Tensor] = field(default_factory=dict)
    collections: Mapping[str, Self] = field(default_factory=dict)

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
    ) -> Self:
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
        p = as_tensor(four_momenta)
        dtype = dtype or (p.dtype if p.is_floating_point() else torch.float32)
        p = p.to(dtype)
        o = whole(as_tensor(offsets), "offsets").to(p.device)
        check_packed(p, o)
        f = None if features is None else as_tensor(features).to(device=p.device, dtype=dtype)
        names = feature_table.resolve(feature_names) if feature_names else ()
        arrays.check_features(f, names, p)
        y = None if labels is None else as_tensor(labels).to(p.device)
        if y is not None:
            y = y.to(dtype) if y.is_floating_point() else y.to(torch.int64)
            arrays.check_numbers("labels", y, len(o) - 1, columns=y.is_floating_point())
        w = None if weights is None else as_tensor(weights).to(device=p.device, dtype=dtype)
        arrays.check_numbers("weights", w, len(o) - 1)
        j = None if jet_features is None else as_tensor(jet_features).to(device=p.device, dtype=dtype)
        arrays.check_numbers("jet_features", j, len(o) - 1, columns=True)
        i = None if index is None else whole(as_tensor(index), "positions").to(p.device)
        return cls(p, o, f, tuple(names), j, tuple(jet_feature_names), y, w, i)

    # ------------------------------------------------------------------ asking

    def __len__(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @property
    def device(self) -> torch.device:
        return self.four_momenta.device

    @property
    def dtype(self) -> torch.dtype:
        return self.four_momenta.dtype

    @lazy
    def counts(self) -> Tensor:
        """Constituents in each jet, [B] int64."""
        return counts_of(self.offsets)

    @lazy
    def jet_of(self) -> Tensor:
        """Index of the jet that each constituent belongs to, [ΣN] int64."""
        return jet_of_rows(self.offsets, self.four_momenta.shape[0])

    @lazy
    def sizes(self) -> tuple[int, int]:
        """Constituents of the largest jet, and the sum of the squares of all counts, from which numbers of
        pairs follow: what the device is asked for once a batch. A batch brings them along to a device."""
        mask = mask_behind(self.offsets)
        if mask is not None:
            return mask.shape[1], mask.shape[0] * mask.shape[1] ** 2
        if not len(self):
            return 0, 0
        largest, squares = torch.stack((self.counts.max(), self.counts.square().sum())).tolist()
        return largest, squares

    @property
    def max_count(self) -> int:
        """Constituents of the largest jet."""
        return self.sizes[0]

    @lazy
    def jets(self) -> Tensor:
        """Four-momentum of each jet, [B, 4]: the file's own where known, else the sum of constituents."""
        if self.jet_momenta is not None:
            return self.jet_momenta
        return segment_sum(self.four_momenta.double(), self.offsets).to(self.dtype)

    @lazy
    def columns(self) -> dict[str, Tensor]:
        """Raw columns: those that follow from the four-momenta, and those carried along; each [ΣN]."""
        computed = feature_table.momentum_columns(self.four_momenta, self.jet_of, self.jets)
        return feature_table.with_own_columns(computed, self.raw) if self.raw else computed

    def select(self, names: Sequence[str]) -> Tensor:
        """Constituent features by name, [ΣN, len(names)].

        Stored columns are returned as they are (a view where all are asked for in their order); features that
        need only four-momenta are computed where they are not stored.

        Raises:
            LayoutError: a feature is neither stored nor computable; names it and the nearest there is.
        """
        return feature_table.pick(names, self.features, self.feature_names, self)

    def extra(self, name: str) -> Tensor:
        """A further view by name: the one that travels along, else made from the four-momenta and kept with
        this batch.

        Raises:
            LayoutError: no such extra; names the nearest.
        """
        if name in self.extras:
            return self.extras[name]
        extras: dict[str, Tensor] = self.__dict__.setdefault("_made", {})
        if name not in extras:
            with torch.no_grad():
                extras[name] = extra_table.lookup(name).build(self.four_momenta, self.offsets)
        return extras[name]

    def select_jets(self, names: Sequence[str]) -> Tensor:
        """Jet-level columns by name, [B, len(names)].

        `jet_pt`, `jet_eta`, `jet_phi`, `jet_energy`, `jet_mass` and `jet_nparticles` follow from the
        constituents where they are not stored.

        Raises:
            LayoutError: a column is neither stored nor computable.
        """
        return jet_columns.pick(names, self.jet_features, self.jet_feature_names, self)

    # ------------------------------------------------------------------ changing

    def to(self, device_or_dtype: torch.device | torch.dtype | str, *, non_blocking: bool = False) -> Self:
        """The batch on another device, or with another floating dtype; offsets, classes and indices keep
        theirs."""

        def move(t: Tensor) -> Tensor:
            if isinstance(device_or_dtype, torch.dtype):
                return t.to(device_or_dtype) if t.is_floating_point() else t
            return t.to(device_or_dtype, non_blocking=non_blocking)

        return self._moved(move)

    def pin_memory(self) -> Self:
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        """The same jets elsewhere, with their sizes where these are known or cost nothing to find."""

        def each(value: Any) -> Any:
            if isinstance(value, PackedJets):
                return value._moved(move)
            if isinstance(value, Mapping):
                return {name: each(t) for name, t in value.items()}
            return move(value) if isinstance(value, Tensor) else value

        same = replace(self, **{f.name: each(getattr(self, f.name)) for f in fields(self)})
        if self.offsets.device.type == "cpu" or "sizes" in self.__dict__:
            same.__dict__["sizes"] = self.sizes
        return same

    def with_four_momenta(self, four_momenta: Tensor) -> Self:
        """The same jets with other four-momenta [ΣN, 4]; features, jet momenta, raw columns and extras that
        would no longer fit are left out."""
        kept = feature_table.not_from_momenta(self.raw)
        bare = replace(self, features=None, feature_names=(), jet_momenta=None, extras={}, raw=kept)
        return replace(bare, four_momenta=four_momenta)

    def permute(self, order: Tensor) -> Self:
        """The same jets with constituents in another order [ΣN], each in its jet; extras are left out."""
        return self._taken(self.offsets, lambda t: t[order], None)

    def take(self, jets: ArrayLike) -> Self:
        """The jets at these positions, in this order, as a new packed batch; extras that are not registered
        are left out.

        Args:
            jets: integers, or booleans [B].
        """
        return self.at(positions(jets, len(self), self.device))

    def at(self, jets: Tensor, **other: Any) -> Self:
        """As `take`, of positions [B'] that are known to be there; with further fields as they are given."""
        rows = JetRows(self.offsets, jets)
        some = self._taken(rows.offsets, rows.of, lambda t: gather(t, jets), **other)
        return some._beside(self, lambda beside: beside.at(jets))

    def reordered(self, order: Tensor) -> Self:
        """All jets in another order, a permutation [B] of their positions: nothing is asked of the device."""
        rows, offsets = rows_in_order(self.offsets, order, self.four_momenta.shape[0])
        all_jets = self._taken(offsets, lambda t: t[rows], lambda t: t[order])
        return all_jets._beside(self, lambda other: other.reordered(order))

    def slice(self, first: int, last: int) -> Self:
        """The jets first:last, as views; extras that are not registered are left out."""
        first, last, _ = slice(first, last).indices(len(self))
        last = max(first, last)
        low, high = int(self.offsets[first]), int(self.offsets[last])
        part = self._taken(
            self.offsets[first : last + 1] - low, lambda t: t[low:high], lambda t: t[first:last]
        )
        return part._beside(self, lambda other: other.slice(first, last))

    def __getitem__(self, jets: Any) -> Self:
        """`batch[5]` is one jet, `batch[:3]` a view of three; `batch[[4, 1]]` and `batch[mask]` are copies
        of those."""
        if isinstance(jets, slice) and jets.step in (None, 1):
            first, last, _ = jets.indices(len(self))
            return self.slice(first, last)
        if isinstance(jets, int | np.integer):
            at = int(positions(jets, len(self)))
            return self.slice(at, at + 1)
        return self.take(positions(jets, len(self), self.device))

    def __iter__(self) -> Iterator[Self]:
        """The jets one by one, each a batch of one."""
        return (self.slice(i, i + 1) for i in range(len(self)))

    def leading(self, most: int) -> Self:
        """The `most` leading constituents of each jet, by pT; jet momenta stay, extras are left out."""
        if self.max_count <= most:
            return self
        px, py = (self.four_momenta[:, i].detach().cpu().contiguous().numpy() for i in (1, 2))
        kept = torch.from_numpy(leading_rows(px, py, self.offsets.cpu().numpy(), most)).to(self.device)
        offsets = F.pad(self.counts.clamp_max(most).cumsum(0), (1, 0))
        shortened = self._taken(offsets, lambda t: t[kept], None)
        return replace(shortened, jet_momenta=self.jets)

    def without_padding(self) -> Self:
        """Without constituents whose four-momentum is zero, which fill up arrays of fixed size; they are left
        out of files too."""
        inside = (self.four_momenta != 0).any(dim=1)
        if bool(inside.all()):
            return self
        ends = F.pad(inside.cumsum(0), (1, 0))
        return self._taken(ends[self.offsets], lambda t: t[inside], None)

    def _beside(self, whole: Self, some: Callable[[Self], Self]) -> Self:
        """This batch with the same jets of the further collections of the whole."""
        if not whole.collections:
            return self
        return replace(self, collections={name: some(other) for name, other in whole.collections.items()})

    def _taken(
        self,
        offsets: Tensor,
        constituents: Callable[[Tensor], Tensor],
        jets: Callable[[Tensor], Tensor] | None,
        **other: Any,
    ) -> Self:
        """Every column with some of its rows; without `jets` all jets stay and their constituents change,
        and extras with them. Fields in `other` are as they are given."""
        extras = {}
        if jets is not None:
            known = {name: extra_table.find(name) for name in self.extras}
            extras = {
                n: (constituents if e.per == "constituent" else jets)(self.extras[n])
                for n, e in known.items()
                if e is not None
            }

        kept = {n: getattr(self, n) for n in _PER_JET if n not in other}
        other |= {n: t if t is None or jets is None else jets(t) for n, t in kept.items()}
        return replace(
            self,
            four_momenta=constituents(self.four_momenta),
            offsets=offsets,
            features=None if self.features is None else constituents(self.features),
            extras=extras,
            raw={name: constituents(t) for name, t in self.raw.items()},
            **other,
        )
