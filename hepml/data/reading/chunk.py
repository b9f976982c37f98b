"""`Chunk`: some jets of one file as flat numpy columns, and their form as awkward jets.

Reading, checking, selecting and packing work on chunks; awkward arrays are made only for people who ask for
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import awkward as ak
import numpy as np

from hepml.data.reading.per_jet import NO_INDEX

MOMENTUM = ("px", "py", "pz", "energy")


@dataclass(frozen=True)
class Chunk:
    """Jets, flat.

    Args:
        offsets: [B + 1] int64.
        constituents: raw columns [ΣN] float32 by name; `px`, `py`, `pz`, `energy` (GeV) always.
        jets: jet columns [B] by name.
        momenta: [B, 4] float32 (E, px, py, pz) of the jets where the file has them.
        labels: [B] int64 index into `classes`, below zero for jets without a class (see
            `hepml.data.reading.per_jet`); None where the file has none.
        classes: the file's class names.
        weights: [B] float32 or None.
        entries: [B] int64, entry of each jet in its file.
        file: where the jets come from.
        events: [B] int64, the event of each jet, the same number for jets of one event over all files; None
            where every jet is an event of its own.
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
    at_rest: bool = False
    sorted_by_pt: bool = field(default=False)

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

    def leading(self, most: int) -> Chunk:
        """Only the `most` leading constituents of each jet, by pT."""
        counts = self.counts
        if not len(counts) or counts.max() <= most:
            return self
        ordered = self.by_pt()
        rank = np.arange(ordered.offsets[-1]) - np.repeat(ordered.offsets[:-1], counts)
        return ordered._with(
            np.cumsum(np.concatenate([[0], np.minimum(counts, most)])), rank < most, slice(None)
        )

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
        )

    def to_awkward(self) -> ak.Array:
        """One entry a jet: `constituents` with `vector` momentum behaviour, jet columns, `label` and `weight`
        where there are any."""
        import vector

        vector.register_awkward()  # type: ignore[no-untyped-call]
        record = ak.contents.RecordArray(
            [ak.contents.NumpyArray(np.ascontiguousarray(c)) for c in self.constituents.values()],
            list(self.constituents),
            length=int(self.offsets[-1]),
            parameters={"__record__": "Momentum4D"},
        )
        fields = {
            "constituents": ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(self.offsets), record)),
            **self.jets,
        }
        if self.labels is not None:
            fields["label"] = np.maximum(self.labels, NO_INDEX)
        if self.weights is not None:
            fields["weight"] = self.weights
        return ak.zip(fields, depth_limit=1)
