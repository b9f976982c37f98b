"""`StreamedJets`: the jets of files that do not fit in memory, read again whenever they are needed.

The files are cut into shards of some thousand entries. One pass over them counts the jets that are fit to
use, and keeps what a training must know of all (lengths, labels, weights, events: 4 to 16 bytes a jet);
everything else is read shard by shard. The jets, their order and every number are those of a `JetDataset` of
the same files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.build import (
    ABOUT,
    PER_CONSTITUENT,
    PER_JET,
    Request,
    as_arguments,
    columns_of,
    look,
    packed_chunks,
)
from hepml.data.dataset import JetDataset
from hepml.data.reading.reader import Scan
from hepml.data.reading.report import DataReport
from hepml.data.reading.scanning import FileScan
from hepml.data.reading.sources import Files, open_root, open_tree
from hepml.data.reading.tree_reader import TreeReader
from hepml.data.reserved import GrowingColumns
from hepml.data.rows import positions
from hepml.errors import ConfigError, DataError

SHARD = 10_000  # entries; baskets of up to twice as many stay whole
EVENTS = 2_000  # of files of events, which have several jets each
FEW = 2_000  # entries, where the files are sorted by class: shards of many classes must be read to mix them
_SORTED = 0.2  # by which the commonest class of a shard is commoner there than in all, in sorted files
_OPEN = 4  # files that stay open


@dataclass(frozen=True)
class Shard:
    """Entries of one file.

    Args:
        file: number of the file.
        first, last: entries, counted over all files.
    """

    file: int
    first: int
    last: int


class ShardReader:
    """Reads shards; files are opened when they are needed first, and some stay open.

    Args:
        found: the scanned files.
        request: what is wanted of them.
    """

    def __init__(self, scanned: Scan, request: Request) -> None:
        self.scanned, self.request = closed(scanned), request
        self._open: OrderedDict[int, tuple[Any, FileScan]] = OrderedDict()

    def pieces(
        self, shard: Shard, report: DataReport, columns: GrowingColumns | None = None
    ) -> Iterator[dict[str, Any]]:
        """The packed columns of a shard's jets, chunk by chunk, those of constituents in `columns`."""
        files = list(self.scanned.files)
        files[shard.file] = self.opened(shard.file)
        scanned = replace(self.scanned, files=tuple(files))
        return packed_chunks(scanned, self.request, report, columns, (shard.first, shard.last))

    def read(self, shard: Shard) -> JetBatch:
        """All jets of a shard."""
        report = DataReport()
        columns, about = GrowingColumns(shard.last - shard.first), None
        for piece in self.pieces(shard, report, columns):
            columns.append(columns_of(piece, self.request))
            about = {n: piece[n] for n in ABOUT}
            piece.clear()  # nothing views the columns when they grow
        assert about is not None, "only shards with jets are read"
        arguments = as_arguments(columns.finish(), about, self.request)
        return JetDataset(**arguments).whole

    def close(self) -> None:
        """Closes the files."""
        while self._open:
            self._open.popitem()[1][0].close()

    def opened(self, number: int) -> FileScan:
        """The scanned file with its tree open, where it is a file of one tree of jets."""
        item = self.scanned.files[number]
        if item.layout is None or item.tree is None:
            return item
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number][1]
        while len(self._open) >= _OPEN:
            self._open.popitem(last=False)[1][0].close()
        directory = open_root(item.source)
        tree = open_tree(directory, item.source, item.tree)[1]
        events = None if item.events is None else replace(item.events, tree=tree)
        opened = replace(item, opened=tree if events is None else None, events=events)
        self._open[number] = directory, opened
        return opened


def closed(scanned: Scan) -> Scan:
    """The scan without open files, as it travels to another process."""

    def one(item: FileScan) -> FileScan:
        events = item.events
        if events is not None and getattr(events, "tree", None) is not None:
            events = replace(events, tree=None)
        return replace(item, opened=None, events=events)

    return replace(scanned, files=tuple(one(item) for item in scanned.files))


@dataclass(frozen=True, eq=False, repr=False)
class StreamedJets:
    """Jets that stay in their files. `open` makes one.

    Args:
        reader: of their shards.
        shards: those that have jets.
        bounds: [S + 1] positions at which the shards' jets begin, and the end.
        counts: [N] constituents of each jet.
        sizes: [S] constituents of each shard.
        kinds: [S] the commonest class of each shard.
        labels: [N] classes or targets, or None.
        weights: [N], or None.
        events: [N] event of each jet, or None.
        row_bytes: bytes a constituent takes, features included.
        classes: class names.
        digest: hash of what a model sees.
        report: what was read, dropped and why.
    """

    reader: ShardReader
    shards: tuple[Shard, ...]
    bounds: np.ndarray
    counts: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    labels: Tensor | None
    weights: Tensor | None
    events: np.ndarray | None
    row_bytes: int
    classes: tuple[str, ...]
    digest: str
    report: DataReport = field(default_factory=DataReport)

    @classmethod
    def open(cls, files: Files, request: Request) -> StreamedJets:
        """Goes through the files once.

        Raises:
            HepmlError: see `JetDataset.open`.
        """
        if request.max_jets is not None:
            raise ConfigError(
                "data.max_jets and data.stream do not go together",
                where="data.max_jets",
                mend="data.train_share takes a part of the jets, or leave out data.stream",
            )
        scanned = look(files, request).raise_first()
        reader, report = ShardReader(scanned, request), DataReport()
        kept: list[Shard] = []
        parts: list[tuple[Shard, int]] = []  # smaller shards of those, with how many jets each has
        edges = [0]
        known, row_bytes = GrowingColumns(scanned.entries), 0
        hashes: dict[str, Any] = {}
        about: dict[str, Any] = dict.fromkeys(ABOUT, ())
        before = np.cumsum([0, *(item.entries for item in scanned.files)])
        for shard in cut(scanned, reader):
            own, smaller = DataReport(), _smaller(shard)
            jets = np.zeros(len(smaller), dtype=np.int64)
            for piece in reader.pieces(shard, own):
                jets += _in_each(smaller, piece["entries"] + before[shard.file])
                known.reached = shard.last
                known.append(
                    {
                        "counts": _narrow(piece["counts"]),
                        "labels": _small(piece["labels"]),
                        "weights": piece["weights"],
                        "events": piece["events"],
                    }
                )
                for name in (*PER_CONSTITUENT, *PER_JET):
                    if piece[name] is not None and name not in ("entries", "events"):
                        h = hashes.setdefault(name, xxhash.xxh3_128())
                        h.update(np.ascontiguousarray(piece[name]).data)
                wide = 0 if piece["features"] is None else piece["features"].shape[1]
                row_bytes, about = 4 * (4 + wide), {n: piece[n] for n in ABOUT}
            report.add(own)
            if jets.any():
                kept.append(shard)
                parts += zip(smaller, jets.tolist(), strict=True)
                edges.append(edges[-1] + int(jets.sum()))
        if not kept:
            raise DataError(
                f"no jets left: {report}", mend="loosen the selection or the classes, or repair the file"
            )
        columns_known = known.finish()
        labels, shards, bounds = columns_known["labels"], kept, np.array(edges, dtype=np.int64)
        if _are_sorted(labels, bounds):
            shards = [part for part, many in parts if many]
            bounds = np.cumsum([0, *(many for _, many in parts if many)], dtype=np.int64)
        digests = [(name, h.hexdigest()) for name, h in sorted(hashes.items())]
        return cls(
            reader=reader,
            shards=tuple(shards),
            bounds=bounds,
            counts=columns_known["counts"],
            sizes=np.add.reduceat(columns_known["counts"], bounds[:-1], dtype=np.int64),
            kinds=_commonest(labels, bounds)[0],
            labels=None if labels is None else torch.from_numpy(labels),
            weights=None if columns_known["weights"] is None else torch.from_numpy(columns_known["weights"]),
            events=columns_known["events"],
            row_bytes=row_bytes,
            classes=tuple(about["classes"]),
            digest=xxhash.xxh3_128(repr((digests, about)).encode()).hexdigest(),
            report=report,
        )

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def batch(self, indices: Any) -> JetBatch:
        """The jets at these positions, in this order, read from their files: a pass over every shard that has
        one of them."""
        which = positions(indices, len(self)).numpy()
        if not len(which):
            return replace(self._one_jet.take(torch.zeros(0, dtype=torch.int64)), index=torch.zeros(0).long())
        picked_jets = picked(lambda shard: self.reader.read(self.shards[shard]), self.bounds, which)
        return replace(picked_jets, index=torch.from_numpy(which))

    @cached_property
    def _one_jet(self) -> JetBatch:
        return self.reader.read(self.shards[0])


def picked(part: Callable[[int], JetBatch], bounds: np.ndarray, which: np.ndarray) -> JetBatch:
    """The jets at these positions of several parts behind each other, in this order.

    Args:
        part: gives a part by its number; asked once for each that has one of the jets.
        bounds: positions at which the parts begin, and the end.
        which: [N] positions.
    """
    owner = np.searchsorted(bounds, which, side="right") - 1
    by_part = np.argsort(owner, kind="stable")
    taken = [part(k).take(torch.from_numpy(which[owner == k] - bounds[k])) for k in np.unique(owner).tolist()]
    whole = JetBatch.concatenate(taken) if len(taken) > 1 else taken[0]
    del taken
    back = np.empty(len(which), dtype=np.int64)
    back[by_part] = np.arange(len(which))
    return whole.take(torch.from_numpy(back))


def cut(scanned: Scan, reader: ShardReader, size: int = 1) -> Iterator[Shard]:
    """The entries of all files in shards, cut where baskets end, so that none is decompressed twice.

    Args:
        size: in units of the usual one.
    """
    before = 0
    for number, item in enumerate(scanned.files):
        for low, high in _ranges(item, number, reader, size):
            yield Shard(number, before + low, before + high)
        before += item.entries


def _ranges(item: FileScan, number: int, reader: ShardReader, size: int) -> list[tuple[int, int]]:
    step = size * (SHARD if item.events is None else EVENTS)
    if item.layout is None or item.events is not None or not item.entries:
        return [(low, min(low + step, item.entries)) for low in range(0, item.entries, step)]
    tree = reader.opened(number).opened
    lists = [c.branch for g in item.layout.constituents for c in g.columns.values() if c.branch]
    local = None if item.source.is_remote else item.source.path
    own = TreeReader(tree, str(item.source), local)
    stored = [n for n in item.layout.definitions.branches(lists) if n in item.branches]
    return list(own.steps(stored, 0, item.entries, step))


def _in_each(shards: list[Shard], entries: np.ndarray) -> np.ndarray:
    """How many of these entries (over all files, rising) each of neighbouring shards has."""
    edges = np.searchsorted(entries, [*(s.first for s in shards), shards[-1].last])
    return np.asarray(np.diff(edges), dtype=np.int64)


def _narrow(counts: np.ndarray) -> np.ndarray:
    """Lengths in two bytes where they fit, else in four."""
    return counts.astype(np.int16 if counts.max(initial=0) <= np.iinfo(np.int16).max else np.int32)


def _smaller(shard: Shard) -> list[Shard]:
    """The shard in pieces, for which its baskets will be decompressed more than once."""
    edges = [*range(shard.first, shard.last, FEW), shard.last]
    return [Shard(shard.file, low, high) for low, high in pairwise(edges)]


def _commonest(labels: np.ndarray | None, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The commonest class of each shard, and its share there; one for all without classes."""
    commonest, share = np.zeros(len(bounds) - 1, dtype=np.int64), np.zeros(len(bounds) - 1)
    if labels is not None and labels.dtype.kind == "i":
        for i, (low, high) in enumerate(pairwise(bounds.tolist())):
            counted = np.bincount(np.maximum(labels[low:high], 0))
            commonest[i], share[i] = counted.argmax(), counted.max() / (high - low)
    return commonest, share


def _are_sorted(labels: np.ndarray | None, bounds: np.ndarray) -> bool:
    """Whether shards are of one class, or nearly so, and all jets are not."""
    if labels is None or labels.dtype.kind != "i" or len(bounds) < 3:
        return False
    whole = np.bincount(np.maximum(labels, 0)).max() / len(labels)
    weights = np.diff(bounds)
    out: bool = float(np.average(_commonest(labels, bounds)[1], weights=weights)) > whole + _SORTED
    return out


def _small(labels: np.ndarray | None) -> np.ndarray | None:
    """Classes in two bytes; targets as they are."""
    return labels if labels is None or labels.dtype.kind == "f" else labels.astype(np.int16)
