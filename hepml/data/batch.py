"""`JetBatch`, the one currency of hepml: packed constituents of several jets, without padding.

Constituents of all jets stand one behind the other; `offsets` says where each jet begins and ends. Models
take a `JetBatch` and return the parameters of q(z|x), one row a jet. Padded views are made by
`hepml.representations`, never here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data import arrays, display, jet_columns, joining
from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.data.arrays import as_tensor, check_packed, whole
from hepml.data.padded_batch import batch_of_padded
from hepml.data.reading.chunk import leading_rows
from hepml.data.rows import gather, positions, rows_of
from hepml.packed.lazy import lazy
from hepml.packed.rectangular import counts_of, mask_behind
from hepml.packed.segments import jet_of_rows, segment_sum

if TYPE_CHECKING:
    import awkward as ak

ArrayLike = Any


@dataclass(frozen=True, eq=False, repr=False)
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
        raw: raw constituent columns besides the four-momenta (charge, d0, …), [ΣN] each, from which features
            are computed when a model asks.
        collections: further collections of the same jets by name (secondary vertices), inputs of their own:
            each a batch of as many jets, with offsets, momenta and features of its own.

    Example:
        >>> momenta = [[100.0, 60.0, 0.0, 80.0], [50.0, 30.0, 0.0, 40.0], [20.0, 0.0, 12.0, 16.0]]
        >>> batch = hepml.JetBatch.from_arrays(momenta, offsets=[0, 2, 3], labels=[1, 0])
        >>> batch.select_jets(["jet_pt", "jet_nparticles"]).tolist()
        [[90.0, 2.0], [12.0, 1.0]]
        >>> len(batch[1:]), batch[1].labels.item()
        (1, 0)
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
    raw: Mapping[str, Tensor] = field(default_factory=dict)
    collections: Mapping[str, JetBatch] = field(default_factory=dict)

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

    @classmethod
    def from_padded(
        cls,
        four_momenta: ArrayLike,
        mask: ArrayLike,
        *,
        columns: Mapping[str, ArrayLike] | None = None,
        features: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        jet_momenta: ArrayLike | None = None,
        **jets: Any,
    ) -> JetBatch:
        """A batch from padded arrays; what the padding holds is never looked at.

        Args:
            four_momenta: [B, M, 4] as (E, px, py, pz) in GeV.
            mask: [B, M] booleans, true where there is a constituent.
            columns: raw constituent columns by name (`charge`, `d0`, …), [B, M] each, from which features are
                computed.
            features: [B, M, F] standardised features, instead.
            labels: as in `from_arrays`.
            jet_momenta: [B, 4] the jets' own momenta; the sum of the constituents where left out.
            jets: what else `from_arrays` takes.

        Raises:
            DataError: shapes that do not fit each other; NaN or infinite momenta.

        Example:
            >>> import numpy as np
            >>> momenta = np.ones((2, 3, 4), dtype=np.float32)
            >>> mask = np.array([[True, True, False], [True, False, False]])
            >>> hepml.JetBatch.from_padded(momenta, mask).counts
            tensor([2, 1])
        """
        parts = {"columns": columns, "features": features, "labels": labels, "jet_momenta": jet_momenta}
        return batch_of_padded(cls, four_momenta, mask, **parts, **jets)

    @classmethod
    def from_awkward(cls, jets: ak.Array, features: str | Sequence[str] = (), **selection: Any) -> JetBatch:
        """A batch from awkward jets as `hepml.read_jets` gives them.

        Args:
            jets: one entry a jet, with `constituents` (px, py, pz, energy and any further columns) and
                jet-level fields.
            features: constituent features to compute, by name or set; without any, raw columns are carried
                along and features computed when a model asks.
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
        return jet_columns.pick(names, self.jet_features, self.jet_feature_names, self)

    # ------------------------------------------------------------------ changing

    def to(
        self, device_or_dtype: torch.device | torch.dtype | str, *, non_blocking: bool = False
    ) -> JetBatch:
        """The batch on another device, or with another floating dtype; offsets, classes and indices keep
        theirs."""

        def move(t: Tensor) -> Tensor:
            if isinstance(device_or_dtype, torch.dtype):
                return t.to(device_or_dtype) if t.is_floating_point() else t
            return t.to(device_or_dtype, non_blocking=non_blocking)

        return self._moved(move)

    def pin_memory(self) -> JetBatch:
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> JetBatch:
        """The same jets elsewhere, with their sizes where these are known or cost nothing to find."""

        def each(value: Any) -> Any:
            if isinstance(value, JetBatch):
                return value._moved(move)
            if isinstance(value, Mapping):
                return {name: each(t) for name, t in value.items()}
            return move(value) if isinstance(value, Tensor) else value

        same = replace(self, **{f.name: each(getattr(self, f.name)) for f in fields(self)})
        if self.offsets.device.type == "cpu" or "sizes" in self.__dict__:
            same.__dict__["sizes"] = self.sizes
        return same

    def with_four_momenta(self, four_momenta: Tensor) -> JetBatch:
        """The same jets with other four-momenta [ΣN, 4]; features, jet momenta, raw columns and extras that
        would no longer fit are left out."""
        kept = feature_table.not_from_momenta(self.raw)
        bare = replace(self, features=None, feature_names=(), jet_momenta=None, extras={}, raw=kept)
        return replace(bare, four_momenta=four_momenta)

    def permute(self, order: Tensor) -> JetBatch:
        """The same jets with constituents in another order [ΣN], each in its jet; extras are left out."""
        return self._taken(self.offsets, lambda t: t[order], None)

    def take(self, jets: ArrayLike) -> JetBatch:
        """The jets at these positions, in this order, as a new packed batch; extras that are not registered
        are left out.

        Args:
            jets: integers, or booleans [B].
        """
        which = positions(jets, len(self), self.device)
        rows, offsets = rows_of(self.offsets, which)
        some = self._taken(offsets, lambda t: gather(t, rows), lambda t: gather(t, which))
        return some._beside(self, lambda other: other.take(which))

    def reordered(self, order: Tensor) -> JetBatch:
        """All jets in another order, a permutation [B] of their positions: nothing is asked of the device."""
        counts, total = self.counts[order], self.four_momenta.shape[0]
        offsets = F.pad(counts.cumsum(0), (1, 0))
        shift = torch.repeat_interleave(self.offsets[:-1][order] - offsets[:-1], counts, output_size=total)
        rows = shift + torch.arange(total, device=self.device)
        all_jets = self._taken(offsets, lambda t: t[rows], lambda t: t[order])
        return all_jets._beside(self, lambda other: other.reordered(order))

    def slice(self, first: int, last: int) -> JetBatch:
        """The jets first:last, as views; extras that are not registered are left out."""
        first, last, _ = slice(first, last).indices(len(self))
        last = max(first, last)
        low, high = int(self.offsets[first]), int(self.offsets[last])
        part = self._taken(
            self.offsets[first : last + 1] - low, lambda t: t[low:high], lambda t: t[first:last]
        )
        return part._beside(self, lambda other: other.slice(first, last))

    def __getitem__(self, jets: Any) -> JetBatch:
        """`batch[5]` is one jet, `batch[:3]` a view of three; `batch[[4, 1]]` and `batch[mask]` are copies
        of those."""
        if isinstance(jets, slice) and jets.step in (None, 1):
            first, last, _ = jets.indices(len(self))
            return self.slice(first, last)
        if isinstance(jets, int | np.integer):
            at = int(positions(jets, len(self)))
            return self.slice(at, at + 1)
        return self.take(positions(jets, len(self), self.device))

    def __iter__(self) -> Iterator[JetBatch]:
        """The jets one by one, each a batch of one."""
        return (self.slice(i, i + 1) for i in range(len(self)))

    def leading(self, most: int) -> JetBatch:
        """The `most` leading constituents of each jet, by pT; jet momenta stay, extras are left out."""
        if self.max_count <= most:
            return self
        px, py = (self.four_momenta[:, i].detach().cpu().contiguous().numpy() for i in (1, 2))
        kept = torch.from_numpy(leading_rows(px, py, self.offsets.cpu().numpy(), most)).to(self.device)
        offsets = F.pad(self.counts.clamp_max(most).cumsum(0), (1, 0))
        made = self._taken(offsets, lambda t: t[kept], None)
        return replace(made, jet_momenta=self.jets)

    def without_padding(self) -> JetBatch:
        """Without constituents whose four-momentum is zero, which fill up arrays of fixed size; they are left
        out of files too."""
        inside = (self.four_momenta != 0).any(dim=1)
        if bool(inside.all()):
            return self
        ends = F.pad(inside.cumsum(0), (1, 0))
        return self._taken(ends[self.offsets], lambda t: t[inside], None)

    @classmethod
    def concatenate(cls, batches: Iterable[JetBatch]) -> JetBatch:
        """Batches behind each other, as one.

        Jet momenta, weights and positions are completed where some batches have them; raw columns and extras
        are kept where all do.

        Raises:
            DataError: no batches; or some have other features, jet features or labels than the first.
        """
        return joining.concatenate(list(batches))

    def _beside(self, whole: JetBatch, some: Callable[[JetBatch], JetBatch]) -> JetBatch:
        """This batch with the same jets of the further collections of the whole."""
        if not whole.collections:
            return self
        return replace(self, collections={name: some(other) for name, other in whole.collections.items()})

    def _taken(
        self,
        offsets: Tensor,
        constituents: Callable[[Tensor], Tensor],
        jets: Callable[[Tensor], Tensor] | None,
    ) -> JetBatch:
        """Every column with some of its rows; without `jets` all jets stay and their constituents change,
        and extras with them."""
        extras = {}
        if jets is not None:
            known = {name: extra_table.find(name) for name in self.extras}
            extras = {
                n: (constituents if e.per == "constituent" else jets)(self.extras[n])
                for n, e in known.items()
                if e is not None
            }

        def jet(t: Tensor | None) -> Tensor | None:
            return t if t is None or jets is None else jets(t)

        return replace(
            self,
            four_momenta=constituents(self.four_momenta),
            offsets=offsets,
            features=None if self.features is None else constituents(self.features),
            jet_features=jet(self.jet_features),
            labels=jet(self.labels),
            weights=jet(self.weights),
            index=jet(self.index),
            jet_momenta=jet(self.jet_momenta),
            extras=extras,
            raw={name: constituents(t) for name, t in self.raw.items()},
        )

    # ------------------------------------------------------------------ showing

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)
