"""Formats of the published reference sets, read directly: the top-tagging table and EnergyFlow's npz.

The readers of single files are those of `hepml convert`; here their pieces become chunks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hepml.data.formats.flat import chunk_of
from hepml.data.public.convert_formats import EnergyFlowJets, Piece, TopTaggingTable
from hepml.data.reading.arrays import read_headers
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.per_jet import class_indices
from hepml.errors import DataError, LayoutError

_SPELT = {
    "isChargedHadron": "is_charged_hadron",
    "isNeutralHadron": "is_neutral_hadron",
    "isPhoton": "is_photon",
    "isElectron": "is_electron",
    "isMuon": "is_muon",
}


class _Pieces:
    """A reader of pieces as a `FlatFile`."""

    name = ""
    unit = "GeV"
    label: str | None = None

    def __init__(self, source: TopTaggingTable | EnergyFlowJets, path: str, kinds: dict[str, str]) -> None:
        self.source, self.path, self.kinds = source, path, kinds
        self.jets, self.classes = source.jets, source.classes
        self.columns: list[str] = []

    def chunks(
        self, start: int, stop: int, step: int, columns: Sequence[str] | None, jet_columns: Sequence[str]
    ) -> Iterator[Chunk]:
        """The jets start:stop, in falling pT of their constituents."""
        at = unknown = 0
        for piece in self.source.pieces(min(step, 20_000)):
            size = len(piece.labels)
            if piece.dropped:
                told = ", ".join(f"{many} constituents with {why}" for why, many in piece.dropped.items())
                raise DataError(
                    f"{told}, which are no padding",
                    where=f"{self.path}, jets {at} to {at + size - 1}",
                    mend="repair the file; `hepml convert` leaves them out and counts them",
                )
            unknown += piece.unknown_ids
            low, high = max(start - at, 0), min(stop - at, size)
            if low < high:
                yield self._chunk(piece, low, high, at, columns, jet_columns)
            at += size
            if at >= stop:
                break
        if unknown:
            warnings.warn(
                f"{unknown} constituents of {self.path} have particle ids that are not in hepml's table: "
                "they are taken as massless and neutral",
                stacklevel=2,
            )

    def _chunk(
        self,
        piece: Piece,
        low: int,
        high: int,
        at: int,
        columns: Sequence[str] | None,
        jet_columns: Sequence[str],
    ) -> Chunk:
        rows = slice(int(piece.offsets[low]), int(piece.offsets[high]))
        p = piece.four_momenta[rows]
        constituents = {n: np.ascontiguousarray(p[:, i]) for i, n in enumerate(("energy", "px", "py", "pz"))}
        constituents |= {_SPELT.get(n, n): v[rows] for n, v in piece.columns.items()}
        offsets = piece.offsets[low : high + 1] - piece.offsets[low]
        labels = class_indices(piece.labels[low:high], len(self.classes))
        return chunk_of(self, at + low, offsets, constituents, {}, columns, jet_columns, labels)


class TopTagging(_Pieces):
    """The table of the top-tagging reference data set (E_0, PX_0, … and `is_signal_new`)."""

    name = "toptagging"

    def __init__(self, path: str) -> None:
        source = TopTaggingTable(Path(path))
        kinds = dict.fromkeys([*source._names, "is_signal_new"], "float")
        super().__init__(source, path, kinds)


class EnergyFlow(_Pieces):
    """EnergyFlow's quark and gluon jets (`X`, `y`)."""

    name = "energyflow"

    def __init__(self, path: str) -> None:
        headers = read_headers(Path(path))
        source = EnergyFlowJets(Path(path), headers)
        kinds = {n: str(h.dtype) + "".join(f"[{s}]" for s in h.shape[1:]) for n, h in headers.items()}
        super().__init__(source, path, kinds)


def is_energyflow(path: str) -> bool:
    """Whether an npz file holds `X` and `y`, and not our own arrays."""
    if not Path(path).is_file():
        return False
    headers = read_headers(Path(path))
    if "four_momenta" in headers or "X" not in headers:
        return False
    if "y" not in headers and len(headers["X"].shape) == 3:
        raise LayoutError(
            "EnergyFlow's X without y, the labels", where=path, mend="save y beside X, one class index a jet"
        )
    return "y" in headers
