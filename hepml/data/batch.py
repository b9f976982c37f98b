"""`JetBatch`, the one currency of hepml: packed constituents of several jets, without padding.

Constituents of all jets stand one behind the other; `offsets` says where each jet begins and ends. Models
take a `JetBatch` and return the parameters of q(z|x), one row a jet. Padded views are made by
`hepml.representations`, never here. Columns and what can be asked of them are in `packed_jets.py`; this file
is how a batch is made from other forms, joined and shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from hepml.data import display, joining, packing
from hepml.data.packed_jets import ArrayLike, PackedJets
from hepml.data.padded_batch import batch_of_padded

if TYPE_CHECKING:
    import awkward as ak


@dataclass(frozen=True, eq=False, repr=False)
class JetBatch(PackedJets):
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

    Examples:
        >>> momenta = [[100.0, 60.0, 0.0, 80.0], [50.0, 30.0, 0.0, 40.0], [20.0, 0.0, 12.0, 16.0]]
        >>> batch = hepml.JetBatch.from_arrays(momenta, offsets=[0, 2, 3], labels=[1, 0])
        >>> batch.select_jets(["jet_pt", "jet_nparticles"]).tolist()
        [[90.0, 2.0], [12.0, 1.0]]
        >>> len(batch[1:]), batch[1].labels.item()
        (1, 0)
    """

    # ------------------------------------------------------------------ making

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
    ) -> Self:
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

        Examples:
            >>> import numpy as np
            >>> momenta = np.ones((2, 3, 4), dtype=np.float32)
            >>> mask = np.array([[True, True, False], [True, False, False]])
            >>> hepml.JetBatch.from_padded(momenta, mask).counts
            tensor([2, 1])
        """
        parts = {"columns": columns, "features": features, "labels": labels, "jet_momenta": jet_momenta}
        return batch_of_padded(cls, four_momenta, mask, **parts, **jets)

    @classmethod
    def from_awkward(cls, jets: ak.Array, features: str | Sequence[str] = (), **selection: Any) -> Self:
        """A batch from awkward jets as `hepml.read_jets` gives them.

        Args:
            jets: one entry a jet, with `constituents` (px, py, pz, energy and any further columns) and
                jet-level fields.
            features: constituent features to compute, by name or set; without any, raw columns are carried
                along and features computed when a model asks.
            selection: `jet_features`, `max_constituents`, `label`, `weight`, `dtype` (see
                `hepml.data.packing.pack`).
        """
        return packing.pack(cls, jets, features, **selection)

    @classmethod
    def concatenate(cls, batches: Iterable[Self]) -> Self:
        """Batches behind each other, as one.

        Jet momenta, weights and positions are completed where some batches have them; raw columns and extras
        are kept where all do.

        Raises:
            DataError: no batches; or some have other features, jet features or labels than the first.
        """
        return joining.concatenate(list(batches))

    # ------------------------------------------------------------------ showing

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)
