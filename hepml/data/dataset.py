"""`JetDataset`: the packed jets of some files, in memory or in a memory-mapped cache, with random access
by vectorised gather."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.build import Request, build
from hepml.data.inputs import Inputs
from hepml.data.layouts.event_layout import with_jets
from hepml.data.reading.reader import LayoutLike
from hepml.data.reading.reconcile import MissingColumns
from hepml.data.reading.report import DataReport
from hepml.data.reading.screen import BadJets
from hepml.data.reading.sources import Files
from hepml.data.rows import positions
from hepml.data.sampling.samples import Sample
from hepml.data.sampling.splitting import parts_by_share

if TYPE_CHECKING:
    from hepml.data.cache import Write

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, eq=False, repr=False)
class JetDataset:
    """Packed jets. `open` makes one.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV.
        offsets: [N + 1] int64.
        features: [ΣN, F] standardised, or None.
        feature_names: the F names.
        jet_features: [N, J], or None.
        jet_feature_names: the J names.
        labels: [N] int64 classes, [N] float targets, or None.
        weights: [N], or None.
        jet_momenta: [N, 4], or None.
        jet_columns: every jet-level number of the file where `jet_columns="all"` was asked for, by name, [N]
            each.
        extras: further views by name (see `hepml.data.extras`), [ΣN, ...] or [N, ...].
        collections: further collections of the same jets, by name (see `JetBatch`).
        classes: class names; their order is the label's.
        entries: [N] entry of each jet in its file.
        events: [N] event of each jet over all files; None where each is an event of its own.
        report: what was read, dropped and why.

    Examples:
        >>> data = hepml.data.JetDataset.open('data/toptag/val.root', classes=['QCD', 'Tbqq'], max_jets=100)
        >>> len(data), data.classes, len(data.batch([3, 5]))
        (100, ('QCD', 'Tbqq'), 2)
    """

    four_momenta: Tensor
    offsets: Tensor
    features: Tensor | None = None
    feature_names: tuple[str, ...] = ()
    jet_features: Tensor | None = None
    jet_feature_names: tuple[str, ...] = ()
    labels: Tensor | None = None
    weights: Tensor | None = None
    jet_momenta: Tensor | None = None
    jet_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    collections: Mapping[str, JetBatch] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    entries: np.ndarray | None = None
    events: np.ndarray | None = None
    report: DataReport = field(default_factory=DataReport)

    @classmethod
    def open(
        cls,
        files: Files,
        inputs: Inputs | None = None,
        *,
        layout: LayoutLike = None,
        jets: str | None = None,
        classes: Classes | None = None,
        target: str | None = None,
        weights: str | bool | None = None,
        selection: str | None = None,
        max_jets: int | None = None,
        cache: Path | str | None = None,
        samples: Sequence[Sample] = (),
        bad: BadJets = "drop",
        labels: bool = True,
        jet_columns: Sequence[str] | str = (),
        missing_columns: MissingColumns | None = None,
        write: Write | None = None,
    ) -> JetDataset:
        """Reads, checks and packs jets.

        Args:
            files: path, glob, folder, `file.root:tree`, npz, or a list of those.
            inputs: what the model reads; four-momenta alone where left out.
            layout: name, mapping, YAML file or `Layout`; recognised where left out.
            jets: the jet collection of event files; the widest with constituents where left out.
            classes: label names in the order of the model's outputs; a mapping `{name: label or [labels]}`
                merges. Jets of other classes are left out and counted. All that the files have where left
                out.
            target: jet column to regress; replaces labels.
            weights: column of event weights, True for the layout's own (an error where absent), False for
                none; None takes the layout's own where there is one.
            selection: expression on jet columns.
            max_jets: keep a random sample of so many of all that were read (files are often sorted by class).
            samples: samples that the files belong to, with classes and cross-sections.
            cache: folder for a packed, memory-mapped copy, reused as long as files, layout and inputs stay
                the same.
            bad: what to do with jets that have NaN, infinite or unphysical values: `drop` (and count),
                `refuse` or `keep`.
            labels: False reads jets without labels (prediction), and then no jet is dropped for its label.
            jet_columns: jet-level columns to keep for output, "all" for every number of the file.
            missing_columns: what to do with a column that some of the files lack: `refuse`, `fill` or `drop`
                (see `hepml.data.reading.reconcile`). Left out, what was asked for by name is refused, and
                what came along is dropped.
            write: how a cache is built (see `hepml.data.packing_cluster`); in this process where left out.

        Raises:
            HepmlError: anything wrong with files, layout or jets, in one line.
        """
        request = Request(
            inputs=inputs or Inputs(),
            layout=with_jets(layout, jets),
            classes=classes,
            target=target,
            weights=weights,
            selection=selection,
            max_jets=max_jets,
            bad=bad,
            labels=labels,
            jet_columns=jet_columns,
            missing_columns=missing_columns,
            samples=tuple(samples),
        )
        if cache is None:
            return cls(**build(files, request))
        from hepml.data.cache import open_cache

        return cls(**open_cache(Path(cache), files, request, write))

    @classmethod
    def from_batch(cls, batch: JetBatch, classes: Sequence[str] = ()) -> JetDataset:
        """The jets of a batch as a data set."""
        return cls(
            four_momenta=batch.four_momenta,
            offsets=batch.offsets,
            features=batch.features,
            feature_names=batch.feature_names,
            jet_features=batch.jet_features,
            jet_feature_names=batch.jet_feature_names,
            labels=batch.labels,
            weights=batch.weights,
            jet_momenta=batch.jet_momenta,
            extras=batch.extras,
            collections=batch.collections,
            classes=tuple(classes),
            report=DataReport(files={"a batch": len(batch)}, read=len(batch), kept=len(batch)),
        )

    def __len__(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @cached_property
    def counts(self) -> np.ndarray:
        """Constituents of each jet, [N] int64."""
        return np.diff(self.offsets.numpy())

    @cached_property
    def digest(self) -> str:
        """Hash of what a model sees: momenta, features, offsets, labels and weights; the same however the
        jets were stored."""
        h = xxhash.xxh3_128()
        h.update(repr((self.feature_names, self.jet_feature_names, self.classes)).encode())
        for t in (
            self.offsets,
            self.four_momenta,
            self.features,
            self.jet_features,
            self.labels,
            self.weights,
        ):
            h.update(b"-" if t is None else t.contiguous().numpy().data)
        for name, other in self.collections.items():
            h.update(name.encode())
            for t in (other.offsets, other.four_momenta, other.features):
                h.update(b"-" if t is None else t.contiguous().numpy().data)
        return h.hexdigest()

    def batch(self, indices: Any) -> JetBatch:
        """The jets at these positions, in this order; `index` holds the positions.

        Args:
            indices: [B] integers, a slice, or booleans [N].
        """
        which = positions(indices, len(self))
        return self.whole.at(which, index=which)

    def __repr__(self) -> str:
        shown = repr(self.whole).replace("JetBatch of", "JetDataset of", 1)
        return f"{shown}\n  report        {self.report}"

    def _repr_html_(self) -> str:
        shown = self.whole._repr_html_().replace("<b>JetBatch</b>", "<b>JetDataset</b>", 1)
        return f"{shown}<div>{html.escape(str(self.report))}</div>"

    @cached_property
    def whole(self) -> JetBatch:
        """All jets as one batch, which views the same memory."""
        return JetBatch(
            four_momenta=self.four_momenta,
            offsets=self.offsets,
            features=self.features,
            feature_names=self.feature_names,
            jet_features=self.jet_features,
            jet_feature_names=self.jet_feature_names,
            labels=self.labels,
            weights=self.weights,
            jet_momenta=self.jet_momenta,
            extras=self.extras,
            collections=self.collections,
        )

    def split(self, share: float, seed: int = 0) -> tuple[JetDataset, JetDataset]:
        """Two parts, the second with that share of the jets, drawn at random; no event is in both."""
        parts = parts_by_share(
            len(self), {"first": 1 - round(share * len(self)) / max(len(self), 1)}, seed, self.events
        )
        return self.subset(parts["first"]), self.subset(parts[""])

    def subset(self, indices: np.ndarray) -> JetDataset:
        """The jets at these positions as a data set of its own, in memory."""
        batch = self.batch(indices)
        report = replace(self.report, kept=len(batch), not_taken=len(self) - len(batch), classes={})
        if batch.labels is not None and self.classes:
            report.count_classes(self.classes, batch.labels.numpy())
        return replace(
            JetDataset.from_batch(batch, self.classes),
            jet_columns={n: c[indices] for n, c in self.jet_columns.items()},
            entries=None if self.entries is None else self.entries[indices],
            events=None if self.events is None else self.events[indices],
            report=report,
        )
