"""`Chunk`: some jets of one file as flat numpy columns, and their form as awkward jets.

Reading, checking, selecting and packing work on chunks; awkward arrays are made only for people who ask for
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import awkward as ak
import numpy as np

from hepml.data.jet_columns import from_collider_columns, settle, sum_of_columns
from hepml.data.reading.per_jet import NO_INDEX

BLOCK = 65_536  # constituents whose columns are worked on together: half a megabyte stays in the cache
MOMENTUM = ("px", "py", "pz", "energy")
RECORD = "HepmlJet"  # name of awkward jets, by which awkward finds their class (hepml.data.jet_array)
_COMPONENTS = {"px": 1, "py": 2, "pz": 3, "energy": 0}


@dataclass(frozen=True)
class Chunk:
    """Jets, flat.

    Args:
        offsets: [B + 1] int64.
        constituents: raw columns [ΣN] float32 by name; `px`, `py`, `pz`, `energy` (GeV) always.
        jets: jet columns [B] by name.
        momenta: [B, 4] float32 (E, px, py, pz) of the jets where the file has them, see
            `hepml.data.jet_columns`.
        labels: [B] int64 index into `classes`, below zero for jets without a class (see
            `hepml.data.reading.per_jet`); None where the file has none.
        classes: the file's class names.
        weights: [B] float32 or None.
        entries: [B] int64, entry of each jet in its file.
        file: where the jets come from.
        events: [B] int64, the event of each jet, the same number for jets of one event over all files; None
            where every jet is an event of its own. Below zero, on the way from a file, where the file does
            not number its events.
        reached: entries of all files read so far, those of this chunk included.
        collections: further collections of the same jets, by name; their `constituents` are what counts.
        at_rest: whether constituents without any momentum are the data model's way to say "unmeasured", as
            Delphes' tracks of pT = 0, and no fault.
    """

    offsets: np.ndarray
    constituents: dict[str, np.ndarray]
    jets: dict[str, np.ndarray]
    entries: np.ndarray
    file: str
    momenta: np.ndarray | None = None
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    weights: np.ndarray | None = None
    events: np.ndarray | None = None
    reached: int = 0
    at_rest: bool = False
    sorted_by_pt: bool = field(default=False)
    collections: dict[str, Chunk] = field(default_factory=dict)
    _sums: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """Constituents of each jet, [B]."""
        return np.diff(self.offsets)

    def jet_of(self) -> np.ndarray:
        """Index of each constituent's jet, [ΣN]."""
        return np.repeat(np.arange(len(self)), self.counts)

    def take(self, keep: np.ndarray) -> Chunk:
        """The jets where `keep` [B] is true."""
        if keep.all():
            return self
        counts = self.counts
        rows = np.repeat(keep, counts)
        return self._with(np.cumsum(np.concatenate([[0], counts[keep]])), rows, keep)

    def jets_between(self, first: int, last: int) -> Chunk:
        """The jets first:last, as views."""
        rows = slice(int(self.offsets[first]), int(self.offsets[last]))
        return self._with(self.offsets[first : last + 1] - self.offsets[first], rows, slice(first, last))

    def exact_sums(self) -> np.ndarray:
        """Sum of each jet's constituents, [B, 4] float64; taken once for chunks that share their momenta."""
        added = (self.offsets, *(self.constituents[name] for name in MOMENTUM))
        known = self._sums.get("of", ())
        if len(known) != len(added) or any(a is not b for a, b in zip(known, added, strict=True)):
            self._sums.update(of=added, sums=sum_of_columns(self.constituents, self.offsets))
        out: np.ndarray = self._sums["sums"]
        return out

    def summed(self) -> np.ndarray:
        """Sum of each jet's constituents, [B, 4] float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # of jets that no policy has dropped yet
            return self.exact_sums().astype(np.float32)

    def jet_momenta(self) -> np.ndarray:
        """The jets' own momenta, else the sums of their constituents, [B, 4] float32."""
        return self.momenta if self.momenta is not None else self.summed()

    def leading(self, most: int) -> Chunk:
        """Only the `most` leading constituents of each jet, by pT; the jets' momenta stay those of all
        constituents, and jets that lose none stay as they are."""
        counts = self.counts
        if not len(counts) or counts.max() <= most:
            return self
        rows = leading_rows(self.constituents["px"], self.constituents["py"], self.offsets, most)
        offsets = np.cumsum(np.concatenate([[0], np.minimum(counts, most)]))
        return replace(self, momenta=self.jet_momenta())._with(offsets, rows, slice(None))

    def by_pt(self) -> Chunk:
        """The same jets with constituents in falling pT; order is kept among equals."""
        pt = np.hypot(self.constituents["px"], self.constituents["py"])
        jet_of = self.jet_of()
        falling = (pt[1:] <= pt[:-1]) | (jet_of[1:] != jet_of[:-1])
        if falling.all():
            return self
        order = np.lexsort((-pt, jet_of))
        return replace(self, constituents={name: c[order] for name, c in self.constituents.items()})

    def _with(self, offsets: np.ndarray, rows: np.ndarray | slice, jets: np.ndarray | slice) -> Chunk:
        return replace(
            self,
            offsets=offsets,
            constituents={name: c[rows] for name, c in self.constituents.items()},
            jets={name: c[jets] for name, c in self.jets.items()},
            momenta=None if self.momenta is None else self.momenta[jets],
            labels=None if self.labels is None else self.labels[jets],
            weights=None if self.weights is None else self.weights[jets],
            entries=self.entries[jets],
            events=None if self.events is None else self.events[jets],
            collections={name: other.chosen(jets) for name, other in self.collections.items()},
        )

    def chosen(self, jets: np.ndarray | slice) -> Chunk:
        """The jets of a mask [B], or of a slice."""
        if not isinstance(jets, slice):
            return self.take(jets)
        first, last, _ = jets.indices(len(self))
        return self.jets_between(first, last)

    def to_awkward(self, momentum: bool | None = None) -> ak.Array:
        """One entry a jet: `constituents` with `vector` momentum behaviour, jet columns, `label` and `weight`
        where there are any.

        Args:
            momentum: whether the jets' own momenta are a field `momentum`; where they would be lost, if left
                out.
        """
        import vector

        vector.register_awkward()
        fields = {
            "constituents": self._lists(),
            **{name: other._lists() for name, other in self.collections.items()},
            **self.jets,
        }
        if self.has_hidden_momenta() if momentum is None else momentum:
            momenta = self.jet_momenta()
            own = {n: np.ascontiguousarray(momenta[:, i]) for n, i in _COMPONENTS.items()}
            fields["momentum"] = ak.zip(own, with_name="Momentum4D")
        if self.labels is not None:
            fields["label"] = np.maximum(self.labels, NO_INDEX)
        if self.weights is not None:
            fields["weight"] = self.weights
        return ak.zip(fields, depth_limit=1, with_name=RECORD)

    def _lists(self) -> ak.Array:
        """The constituents, one list a jet."""
        record = ak.contents.RecordArray(
            [ak.contents.NumpyArray(np.ascontiguousarray(c)) for c in self.constituents.values()],
            list(self.constituents),
            length=int(self.offsets[-1]),
            parameters={"__record__": "Momentum4D"},
        )
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(self.offsets), record))

    def has_hidden_momenta(self) -> bool:
        """Whether the jets have momenta of their own that neither the columns `jet_pt`, `jet_eta`, `jet_phi`
        and `jet_energy` nor the constituents say."""
        if self.momenta is None:
            return False
        implied = from_collider_columns(canonical_columns(self.jets))
        implied = self.summed() if implied is None else settle(implied, self.summed())
        return not np.array_equal(implied, self.momenta, equal_nan=True)


def canonical_columns(jets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns that say a jet's momentum under hepml's own names, `jet_pt` and so on, without the prefix."""
    return {n: jets[f"jet_{n}"] for n in ("pt", "eta", "phi", "energy") if f"jet_{n}" in jets}


def leading_rows(px: np.ndarray, py: np.ndarray, offsets: np.ndarray, most: int) -> np.ndarray:
    """Rows of the `most` leading constituents of each jet: in falling pT in jets that lose some, as they were
    in the others; order is kept among equals.

    Args:
        px, py: [ΣN].
        offsets: [B + 1].
        most: constituents a jet at most.
    """
    counts = np.diff(offsets)
    jet_of = np.repeat(np.arange(len(counts)), counts)
    key = np.where(np.repeat(counts > most, counts), -np.hypot(px, py), 0.0)
    order = np.lexsort((key, jet_of))
    rank = np.arange(len(order)) - np.repeat(offsets[:-1], counts)
    out: np.ndarray = order[rank < most]
    return out
