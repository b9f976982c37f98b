"""`DataReport`: what was read, what was dropped and why. Nothing is dropped without a line here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_SHOWN = 6  # files in the table of a notebook


@dataclass
class BadValue:
    """Jets that were unusable for one reason: how many, and where the first one was."""

    jets: int
    where: str

    def __str__(self) -> str:
        return f"{self.jets} (first in {self.where})"


@dataclass(repr=False)
class DataReport:
    """Counts of jets.

    Args:
        files: file -> entries.
        read: jets read.
        kept: jets handed on.
        bad: reason -> jets dropped (or kept, by policy) for it.
        padding: rows of zeros that were left out: no constituents.
        sentinels: "column = -999" -> jets with a value that often stands for "there is none".
        unlike: what of the jets' own momenta is not that of their constituents -> jets, kept (see
            `hepml.data.reading.sums`).
        units: a sentence where the units of jets and constituents differ.
        removed_by_selection: jets that the selection removed.
        undefined_in_selection: jets for which the selection met NaN or a value that does not exist (1/0).
        of_other_classes: jets of classes that were not asked for.
        unlabelled: jets of no class, dropped by the layout's policy.
        without_constituents: jets without constituents; they are kept.
        cut_to_leading: jets cut to their leading `max_constituents`.
        not_taken: jets left out by `max_jets`.
        classes: jets kept of each class.
        collection: the jet collection that event files were read from.
        notes: further sentences.

    Examples:
        >>> data = hepml.data.JetDataset.open('data/toptag/val.root', max_jets=100)
        >>> data.report.kept, data.report.not_taken
        (100, 1400)
    """

    files: dict[str, int] = field(default_factory=dict)
    read: int = 0
    kept: int = 0
    bad: dict[str, BadValue] = field(default_factory=dict)
    dropped_bad: int = 0
    padding: int = 0
    sentinels: dict[str, int] = field(default_factory=dict)
    unlike: dict[str, BadValue] = field(default_factory=dict)
    units: str = ""
    removed_by_selection: int = 0
    undefined_in_selection: int = 0
    of_other_classes: int = 0
    unlabelled: int = 0
    without_constituents: int = 0
    cut_to_leading: int = 0
    not_taken: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    collection: str = ""
    notes: list[str] = field(default_factory=list)

    def add_file(self, name: str, entries: int) -> None:
        self.files[name] = entries
        if not entries:
            self.notes.append(f"{name} has no entries")

    def add(self, other: DataReport) -> None:
        """Adds what was counted in another part of the same files."""
        for name, value in other.__dict__.items():
            own = getattr(self, name)
            if name == "files":
                own.update(value)
            elif isinstance(value, bool) or value is None or isinstance(value, str):
                setattr(self, name, own or value)
            elif isinstance(value, int):
                setattr(self, name, own + value)
            elif isinstance(value, list):
                own += [line for line in value if line not in own]
            else:
                for key, counted in value.items():
                    if isinstance(counted, BadValue):
                        _add(own, key, counted.jets, counted.where)
                    else:
                        own[key] = own.get(key, 0) + counted

    def add_bad(self, reason: str, jets: int, where: str) -> None:
        _add(self.bad, reason, jets, where)

    def add_unlike(self, what: str, jets: int, where: str) -> None:
        _add(self.unlike, what, jets, where)

    def add_sentinel(self, column: str, value: float, jets: int) -> None:
        name = f"{column} = {value:g}"
        self.sentinels[name] = self.sentinels.get(name, 0) + jets

    def count_classes(self, classes: Sequence[str], labels: np.ndarray) -> None:
        counted = np.bincount(labels[labels >= 0], minlength=len(classes))
        for name, n in zip(classes, counted, strict=False):
            self.classes[name] = self.classes.get(name, 0) + int(n)

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON-able values."""
        entries: dict[str, Any] = dict(self.__dict__)
        for name in ("bad", "unlike"):
            entries[name] = {
                reason: {"jets": b.jets, "first": b.where} for reason, b in entries[name].items()
            }
        return entries

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataReport:
        """The report that `as_dict` wrote."""
        counted = {
            name: {reason: BadValue(b["jets"], b["first"]) for reason, b in values.get(name, {}).items()}
            for name in ("bad", "unlike")
        }
        return cls(**{**values, **counted})

    def doubts(self) -> list[str]:
        """What does not add up, though every number may be right by itself."""
        lines = [
            f"{what} of the constituents' sum is neither the jet's own nor off as is usual in this file: "
            f"{sizes}; kept"
            for what, sizes in self.unlike.items()
        ]
        return lines + ([self.units] if self.units else [])

    def __str__(self) -> str:
        files = f"{len(self.files)} files" if len(self.files) != 1 else next(iter(self.files))
        text = [f"{self.kept} of {self.read} jets kept from {files}"]
        if self.classes:
            text.append("classes: " + ", ".join(f"{name} {n}" for name, n in self.classes.items()))
        text += [f"{reason}: {bad}" for reason, bad in self.bad.items()]
        text += [f"{count} {words}" for words, count in self._counts().items()]
        text += self.doubts()
        for name, jets in self.sentinels.items():
            text.append(f"{jets} jets have {name}: if that stands for none, say so (`missing` in the layout)")
        return "; ".join(text + self.notes)

    def __repr__(self) -> str:
        return f"DataReport: {self}"

    def _repr_html_(self) -> str:
        files = [f"{html.escape(name)}: {entries:,} entries" for name, entries in self.files.items()]
        more = [f"and {len(files) - _SHOWN} more"] if len(files) > _SHOWN else []
        rows = {
            "files": "<br>".join(files[:_SHOWN] + more),
            "read": f"{self.read:,}",
            "kept": f"{self.kept:,}",
            **{f"class {html.escape(name)}": f"{n:,}" for name, n in self.classes.items()},
            **{html.escape(reason): html.escape(str(bad)) for reason, bad in self.bad.items()},
            **{words: f"{count:,}" for words, count in self._counts().items()},
            **{html.escape(name): f"{jets:,} jets" for name, jets in self.sentinels.items()},
        }
        body = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows.items())
        notes = "".join(f"<br>{html.escape(note)}" for note in [*self.doubts(), *self.notes])
        return f"<div><b>DataReport</b><table>{body}</table>{notes}</div>"

    def _counts(self) -> dict[str, int]:
        """What happened to jets, in words, with how often; what did not happen is left out."""
        counted = (
            (self.dropped_bad, "jets dropped for bad values"),
            (self.padding, "rows of zeros left out as padding"),
            (self.removed_by_selection, "jets removed by the selection"),
            (self.undefined_in_selection, "jets for which the selection met NaN or a division by zero"),
            (self.of_other_classes, "jets of other classes left out"),
            (self.unlabelled, "jets of no class dropped"),
            (self.without_constituents, "jets without constituents (kept)"),
            (self.cut_to_leading, "jets cut to their leading constituents"),
            (self.not_taken, "jets left out by max_jets"),
        )
        return {words: count for count, words in counted if count}


def _add(counts: dict[str, BadValue], reason: str, jets: int, where: str) -> None:
    if reason in counts:
        counts[reason].jets += jets
    else:
        counts[reason] = BadValue(jets, where)
