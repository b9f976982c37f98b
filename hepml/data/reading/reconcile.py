"""Files of one list whose columns differ, reconciled once, before any jet is read, by a stated policy.

A column that some files have and others lack is never half there, and never vanishes without a word: `refuse`
names it and the files, `fill` puts zero (constituents, jet features), NaN (other jet columns), weight one or
label none in its place, `drop` leaves it out of all files. Without a policy, what was asked for by name, and
event weights, are refused, and what merely came along is left out. The report says what was filled or left
out, and where. Columns of differing types come in the type that holds them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from hepml.data.jet_columns import DERIVED
from hepml.data.reading.assemble import DERIVABLE
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.layouts import Layout
from hepml.data.reading.per_jet import NONE, common_type, in_type, number_type
from hepml.data.reading.report import DataReport
from hepml.errors import ConfigError, LayoutError, did_you_mean

MissingColumns = Literal["refuse", "fill", "drop"]
_IN_MOMENTA = ("px", "py", "pz", "energy", "pt", "eta", "phi", "mass")


class File(Protocol):
    """What is asked of a scanned file."""

    @property
    def entries(self) -> int: ...
    @property
    def branches(self) -> Mapping[str, str]: ...
    @property
    def layout(self) -> Layout | None: ...
    @property
    def classes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class FilePlan:
    """What to read from one file, and what to put in place of what it lacks.

    Args:
        columns: constituent columns to read; None for all.
        jet_columns: jet columns to read.
        weights: whether to read event weights.
        fill_columns, fill_jets: names to fill, with the value.
        fill_weight, fill_label, fill_momenta: whether to fill weights, labels and the jets' own momenta where
            the file has none.
        types: the type of jet columns whose type differs between files.
    """

    columns: tuple[str, ...] | None
    jet_columns: tuple[str, ...]
    weights: bool = True
    fill_columns: Mapping[str, float] = field(default_factory=dict)
    fill_jets: Mapping[str, float] = field(default_factory=dict)
    fill_weight: bool = False
    fill_label: bool = False
    fill_momenta: bool = False
    types: Mapping[str, np.dtype] = field(default_factory=dict)

    def complete(self, chunk: Chunk) -> Chunk:
        """The chunk with what its file lacks filled in, and columns in their common types."""
        jets, rows = len(chunk), int(chunk.offsets[-1])
        columns = {
            **chunk.jets,
            **{name: np.full(jets, value, dtype=np.float32) for name, value in self.fill_jets.items()},
        }
        for name, kind in self.types.items():
            if name in columns:
                columns[name] = in_type(columns[name], kind)
        further = {n: np.full(rows, v, dtype=np.float32) for n, v in self.fill_columns.items()}
        chunk = replace(chunk, jets=columns, constituents={**chunk.constituents, **further})
        if not self.weights:
            chunk = replace(chunk, weights=None)
        elif self.fill_weight and chunk.weights is None:
            chunk = replace(chunk, weights=np.ones(jets, dtype=np.float32))
        if self.fill_label and chunk.labels is None:
            chunk = replace(chunk, labels=np.full(jets, NONE, dtype=np.int64))
        if self.fill_momenta and chunk.momenta is None:
            chunk = replace(chunk, momenta=chunk.summed())
        return chunk


def reconcile(
    files: Sequence[File],
    names: Sequence[str],
    columns: Sequence[str] | None,
    jet_columns: Sequence[str] | str,
    *,
    essential: Sequence[str] = (),
    features: Sequence[str] = (),
    weights: bool = True,
    policy: MissingColumns | None = None,
    report: DataReport | None = None,
) -> list[FilePlan]:
    """A plan for each file.

    Args:
        files: scanned files.
        names: their names, for errors and the report.
        columns: constituent columns that were asked for by name; None for all.
        jet_columns: jet columns by name, or "all".
        essential: jet columns that nothing can stand in for: target, named weight, those of the selection.
        features: jet columns that are zero where they are filled.
        weights: whether event weights are wanted.
        policy: what to do with a column that some files lack.
        report: told what was filled or left out.

    Raises:
        ConfigError: no such policy.
        LayoutError: a column that some files lack, by the policy; names it and the files.
    """
    if policy not in (None, "refuse", "fill", "drop"):
        raise ConfigError(
            f"missing_columns is '{policy}'",
            mend=did_you_mean(str(policy), ("refuse", "fill", "drop")),
        )
    look = _Look([f for f in files if f.entries], [n for f, n in zip(files, names, strict=True) if f.entries])
    notes = _Notes()
    of_constituents = look.of_constituents(columns, policy, notes)
    of_jets = look.of_jets(jet_columns, essential, features, policy, notes)
    weighted, fill_weight = look.weights(weights, policy, notes)
    mixed_labels = look.labels(notes)
    mixed_momenta = look.momenta(notes)
    if report is not None:
        report.notes += notes.lines()
    plans = []
    for file in files:
        own, has = set(_constituent_columns(file, columns is not None)), set(_jet_columns(file))
        plans.append(
            FilePlan(
                columns=None
                if of_constituents is None
                else tuple(c for c in of_constituents if c in own or c not in look.filled_columns),
                jet_columns=tuple(c for c in of_jets if c in has or c not in look.filled_jets),
                weights=weighted,
                fill_columns={c: 0.0 for c in look.filled_columns if c not in own},
                fill_jets={c: v for c, v in look.filled_jets.items() if c not in has},
                fill_weight=fill_weight,
                fill_label=mixed_labels,
                fill_momenta=mixed_momenta,
                types=look.types(of_jets),
            )
        )
    return plans


def common_columns(chunks: Sequence[Chunk], report: DataReport) -> list[Chunk]:
    """Chunks with the columns that all of them have, for formats whose columns are known only once they are
    read; what is left out is noted."""
    out: list[Any] = list(chunks)
    for what in ("constituents", "jets"):
        every = dict.fromkeys(n for c in out for n in getattr(c, what))
        common = [n for n in every if all(n in getattr(c, what) for c in out)]
        lost = [n for n in every if n not in common]
        if lost:
            where = dict.fromkeys(c.file for c in out if any(n not in getattr(c, what) for n in lost))
            report.notes.append(f"left out: {_some(lost, 8)} (not in {_some(where)})")
            out = [replace(c, **{what: {n: getattr(c, what)[n] for n in common}}) for c in out]
    for name in ("labels", "weights"):
        without = dict.fromkeys(c.file for c in out if getattr(c, name) is None)
        if without and len(without) < len({c.file for c in out}):
            report.notes.append(f"left out: {name} (not in {_some(without)})")
            out = [replace(c, **{name: None}) for c in out]
    return out


class _Notes:
    """Sentences for the report: columns by what was done with them and in which files."""

    def __init__(self) -> None:
        self.columns: dict[tuple[str, str], list[str]] = {}

    def add(self, remark: str, column: str, where: Iterable[str]) -> None:
        self.columns.setdefault((remark, _some(where)), []).append(column)

    def lines(self) -> list[str]:
        return [
            f"{remark}: {_some(columns, 8)} (not in {where})"
            for (remark, where), columns in self.columns.items()
        ]


class _Look:
    """The differences between files that have jets."""

    def __init__(self, files: Sequence[File], names: Sequence[str]) -> None:
        self.files, self.names = files, names
        self.filled_columns: list[str] = []
        self.filled_jets: dict[str, float] = {}

    def lacking(self, has: Sequence[Iterable[str]]) -> dict[str, list[str]]:
        """Columns that some files have and others lack, with those that lack them."""
        sets = [set(columns) for columns in has]
        known = dict.fromkeys(name for columns in has for name in columns)
        out = {
            name: [n for n, columns in zip(self.names, sets, strict=True) if name not in columns]
            for name in known
        }
        return {name: where for name, where in out.items() if where}

    def of_constituents(
        self, wanted: Sequence[str] | None, policy: MissingColumns | None, notes: _Notes
    ) -> list[str] | None:
        """Constituent columns to take from the files, None for all that there are."""
        has = [_constituent_columns(f, wanted is not None) for f in self.files]
        lacking = self.lacking(has)
        if wanted is not None:
            for name in wanted:
                if name in DERIVABLE and name in lacking:
                    notes.add("derived from momenta", name, lacking[name])
                elif name in lacking:
                    if policy != "fill":
                        raise self.refusal(f"constituent column '{name}'", lacking[name])
                    self.filled_columns.append(name)
                    notes.add("filled with zero", name, lacking[name])
            return list(wanted)
        if not lacking:
            return None
        for name, where in lacking.items():
            if name in DERIVABLE or policy in (None, "drop"):
                notes.add("left out", name, where)
            elif policy == "refuse":
                raise self.refusal(f"constituent column '{name}'", where)
            else:
                self.filled_columns.append(name)
                notes.add("filled with zero", name, where)
        known = dict.fromkeys(name for columns in has for name in columns)
        return [n for n in known if n not in lacking or n in self.filled_columns]

    def of_jets(
        self,
        wanted: Sequence[str] | str,
        essential: Sequence[str],
        features: Sequence[str],
        policy: MissingColumns | None,
        notes: _Notes,
    ) -> list[str]:
        """Jet columns to take from the files."""
        has = [_jet_columns(f) for f in self.files]
        lacking = self.lacking(has)
        known = dict.fromkeys(name for columns in has for name in columns)
        every = wanted == "all"
        out = []
        for name in known if every else list(wanted):
            if name not in lacking or (name in DERIVED and not every):
                out.append(name)
            elif name in essential or policy == "refuse" or (policy != "fill" and not every):
                raise self.refusal(f"jet column '{name}'", lacking[name])
            elif policy == "fill":
                self.filled_jets[name] = 0.0 if name in features else float("nan")
                notes.add("filled with " + ("zero" if name in features else "NaN"), name, lacking[name])
                out.append(name)
            else:
                notes.add("left out", name, lacking[name])
        return out

    def weights(self, wanted: bool, policy: MissingColumns | None, notes: _Notes) -> tuple[bool, bool]:
        """Whether to read event weights, and whether to fill them."""
        has = [_has_weights(f) for f in self.files]
        if not wanted or all(has) or not any(has):
            return wanted, False
        without = [n for n, there in zip(self.names, has, strict=True) if not there]
        if policy in (None, "refuse"):
            raise LayoutError(
                "some files have event weights, others have none",
                where=_some(without),
                mend="data.weights: false uses none; missing_columns: fill gives the others weight 1, "
                "drop leaves weights out",
            )
        if policy == "fill":
            notes.add("filled with 1", "event weights", without)
            return True, True
        notes.add("left out", "event weights", without)
        return False, False

    def labels(self, notes: _Notes) -> bool:
        """Whether some files have labels and others have none."""
        has = [bool(f.classes) for f in self.files]
        if all(has) or not any(has):
            return False
        notes.add(
            "no label (-1)", "labels", [n for n, there in zip(self.names, has, strict=True) if not there]
        )
        return True

    def momenta(self, notes: _Notes) -> bool:
        """Whether some files have the jets' own momenta and others have not."""
        has = [_has_momenta(f) for f in self.files]
        if all(has) or not any(has):
            return False
        without = [n for n, there in zip(self.names, has, strict=True) if not there]
        notes.add("sum of the constituents taken", "the jets' own momenta", without)
        return True

    def types(self, names: Sequence[str]) -> dict[str, np.dtype]:
        """The common type of jet columns whose types differ."""
        out = {}
        for name in names:
            kinds = [k for f in self.files if (k := _type_of(f, name)) is not None]
            if name in self.filled_jets:
                kinds.append(np.dtype(np.float32))
            if len(set(kinds)) > 1:
                out[name] = common_type(*kinds)
        return out

    def refusal(self, what: str, where: Sequence[str]) -> LayoutError:
        return LayoutError(
            f"{what} is in some files and not in others",
            where=_some(where),
            mend="leave it out, or set missing_columns to fill, or to drop where nothing needs it",
        )


def _constituent_columns(file: File, by_name: bool = False) -> list[str]:
    """Raw constituent columns besides the four-momentum that a file has; those too that are read only
    `by_name`."""
    events = getattr(file, "events", None)
    if events is not None:
        return [*events.constituent_columns, *(events.further_columns if by_name else ())]
    if file.layout is None:
        return []
    names: dict[str, None] = {}
    for group in file.layout.constituents:
        for name, column in group.columns.items():
            if column.branch is None or column.branch in file.branches:
                names[name] = None
    return [n for n in names if n not in _IN_MOMENTA]


def _jet_columns(file: File) -> list[str]:
    """Jet columns of one number a jet that a file has."""
    own = getattr(file, "jet_columns", None)
    names = (
        list(own) if own is not None else [n for n, k in file.branches.items() if number_type(k) is not None]
    )
    if file.layout is not None:
        names += [
            n
            for n, c in file.layout.columns.items()
            if n not in names and (c.branch is None or c.branch in file.branches)
        ]
    return names


def _has_weights(file: File) -> bool:
    events = getattr(file, "events", None)
    if events is not None:
        return bool(events.has_weights)
    if file.layout is None:
        return "weights" in file.branches
    weight = file.layout.weight
    column = file.layout.columns.get(weight) if weight else None
    return (weight if column is None else column.branch) in file.branches if weight else False


def _has_momenta(file: File) -> bool:
    events = getattr(file, "events", None)
    if events is not None:
        return bool(events.has_momenta)
    if file.layout is None:
        return False
    there = {n for n, c in file.layout.jet.items() if c.branch is None or c.branch in file.branches}
    return {"pt", "eta", "phi"} <= there and bool({"energy", "mass"} & there)


def _type_of(file: File, name: str) -> np.dtype | None:
    events = getattr(file, "events", None)
    if events is not None:
        kind: np.dtype | None = events.type_of(name)
        return kind
    if file.layout is not None and name in file.layout.columns:
        column = file.layout.columns[name]
        if not column.is_plain or column.branch is None:
            return np.dtype(np.float32)
        name = column.branch
    return number_type(file.branches[name]) if name in file.branches else None


def _some(names: Iterable[str], most: int = 3) -> str:
    given = list(names)
    rest = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(given[:most]) + rest
