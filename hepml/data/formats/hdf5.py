"""HDF5: which of the field's formats a file is, and those that h5py reads.

| Format | Told by |
|---|---|
| salt, umami (ATLAS flavour tagging) | structured arrays `jets` [N] and `tracks` [N, M] with `valid` |
| JetNet | `particle_features` [N, M, 4] and `jet_features` |
| top-tagging reference | a pandas table with `E_0`, `PX_0` … |
| LHC Olympics | a pandas frame of 2,100 numbers an event (and a label), which are particles, not jets |
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hepml.data.formats.flat import FlatFile, cartesian, chunk_of, kind_of, stacked
from hepml.data.formats.hdf5_frame import open_h5py
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.crashes import try_first
from hepml.data.reading.links import starts_of
from hepml.data.reading.no_objects import plain
from hepml.data.reading.per_jet import NONE, class_indices
from hepml.data.reading.sources import _brief, refusing_damage
from hepml.errors import DataError, FileError, LayoutError

MEV = 1e-3
_PION = 0.13957
_AT_ONCE = 500_000  # jets
_MOST_CLASSES = 1_000
_FLAVOURS = {"bjets": 5, "cjets": 4, "ujets": 0, "taujets": 15}


def open_hdf5(path: str) -> FlatFile:
    """The format of an HDF5 file.

    Raises:
        FileError: missing or damaged. LayoutError: of no known format; says what it holds.
    """
    if Path(path).is_file():
        try_first(path, partial(_read_all, path))
    with open_h5py(path) as file, refusing_damage(path):
        names = list(file)
        arrays = {n: file[n] for n in names if hasattr(file[n], "dtype")}
        groups = [n for n in names if n not in arrays]
        if "jets" in arrays and arrays["jets"].dtype.names:
            lists = [n for n, a in arrays.items() if a.dtype.names and a.ndim == 2]
            if lists:
                return Salt(path, "tracks" if "tracks" in lists else lists[0])
            raise LayoutError(
                "'jets' without constituents: no structured array [jets, constituents] beside it",
                where=path,
                mend=f"arrays at hand: {', '.join(arrays)}",
            )
        if "particle_features" in arrays:
            return JetNet(path)
        what = ", ".join(f"'{n}' {kind_of(a)}" for n, a in arrays.items()) or ", ".join(groups) or "nothing"
        frames = [g for g in groups if "block0_values" in file[g] or "table" in file[g]]
        if frames:
            return _of_pandas(path, file[frames[0]])
    raise LayoutError(
        f"an HDF5 file of no known format: it holds {what}",
        where=path,
        mend="known are salt/umami (jets, tracks), JetNet, the top-tagging table and LHC Olympics",
    )


def _read_all(path: str, whole: bool) -> None:
    """Reads all that h5py finds in a file, or the first and last rows of it, for a child process."""

    def read(_: str, item: Any) -> None:
        if getattr(item, "shape", None):
            for rows in [slice(None)] if whole else [slice(0, 1), slice(-1, None)]:
                item[rows]

    with open_h5py(path) as file:
        file.visititems(read)


def _of_pandas(path: str, group: Any) -> FlatFile:
    columns = _pandas_columns(group)
    if any(c == "E_0" for c in columns):
        from hepml.data.formats.padded import TopTagging

        return TopTagging(path)
    if len(columns) in (2100, 2101) and all(str(c).isdigit() for c in columns):
        from hepml.data.formats.lhco import Lhco

        return Lhco(path, len(columns) == 2101)
    if {"pxj1", "mj1"} <= set(columns):
        raise LayoutError(
            "the features of LHC Olympics events: two jets an event, without constituents",
            where=path,
            mend="take events_anomalydetection.h5, which has the particles",
        )
    shown = ", ".join(columns[:8]) + (" …" if len(columns) > 8 else "")
    raise LayoutError(
        f"a pandas table of no known format: its columns are {shown}",
        where=path,
        mend="known are the top-tagging table (E_0, PX_0 …) and LHC Olympics",
    )


def _pandas_columns(group: Any) -> list[str]:
    """Column names of a frame in either of pandas' two forms."""
    if "axis0" in group:
        return [c.decode() if isinstance(c, bytes) else str(c) for c in group["axis0"][:].tolist()]
    table = group["table"]
    names: list[str] = []
    for field in table.dtype.names or ():
        own = table.attrs.get(f"{field}_kind")
        if own is None or field == "index":
            continue
        import pickle

        raw = own if isinstance(own, bytes) else getattr(own, "tobytes", lambda: b"")()
        # pandas pickles plain lists of names; nothing else is let through
        try:
            names += [str(name) for name in plain(raw)]
        except (pickle.UnpicklingError, EOFError, ValueError, IndexError, AttributeError):
            names.append(str(field))
    return names


class Salt:
    """ATLAS flavour tagging (salt, umami): `jets`, and `tracks` with `valid`; momenta in MeV.

    A track's transverse momentum is its own `pt`, or follows from q/p and its direction; its direction is its
    own `eta` and `phi` or lies `deta` and `dphi` from the jet's axis.
    """

    name = "salt"
    unit = "MeV"

    def __init__(self, path: str, tracks: str) -> None:
        self.path, self.tracks = path, tracks
        with open_h5py(path) as file:
            jets, lists = file["jets"], file[tracks]
            if jets.ndim != 1:
                raise LayoutError(
                    f"'jets' has shape {jets.shape}", where=path, mend="one row a jet: shape [jets]"
                )
            self.jets = int(jets.shape[0])
            self._jet = list(jets.dtype.names)
            self._track = list(lists.dtype.names)
            if int(lists.shape[0]) != self.jets:
                raise LayoutError(f"{self.jets} jets and {lists.shape[0]} lists of {tracks}", where=path)
            self._numbers = [n for n in self._jet if jets.dtype[n].kind in "fiub"]
            self._of_tracks = [n for n in self._track if lists.dtype[n].kind in "fiub"]
            self.columns = [*self._numbers, "jet_pt"]
            self.kinds = {f"jets.{n}": str(jets.dtype[n]) for n in self._jet}
            self.kinds |= {f"{tracks}.{n}": f"{lists.dtype[n]}[]" for n in self._track}
            names = jets.attrs.get("flavour_label")
        self._named = tuple(str(n) for n in names) if names is not None else ()
        self.label: str | None = next(
            (n for n in ("flavour_label", "HadronConeExclTruthLabelID") if n in self._jet), None
        )
        if self.label == "flavour_label" and not self._named and "HadronConeExclTruthLabelID" in self._jet:
            self.label = "HadronConeExclTruthLabelID"
        self.classes: tuple[str, ...] = tuple(_FLAVOURS) if self.label else ()
        if self.label == "flavour_label":  # where the file does not say their names, these are numbers
            numbers = () if self._named else range(_largest(path, "flavour_label") + 1)
            self.classes = self._named or tuple(map(str, numbers))
        self._check()

    def _check(self) -> None:
        lacking = [n for n in ("pt", "eta") if n not in self._numbers]
        if lacking:
            raise LayoutError(
                f"no '{lacking[0]}' among the columns of 'jets' ({', '.join(self._jet[:12])})",
                where=self.path,
                mend="salt and umami write the pt (in MeV) and eta of each jet",
            )
        has = set(self._of_tracks)
        direction = {"eta", "phi"} <= has or {"deta", "dphi"} <= has
        size = bool({"pt", "qOverP", "pt_frac", "ptfrac"} & has)
        if not direction or not size:
            raise LayoutError(
                f"no momentum among the columns of '{self.tracks}' ({', '.join(self._track[:12])})",
                where=self.path,
                mend="pt or qOverP, with eta and phi or deta and dphi",
            )

    def chunks(
        self, start: int, stop: int, step: int, columns: Sequence[str] | None, jet_columns: Sequence[str]
    ) -> Iterator[Chunk]:
        """The jets start:stop, without the invalid rows of `tracks`."""
        with open_h5py(self.path) as file:
            for low in range(start, stop, min(step, 5_000)):
                high = min(low + min(step, 5_000), stop)
                try:
                    jets, rows = file["jets"][low:high], file[self.tracks][low:high]
                except Exception as problem:
                    raise FileError(
                        f"jets {low} to {high} cannot be read ({_brief(problem)})",
                        where=self.path,
                        mend="it is damaged; copy it again",
                    ) from problem
                yield self._chunk(low, jets, rows, columns, jet_columns)

    def _chunk(
        self,
        start: int,
        jets: np.ndarray,
        rows: np.ndarray,
        columns: Sequence[str] | None,
        jet_columns: Sequence[str],
    ) -> Chunk:
        valid = self._valid(rows, start)
        jet_of = np.repeat(np.arange(len(jets)), valid.sum(axis=1))
        own = {n: rows[n][valid] for n in self._of_tracks if n != "valid"}
        eta = jets["eta"].astype(np.float64)
        phi = jets["phi"].astype(np.float64) if "phi" in self._jet else np.zeros(len(jets))
        # in a file without the jet's phi azimuths count from its axis
        if {"eta", "phi"} <= own.keys():
            track_eta, track_phi = own["eta"].astype(np.float64), own["phi"].astype(np.float64)
        else:
            track_eta, track_phi = eta[jet_of] + own["deta"], phi[jet_of] + own["dphi"]
        jet_pt = jets["pt"].astype(np.float64) * MEV
        if "pt" in own:
            pt = own["pt"].astype(np.float64) * MEV
        elif "qOverP" in own:
            with np.errstate(divide="ignore", over="ignore"):
                pt = np.abs(MEV / own["qOverP"].astype(np.float64)) / np.cosh(track_eta)
        else:
            pt = own["pt_frac" if "pt_frac" in own else "ptfrac"] * jet_pt[jet_of]
        if "valid" not in self._track:
            self._refuse_padding(pt, start)
        constituents: dict[str, np.ndarray] = cartesian(pt, track_eta, track_phi, _PION)
        if "qOverP" in own:
            constituents["charge"] = np.sign(own["qOverP"])
        constituents["is_charged_hadron"] = np.ones(len(jet_of))
        constituents |= {"d0": own["d0"]} if "d0" in own else {}
        along = next((n for n in ("z0SinTheta", "z0") if n in own), None)
        constituents |= {"dz": own[along]} if along else {}
        constituents |= {
            n: v for n, v in own.items() if n not in constituents and n not in ("pt", "eta", "phi")
        }
        momenta = (
            stacked(cartesian(jet_pt, eta, phi, jets["mass"].astype(np.float64) * MEV))
            if "mass" in self._jet
            else None
        )
        return chunk_of(
            self,
            start,
            starts_of(valid.sum(axis=1)),
            constituents,
            {n: jets[n] for n in self._numbers} | {"jet_pt": jet_pt.astype(np.float32)},
            columns,
            jet_columns,
            self._labels(jets),
            momenta,
        )

    def _valid(self, rows: np.ndarray, start: int) -> np.ndarray:
        """Which rows of [jets, M] are tracks; all in a file that does not say."""
        if "valid" not in self._track:
            return np.ones(rows.shape, dtype=bool)
        valid = rows["valid"]
        strange = ((valid != 0) & (valid != 1)).any(axis=1)
        if strange.any():
            raise DataError(
                f"a `valid` of {self.tracks} that is neither 0 nor 1",
                where=f"{self.path}, jet {start + int(np.argmax(strange))}",
                mend="repair the file",
            )
        return np.asarray(valid == 1)

    def _refuse_padding(self, pt: np.ndarray, start: int) -> None:
        """Refuses rows without momentum in a file that does not say which rows are padding."""
        bad = ~(np.isfinite(pt) & (pt > 0))
        if bad.any():
            raise DataError(
                f"'{self.tracks}' has no column 'valid', and {int(bad.sum()):,} of {len(pt):,} rows have no "
                "momentum, as padding has",
                where=f"{self.path}, jets from {start} on",
                mend="write `valid`: true for tracks, false for padding",
            )

    def _labels(self, jets: np.ndarray) -> np.ndarray | None:
        if self.label is None:
            return None
        values = jets[self.label]
        if self.label == "flavour_label":
            return class_indices(values, len(self.classes))
        out: np.ndarray = np.minimum(
            class_indices(values, 2**62), NONE
        )  # fractions stay what they are: no class index
        for i, flavour in enumerate(_FLAVOURS.values()):
            out[values == flavour] = i
        return out


def _largest(path: str, column: str) -> int:
    """The largest number in a column of `jets`."""
    largest = 0
    with open_h5py(path) as file:
        jets = file["jets"]
        for low in range(0, jets.shape[0], _AT_ONCE):
            values = jets[low : low + _AT_ONCE][column]
            good = values[np.isfinite(values)]
            largest = max(largest, int(good.max(initial=0)))
    if largest >= _MOST_CLASSES:
        raise LayoutError(
            f"'{column}' goes up to {largest}, and the file does not name its classes",
            where=path,
            mend=f"write the names as attribute '{column}' of 'jets'",
        )
    return largest


class JetNet:
    """JetNet (arXiv:2106.11535): `particle_features` [N, M, 4] as (eta, phi, pT relative to the jet, mask),
    and `jet_features` (pT, eta, mass, number) in GeV.

    Jets in files without `jet_features` have pT 1 and lie at eta 0, with a warning.
    """

    name = "jetnet"
    _ORDER = ("pt", "eta", "mass", "num_particles")

    def __init__(self, path: str) -> None:
        self.path = path
        with open_h5py(path) as file:
            particles = file["particle_features"]
            if particles.ndim != 3 or particles.shape[2] not in (3, 4):
                raise LayoutError(
                    f"particle_features have shape {particles.shape}",
                    where=path,
                    mend="[N, M, 4] (eta, phi, pT, mask)",
                )
            self.jets = int(particles.shape[0])
            self.kinds = {n: kind_of(file[n]) for n in file if hasattr(file[n], "dtype")}
            self._features = "jet_features" in file
            shape = file["jet_features"].shape if self._features else (self.jets, 0)
            if len(shape) != 2 or shape[0] != self.jets or shape[1] > len(self._ORDER) + 1:
                raise LayoutError(
                    f"jet_features have shape {shape}, for {self.jets} jets",
                    where=path,
                    mend="[N, 4] (pT, eta, mass, number), or [N, 5] with the jet's type in front",
                )
            width = shape[1]
        self.unit = "GeV" if self._features else "units of the jet's pT"
        # five features begin with the jet's type
        self._names = (("type", *self._ORDER) if width == 5 else self._ORDER)[:width] if width else ()
        self.columns = [f"jet_{n}" for n in self._names]
        self.classes: tuple[str, ...] = ("0", "1", "2", "3", "4") if width == 5 else ()
        self.label: str | None = "jet_type" if width == 5 else None

    def chunks(
        self, start: int, stop: int, step: int, columns: Sequence[str] | None, jet_columns: Sequence[str]
    ) -> Iterator[Chunk]:
        """The jets start:stop, without masked particles."""
        if not self._features:
            warnings.warn(
                f"{self.path} has no jet_features: momenta are in {self.unit}, about (eta, phi) = (0, 0)",
                stacklevel=2,
            )
        with open_h5py(self.path) as file:
            for low in range(start, stop, min(step, 20_000)):
                high = min(low + min(step, 20_000), stop)
                p = file["particle_features"][low:high].astype(np.float64)
                features = file["jet_features"][low:high] if self._features else np.zeros((high - low, 0))
                jets = {f"jet_{n}": features[:, i] for i, n in enumerate(self._names)}
                real = self._real(p, low)
                jet_of = np.repeat(np.arange(high - low), real.sum(axis=1))
                pt = jets["jet_pt"].astype(np.float64) if "jet_pt" in jets else np.ones(high - low)
                eta = jets["jet_eta"].astype(np.float64) if "jet_eta" in jets else np.zeros(high - low)
                rows = p[real]
                momenta = cartesian(rows[:, 2] * pt[jet_of], rows[:, 0] + eta[jet_of], rows[:, 1])
                labels = class_indices(jets["jet_type"], len(self.classes)) if "jet_type" in jets else None
                yield chunk_of(
                    self, low, starts_of(real.sum(axis=1)), momenta, jets, columns, jet_columns, labels
                )

    def _real(self, p: np.ndarray, first: int) -> np.ndarray:
        """Which rows of [N, M, 3 or 4] are particles, [N, M]: those of mask 1, or without a mask all but rows
        of zeros."""
        if p.shape[2] == 3:
            return np.asarray((p != 0).any(axis=2))
        mask = p[:, :, 3]
        strange = ((mask != 0) & (mask != 1)).any(axis=1)
        if strange.any():
            raise DataError(
                "a mask that is neither 0 nor 1",
                where=f"{self.path}, jet {first + int(np.argmax(strange))}",
                mend="repair the file",
            )
        return np.asarray(mask == 1)
