"""From the labels of files to the classes that a user asks for, in the order of a model's outputs.

Jets of classes that were not asked for are left out and counted; jets of no class, or of several, are an
error unless the layout says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hepml.data.reading.chunk import Chunk
from hepml.data.reading.layouts import Layout
from hepml.data.reading.npz import names_classes
from hepml.data.reading.per_jet import BEYOND, NO_INDEX, NONE, SEVERAL
from hepml.data.reading.report import DataReport
from hepml.errors import DataError, LayoutError, did_you_mean

if TYPE_CHECKING:
    from hepml.data.reading.scanning import Scan

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]


class ClassMap:
    """From the files' labels to the classes that a run asks for.

    Args:
        found: the scanned files.
        wanted: label names, or `{class: label or labels}`; None for all that the files have.

    Raises:
        LayoutError: no labels, or a class that no file has; names the nearest.
    """

    def __init__(self, scanned: Scan, wanted: Classes | None) -> None:
        self.layouts = {str(f.source): f.layout for f in scanned.files}
        where = str(scanned.files[0].source)
        if not scanned.classes:
            raise LayoutError(
                "these files have no labels", where=where, mend="add labels to the layout, or set data.target"
            )
        if wanted is None:
            self.names = scanned.classes
            table = {name: i for i, name in enumerate(scanned.classes)}
        else:
            groups = wanted if isinstance(wanted, Mapping) else {str(n): str(n) for n in wanted}
            self.names = tuple(str(n) for n in groups)
            table = {}
            for i, labels in enumerate(groups.values()):
                for label in [labels] if isinstance(labels, str | int) else labels:
                    table[str(label)] = i
        self._known = set(table)
        without = [str(f.source) for f in scanned.files if f.entries and not f.classes]
        if without:
            raise LayoutError(
                "no labels, though other files of the list have some",
                where=", ".join(without[:3]),
                mend="leave these files out, or add labels to them",
            )
        # Integer labels of an npz file without names count the classes that were asked for.
        self._plain = wanted is not None and all(
            f.source.is_npz and not names_classes(f.source) for f in scanned.files
        )
        if self._plain:
            if len(scanned.classes) > len(self.names):
                raise DataError(
                    f"label {len(scanned.classes) - 1} for {len(self.names)} classes "
                    f"({', '.join(self.names)})",
                    where=where,
                    mend="save the class names in the npz file as `classes`, or ask for all of them",
                )
            self._table = np.arange(len(scanned.classes), dtype=np.int64)
            return
        for label in table:
            if label not in scanned.classes and label.removeprefix("label_") not in scanned.classes:
                raise LayoutError(
                    f"class '{label}' not found",
                    where=where,
                    mend=did_you_mean(label, scanned.classes, noun="classes at hand"),
                )
        self._table = np.array(
            [table.get(n, table.get(f"label_{n}", -1)) for n in scanned.classes], dtype=np.int64
        )

    def __call__(self, chunk: Chunk, report: DataReport) -> tuple[Chunk, np.ndarray]:
        """The jets of the wanted classes and their labels [B].

        Raises:
            DataError: a jet of no class or of several; names file and entry.
        """
        if chunk.labels is None:
            raise LayoutError(
                "no labels", where=chunk.file, mend="add labels to the layout, or set data.target"
            )
        labels = chunk.labels
        wrong = (labels < 0) | (labels >= len(self._table))
        if wrong.any():
            layout = self.layouts.get(chunk.file.rsplit(":", 1)[0])
            none = labels == NONE
            drop = isinstance(layout, Layout) and layout.unlabelled == "drop"
            if drop and not (wrong & ~none).any():
                report.unlabelled += int(none.sum())
                report.kept -= int(none.sum())
                chunk, labels = chunk.take(~none), labels[~none]
            else:
                first = int(np.nonzero(wrong & ~none if drop else wrong)[0][0])
                kind = {
                    NONE: "no class: its labels sum to 0, or its label is below 0",
                    SEVERAL: "several classes: its labels do not sum to 1, or are neither 0 nor 1",
                    NO_INDEX: "no class: its label is a fraction",
                }
                label = int(labels[first])
                mend = "select such jets away"
                if not isinstance(layout, Layout) or label in (SEVERAL, NO_INDEX):
                    mend = f"repair the file, or {mend}"
                elif label == NONE:
                    mend = f"repair the file, {mend}, or set layout.unlabelled: drop"
                else:
                    mend = f"name all classes in layout.classes, or {mend}"
                raise DataError(
                    f"a jet of {kind.get(label, f'unknown class {BEYOND - label}')}",
                    where=f"{chunk.file}, entry {chunk.entries[first]}",
                    mend=mend,
                )
        mapped = self._table[labels]
        other = mapped < 0
        if other.any():
            report.of_other_classes += int(other.sum())
            report.kept -= int(other.sum())
            chunk, mapped = chunk.take(~other), mapped[~other]
        return chunk, mapped

    def relabelled(self, chunk: Chunk, report: DataReport) -> Chunk:
        """The jets of the wanted classes with their new labels."""
        chunk, labels = self(chunk, report)
        report.count_classes(self.names, labels)
        return replace(chunk, labels=labels, classes=self.names)


def relabel(chunk: Chunk, classes: tuple[str, ...]) -> Chunk:
    """Label indices of one file as indices into the classes of all files."""
    if chunk.labels is None or chunk.classes == classes:
        return chunk
    table = np.array([classes.index(name) for name in chunk.classes] or [NONE], dtype=np.int64)
    labelled = (chunk.labels >= 0) & (chunk.labels < len(table))
    labels = np.where(labelled, table[np.where(labelled, chunk.labels, 0)], np.minimum(chunk.labels, NONE))
    return replace(chunk, labels=labels, classes=classes)
