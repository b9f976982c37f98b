"""Readers of published jet files for `hepml.data.public.convert`: each gives packed four-momenta, labels and
constituent columns in pieces.

An npz file is a zip archive of arrays; its large array is read from the compressed stream row by row, so that
a file of any size takes the memory of one piece.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hepml.data.reading.arrays import (
    Header,
    broken,
    check_momenta,
    names_in,
    one_number_a_jet,
    read_array,
    read_header,
    read_headers,
    refusing,
    whole_labels,
    whole_offsets,
)
from hepml.data.reading.crashes import try_first
from hepml.data.reading.no_objects import no_objects
from hepml.errors import DataError, FileError, HepmlError, LayoutError, MissingExtraError, did_you_mean

# PDG id (absolute), mass in GeV, charge of the positive id; the species of EnergyFlow's jets (PDG 2022
# averages).
_SPECIES = {
    11: (0.000511, -1),
    13: (0.105658, -1),
    22: (0.0, 0),
    130: (0.497611, 0),
    211: (0.139570, 1),
    321: (0.493677, 1),
    2112: (0.939565, 0),
    2212: (0.938272, 1),
}
_FLAGS = {
    "isChargedHadron": (211, 321, 2212),
    "isNeutralHadron": (130, 2112),
    "isPhoton": (22,),
    "isElectron": (11,),
    "isMuon": (13,),
}


@dataclass(frozen=True)
class Piece:
    """Some jets.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV, each jet's in falling pT.
        offsets: [B + 1].
        labels: [B] integers.
        columns: further constituent branches, [ΣN] each, names without `part_`.
        weights: [B], or None.
        unknown_ids: constituents whose particle id is not in our table; they are taken as massless and
            neutral.
        dropped: constituents that are left out, by reason; padding is not counted.
    """

    four_momenta: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray | None = None
    unknown_ids: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def head(self, jets: int) -> Piece:
        """The first so many jets."""
        if jets >= len(self.labels):
            return self
        rows = int(self.offsets[jets])
        return replace(
            self,
            four_momenta=self.four_momenta[:rows],
            offsets=self.offsets[: jets + 1],
            labels=self.labels[:jets],
            columns={name: values[:rows] for name, values in self.columns.items()},
            weights=None if self.weights is None else self.weights[:jets],
        )


class Source(Protocol):
    """A file of jets: its format, how many jets, the names of labels 0, 1, …, and its pieces."""

    path: Path
    kind: str
    jets: int
    classes: tuple[str, ...]

    def pieces(self, chunk: int) -> Iterator[Piece]: ...


def open_source(path: Path) -> Source:
    """The reader for a file, by its ending and its arrays.

    Raises:
        FileError: no such file, or not of a known format.
        LayoutError: an HDF5 table or npz without the columns or arrays of a known format.
    """
    if not path.is_file():
        raise FileError(
            f"no such file: {path}", mend="check the path; `hepml data fetch` downloads public data sets"
        )
    if path.suffix in (".h5", ".hdf5", ".hdf"):
        return TopTaggingTable(path)
    if path.suffix == ".npz":
        arrays = read_headers(path)
        if {"X", "y"} <= arrays.keys():
            return EnergyFlowJets(path, arrays)
        if {"four_momenta", "offsets", "labels"} <= arrays.keys():
            return PackedJets(path, arrays)
        raise LayoutError(
            f"arrays {', '.join(arrays) or 'none'} are of no known format",
            where=str(path),
            mend="X and y (EnergyFlow), or four_momenta, offsets and labels (ours)",
        )
    raise FileError(
        f"'{path.name}' is of no format that is converted", where=str(path), mend="give .h5 or .npz files"
    )


class TopTaggingTable:
    """The HDF5 table of the reference data set: E_0, PX_0, PY_0, PZ_0, … in GeV, zero-padded, and
    `is_signal_new`."""

    kind = "top-tagging HDF5"
    classes: tuple[str, ...] = ("QCD", "Tbqq")

    def __init__(self, path: Path) -> None:
        self.path = path
        try_first(path, partial(_read_store, path))
        with self._reading() as store:
            keys = [key.lstrip("/") for key in store]
            if not keys:
                raise LayoutError(
                    "no top-tagging table in this HDF5 file",
                    where=str(path),
                    mend="of another format it may be read as it is: hepml inspect FILE",
                )
            self._key = "table" if "table" in keys else keys[0]
            stored = store.get_storer(self._key)
            self.jets = int(stored.nrows if stored.is_table else stored.shape[0])
            columns = [str(c) for c in store.select(self._key, start=0, stop=1).columns]
        self._constituents = sum(name.startswith("E_") for name in columns)
        self._names = [f"{q}_{i}" for i in range(self._constituents) for q in ("E", "PX", "PY", "PZ")]
        if "E_0" not in columns:
            raise LayoutError(
                f"no top-tagging table in this HDF5 file: '{self._key}' has no column 'E_0'",
                where=str(path),
                mend="of another format it may be read as it is: hepml inspect FILE",
            )
        missing = [name for name in [*self._names, "is_signal_new"] if name not in columns]
        if missing:
            name = missing[0]
            raise LayoutError(
                f"column '{name}' not found",
                where=f"{path}, {self._key}",
                mend=did_you_mean(name, columns, noun="columns"),
            )

    def pieces(self, chunk: int) -> Iterator[Piece]:
        """The jets; no other column than constituents and the label is looked at."""
        for start in range(0, self.jets, chunk):
            stop = min(start + chunk, self.jets)
            with self._reading() as store:  # anew for each: what guards it is not held while others read
                table = store.select(self._key, start=start, stop=stop)
                p = table[self._names].to_numpy(dtype=np.float64).reshape(stop - start, self._constituents, 4)
            real, dropped = _real(p, p[:, :, 0], "energy")
            four_momenta, offsets, _ = _pack(p, real)
            labels = whole_labels(table["is_signal_new"].to_numpy(), stop - start, None, str(self.path))
            yield Piece(four_momenta, offsets, labels, dropped=dropped)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """The open store; what PyTables and pandas raise on a damaged one as one line."""
        try:
            with no_objects(self.path), self._store() as store:
                yield store
        except HepmlError:
            raise
        except Exception as problem:
            raise _unreadable(self.path, problem) from None

    def _store(self) -> Any:
        try:
            import pandas
            import tables  # noqa: F401 - what pandas reads HDF5 with
        except ImportError as absent:
            raise MissingExtraError(absent.name or "tables", "data") from None
        try:
            return pandas.HDFStore(self.path, mode="r")
        except Exception as problem:  # PyTables has exceptions of its own for every way a file can be broken
            raise _unreadable(self.path, problem) from None


class EnergyFlowJets:
    """EnergyFlow's quark-gluon jets: X [N, M, 4] as (pT, rapidity, phi, PDG id), zero-padded, and y, 1 for
    quarks."""

    kind = "EnergyFlow npz"
    classes: tuple[str, ...] = ("gluon", "quark")

    def __init__(self, path: Path, arrays: dict[str, Header]) -> None:
        self.path = path
        shape, kind, fortran = arrays["X"]
        labels = arrays["y"].shape
        if fortran and len(shape) > 1:
            raise DataError(
                "X is stored column by column (Fortran order)",
                where=str(path),
                mend="save numpy.ascontiguousarray(X)",
            )
        if len(labels) == 2 and labels[0] == shape[0]:
            raise DataError(
                f"y has shape {labels}, one row a jet",
                where=str(path),
                mend="give one class index a jet: y.argmax(axis=1) of one-hot rows",
            )
        fits = len(shape) == 3 and shape[2] in (3, 4) and labels == shape[:1]
        if not fits or kind.kind not in "fiu":
            raise DataError(
                f"X has shape {shape} and type {kind}, y {labels}",
                where=str(path),
                mend="X is [N, M, 4] (pT, y, phi, id), y is [N]",
            )
        self.jets = shape[0]

    def pieces(self, chunk: int) -> Iterator[Piece]:
        """The jets; masses follow from the particle ids, without ids constituents are massless."""
        labels = whole_labels(read_array(self.path, "y"), self.jets, None, str(self.path))
        starts = range(0, self.jets, chunk)
        sizes = [min(chunk, self.jets - start) for start in starts]
        for start, x in zip(starts, _stream_rows(self.path, "X", sizes), strict=True):
            x = x.astype(np.float64)
            real, dropped = _real(x, x[:, :, 0], "pT")
            rows, offsets, _ = _pack(x, real, pt=x[:, :, 0])
            pt, rapidity, phi = rows[:, 0], rows[:, 1], rows[:, 2]
            ids = (
                np.rint(rows[:, 3]).astype(np.int64)
                if rows.shape[1] == 4
                else np.zeros(len(rows), dtype=np.int64)
            )
            kind = np.abs(ids)
            mass = _look_up(kind, {k: m for k, (m, _) in _SPECIES.items()})
            transverse = np.hypot(pt, mass)
            p = np.stack(
                [
                    transverse * np.cosh(rapidity),
                    pt * np.cos(phi),
                    pt * np.sin(phi),
                    transverse * np.sinh(rapidity),
                ],
                axis=1,
            )
            columns: dict[str, np.ndarray] = {}
            unknown = 0
            if rows.shape[1] == 4:
                columns["charge"] = np.sign(ids) * _look_up(kind, {k: c for k, (_, c) in _SPECIES.items()})
                columns |= {name: np.isin(kind, members) for name, members in _FLAGS.items()}
                unknown = int((~np.isin(kind, list(_SPECIES))).sum())
            own = labels[start : start + len(x)]
            yield Piece(p, offsets, own, columns, unknown_ids=unknown, dropped=dropped)


class PackedJets:
    """Our own npz: packed `four_momenta` (E, px, py, pz) in GeV, `offsets`, `labels`, perhaps `weights` and
    `classes`."""

    kind = "hepml npz"

    def __init__(self, path: Path, arrays: dict[str, Header]) -> None:
        self.path = path
        where = str(path)
        check_momenta(arrays["four_momenta"], where)
        total = arrays["four_momenta"].shape[0]
        self._offsets = whole_offsets(read_array(path, "offsets"), total, where)
        self.jets = len(self._offsets) - 1
        small: dict[str, np.ndarray] = {
            n: read_array(path, n) for n in ("labels", "weights", "classes") if n in arrays
        }
        named = names_in(small, where)
        self._labels = whole_labels(small["labels"], self.jets, None if named is None else len(named), where)
        self._weights = None
        if "weights" in small:
            self._weights = one_number_a_jet(small["weights"], "weights", self.jets, where)
        highest = int(self._labels.max(initial=0))
        self.classes = named or tuple(str(i) for i in range(max(2, highest + 1)))

    def pieces(self, chunk: int) -> Iterator[Piece]:
        """The jets."""
        sizes = [
            int(self._offsets[min(s + chunk, self.jets)] - self._offsets[s])
            for s in range(0, self.jets, chunk)
        ]
        rows = _stream_rows(self.path, "four_momenta", sizes)
        for start, p in zip(range(0, self.jets, chunk), rows, strict=True):
            stop = min(start + chunk, self.jets)
            own = self._offsets[start : stop + 1] - self._offsets[start]
            p = p.astype(np.float64)
            jet_of = np.repeat(np.arange(stop - start), np.diff(own))
            order = np.lexsort((-np.hypot(p[:, 1], p[:, 2]), jet_of))
            weights = None if self._weights is None else self._weights[start:stop]
            yield Piece(p[order], own, self._labels[start:stop], weights=weights)


# ------------------------------------------------------------------------------------------------------------
# helpers


def _pack(
    x: np.ndarray, real: np.ndarray, pt: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of padded [N, M, K] that are real, each jet's in falling pT; with offsets and the pT order [N,
    M]."""
    pt = np.hypot(x[:, :, 1], x[:, :, 2]) if pt is None else pt
    order = np.argsort(np.where(real, -pt, np.inf), axis=1, kind="stable")
    taken = np.take_along_axis(x, order[:, :, None], axis=1)
    kept = np.take_along_axis(real, order, axis=1)
    offsets = np.concatenate([[0], np.cumsum(real.sum(axis=1))]).astype(np.int64)
    return taken[kept], offsets, order


def _look_up(kind: np.ndarray, table: dict[int, Any]) -> np.ndarray:
    """The table's value for each id, 0 for one that is not in it."""
    ids = np.array(sorted(table))
    at = np.clip(np.searchsorted(ids, kind), 0, len(ids) - 1)
    return np.where(ids[at] == kind, np.array([table[int(i)] for i in ids], dtype=np.float64)[at], 0.0)


def _stream_rows(path: Path, name: str, sizes: list[int]) -> Iterator[np.ndarray]:
    """Consecutive rows of one array of an npz file."""
    with refusing(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        shape, dtype, fortran = read_header(stream)
        if fortran and len(shape) > 1:
            raise DataError(
                f"array '{name}' is stored column by column", where=str(path), mend="save it in C order"
            )
        width = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        for rows in sizes:
            block = stream.read(rows * width)
            if len(block) != rows * width:
                raise broken(path, "it ends early")
            yield np.frombuffer(block, dtype=dtype).reshape(rows, *shape[1:])


def _real(x: np.ndarray, size: np.ndarray, named: str) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows of padded [N, M, K] are constituents [N, M], and how many others are no padding, by
    reason."""
    # what is NaN elsewhere stays, and is refused with the number of its jet
    reasons = {
        f"NaN as {named}": np.isnan(size),
        f"negative {named}": size < 0,
        f"no {named}": (size == 0) & (x[:, :, 1:] != 0).any(axis=2),
    }
    return size > 0, {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()}


def _read_store(path: Path, whole: bool) -> None:
    """Reads what `TopTaggingTable` may read of a file, for a child process."""
    import pandas

    with no_objects(path, alone=True), pandas.HDFStore(path, mode="r") as store:
        for key in store.keys():  # noqa: SIM118 - it is no mapping
            if whole:
                store.select(key)
            else:
                store.select(key, start=0, stop=1)
                store.select(key, start=-1)


def _unreadable(path: Path, problem: Exception) -> FileError:
    message = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    return FileError(
        f"the HDF5 file cannot be read ({message[:120]})", where=str(path), mend="fetch it again"
    )
