"""Samples: files that belong together, with a class and a cross-section.

    samples:
      qcd/*.root: {class: QCD, cross_section: 1.2}
      ttbar: {files: ttbar/*.root, cross_section: 831.76, label: top}

Each jet takes its sample's class, and as weight the event's weight x cross-section x luminosity / sum of the
event weights of the whole sample, so that a sample counts as its cross-section says, however many events were
generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np

from hepml.data.formats.event_files import EventFile
from hepml.data.reading.branches import kinds_of
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.columns import Column
from hepml.data.reading.layout import missing_branch
from hepml.data.reading.links import starts_of
from hepml.data.reading.per_jet import a_list, element
from hepml.data.reading.reader import iterate_chunks
from hepml.data.reading.scanning import FileScan, Scan
from hepml.data.reading.sources import expand, open_root, open_tree, refusing_damage
from hepml.errors import ConfigError, DataError, did_you_mean

_KEYS = ("files", "class", "label", "cross_section", "luminosity", "weight")


@dataclass(frozen=True)
class Sample:
    """One sample.

    Args:
        name: in messages.
        files: path, glob, folder, or a list of those.
        label: class of its jets, or None for the files' own labels.
        cross_section: in any unit, the same for all samples; None leaves weights as they are.
        luminosity: further factor.
        weight: event column of generator weights; `genWeight` where the file has it.
    """

    name: str
    files: str | tuple[str, ...]
    label: str | None = None
    cross_section: float | None = None
    luminosity: float = 1.0
    weight: str | None = None


def parse_samples(value: Mapping[str, Any], key: str = "data.samples") -> tuple[Sample, ...]:
    """Samples from YAML.

    Raises:
        ConfigError: an unknown key, a cross-section that is no positive number, some samples with a class and
            some without.
    """
    out = []
    for name, about in value.items():
        about = {} if about is None else about
        if not isinstance(about, Mapping):
            raise ConfigError("a sample is a mapping", where=f"{key}.{name}", mend="{files: …, label: …}")
        for word in about:
            if word not in _KEYS:
                raise ConfigError(
                    f"unknown key '{word}'", where=f"{key}.{name}", mend=did_you_mean(str(word), _KEYS)
                )
        label = about.get("class", about.get("label"))
        files = about.get("files", name)
        if not files or not isinstance(files, str | list | tuple):
            raise ConfigError(
                f"files is {files!r}",
                where=f"{key}.{name}",
                mend="a path, glob or folder, or a list of those",
            )
        numbers = {}
        for word in ("cross_section", "luminosity"):
            given = about.get(word)
            if given is not None and (
                isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < np.inf
            ):
                raise ConfigError(
                    f"{word} is {given!r}", where=f"{key}.{name}", mend="give a positive number"
                )
            numbers[word] = None if given is None else float(given)
        idle = [w for w in ("weight", "luminosity") if about.get(w) is not None]
        if idle and numbers["cross_section"] is None:
            raise ConfigError(
                f"{' and '.join(idle)} without a cross_section",
                where=f"{key}.{name}",
                mend="give a cross_section, or event weights by data.weights: NAME",
            )
        out.append(
            Sample(
                str(name),
                files if isinstance(files, str) else tuple(str(f) for f in files),
                None if label is None else str(label),
                numbers["cross_section"],
                numbers["luminosity"] or 1.0,
                about.get("weight"),
            )
        )
    if len({s.label is None for s in out}) > 1:
        without = ", ".join(s.name for s in out if s.label is None)
        raise ConfigError("some samples have a class and some have none", where=f"{key}: {without}")
    if len({s.cross_section is None for s in out}) > 1:
        without = ", ".join(s.name for s in out if s.cross_section is None)
        raise ConfigError("some samples have a cross_section and some have none", where=f"{key}: {without}")
    return tuple(out)


def files_of(samples: Sequence[Sample]) -> list[str]:
    """All files, in the samples' order."""
    return [f for s in samples for f in ([s.files] if isinstance(s.files, str) else s.files)]


class SampleMap:
    """Which sample each file belongs to, with its scale of weights.

    Args:
        samples: whose files these are.
        scanned: the files.
        classes: names that come first, where there are further samples than those.

    Raises:
        DataError: a file in two samples, or weights that add up to nothing.
    """

    def __init__(self, samples: Sequence[Sample], scanned: Scan, classes: Sequence[str] = ()) -> None:
        self.samples = {s.name: s for s in samples}
        self._of: dict[str, Sample] = {}
        places: dict[str, Sample] = {}
        for sample in samples:
            names = list(sample.files) if isinstance(sample.files, tuple) else sample.files
            for source in expand(names):
                other = places.get(source.place)
                if other is not None:
                    twice = "twice in sample" if other is sample else f"in two samples, '{other.name}' and"
                    raise DataError(
                        f"a file {twice} '{sample.name}'",
                        where=source.path,
                        mend="name each file once (the trees of a file belong to one sample)",
                    )
                self._of[source.path] = places[source.place] = sample
        own = (s.label for s in samples if s.label is not None)
        self.classes = tuple(dict.fromkeys([*classes, *own]))
        self._scale = {s.name: self._scale_of(s, scanned) for s in samples}

    def scanned(self, scan: Scan) -> Scan:
        """The same files with the samples' classes."""
        if not self.classes:
            return scan
        return replace(scan, files=tuple(replace(f, classes=self.classes) for f in scan.files))

    def columns(self, scanned: Scan) -> list[str]:
        """Columns of event weights to read."""
        return list(dict.fromkeys(c for f in scanned.files if (c := self._weight(f)) is not None))

    def __call__(self, chunk: Chunk) -> Chunk:
        """The chunk with its sample's class and weights."""
        sample = self._of[next(p for p in self._of if chunk.file == p or chunk.file.startswith(f"{p}:"))]
        changes: dict[str, Any] = {}
        if sample.label is not None:
            index = self.classes.index(sample.label)
            changes |= {"labels": np.full(len(chunk), index, dtype=np.int64), "classes": self.classes}
        if sample.cross_section is not None:
            scale, column = self._scale[sample.name]
            own = chunk.jets.get(column) if column else None
            own = np.ones(len(chunk)) if own is None else own.astype(np.float64)
            changes["weights"] = (own * scale).astype(np.float32)
        return replace(chunk, **changes)

    def _weight(self, file: FileScan) -> str | None:
        sample = self._of.get(file.source.path)
        if sample is None or sample.cross_section is None:
            return None
        return sample.weight or ("genWeight" if "genWeight" in file.jet_columns else None)

    def _scale_of(self, sample: Sample, scanned: Scan) -> tuple[float, str | None]:
        """cross-section x luminosity / sum of event weights, and the column of those weights."""
        if sample.cross_section is None:
            return 1.0, None
        total, squares, column = 0.0, 0.0, None
        for file in scanned.files:
            if self._of.get(file.source.path) is not sample:
                continue
            column = self._weight(file)
            more = (float(file.entries),) * 2 if column is None else _sums(file, column)
            total, squares = total + more[0], squares + more[1]
        if not (total > 0 and total**2 >= (1 - 1e-9) * squares):
            raise DataError(
                f"the event weights of sample '{sample.name}' add up to {total:g} ± {squares**0.5:.3g}",
                mend="give more events, or another column: samples.NAME.weight",
            )
        return sample.cross_section * sample.luminosity / total, column


def _sums(file: FileScan, column: str) -> tuple[float, float]:
    """The sum of a column and of its squares over all events of a file (not over jets)."""
    if file.events is None and (file.layout is None or column in file.layout.columns):
        return _sums_of_jets(file, column)
    own = Column(branch=column) if file.events is None else _own_column(file.events, column)
    branch = own.branch
    if branch is None:  # a constant
        return file.entries * (own.constant or 0.0), file.entries * (own.constant or 0.0) ** 2
    with open_root(file.source) as directory, refusing_damage(str(file.source)):
        _, tree = open_tree(directory, file.source, file.tree)
        kinds = kinds_of(tree)
        if branch not in kinds:
            raise missing_branch(branch, kinds, str(file.source))
        total = squares = 0.0
        for low in range(0, file.entries, 100_000):
            values = tree[branch].array(entry_start=low, entry_stop=min(low + 100_000, file.entries))
            if own.element is not None and values.ndim == 2:
                counts = np.asarray(ak.num(values))
                values = ak.Array(element(np.asarray(ak.flatten(values)), starts_of(counts), own.element))
            if values.ndim != 1:  # Delphes writes a list of one
                if not ak.all(ak.num(values) == 1):
                    raise a_list(branch, "weight branch", str(file.source))
                values = values[:, 0]
            w = own(np.asarray(values)).astype(np.float64)
            total, squares = total + float(w.sum()), squares + float(w @ w)
    return total, squares


def _own_column(events: EventFile, name: str) -> Column:
    """Where a column of event weights comes from: the layout's own columns, an event column, or a branch."""
    layout = events.layout
    if name in layout.columns:
        return layout.columns[name]
    return Column(branch=events.chosen.jets.event.get(name, layout.event.get(name, name)))


def _sums_of_jets(file: FileScan, column: str) -> tuple[float, float]:
    """The same for a file of jets, where each jet is an event of its own."""
    total = squares = 0.0
    alone = Scan((file,))
    for chunk in iterate_chunks(
        [file.source], columns=(), jet_columns=[column], bad="keep", weights=False, scanned=alone
    ):
        w = np.asarray(chunk.jets[column], dtype=np.float64)
        total, squares = total + float(w.sum()), squares + float(w @ w)
    return total, squares
