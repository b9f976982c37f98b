"""From files to the packed columns of a `JetDataset`: read in chunks, relabel, check, standardise, join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.packing import batch_of, jet_matrix
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.classes import ClassMap
from hepml.data.reading.links import starts_of
from hepml.data.reading.reader import LayoutLike, Scan, iterate_chunks, scan
from hepml.data.reading.reconcile import MissingColumns
from hepml.data.reading.report import DataReport
from hepml.data.reading.screen import BadJets
from hepml.data.reading.sources import Files
from hepml.data.reserved import GrowingColumns
from hepml.data.sampling import samples as file_samples
from hepml.errors import DataError, LayoutError

# Packed columns: one row a constituent, and one row a jet.
PER_CONSTITUENT = ("four_momenta", "features")
PER_JET = ("counts", "jet_features", "labels", "weights", "jet_momenta", "entries", "events")
ABOUT = ("feature_names", "classes")  # what a piece says besides columns
JET_COLUMNS, EXTRAS = "jet_columns.", "extras."  # before the names of such columns
BESIDE = "collections."  # before the name of a further collection, its column behind
_BATCH_COLUMNS = ("four_momenta", "features", "jet_features", "labels", "weights")


@dataclass(frozen=True)
class Request:
    """What a data set is to hold; the arguments of `JetDataset.open`."""

    inputs: Inputs = field(default_factory=Inputs)
    layout: LayoutLike = None
    classes: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None
    target: str | None = None
    weights: str | bool | None = None
    selection: str | None = None
    max_jets: int | None = None
    bad: BadJets = "drop"
    labels: bool = True
    jet_columns: Sequence[str] | str = ()
    missing_columns: MissingColumns | None = None
    samples: tuple[file_samples.Sample, ...] = ()


def build(files: Files, request: Request) -> dict[str, Any]:
    """The arguments of `JetDataset`, in memory.

    Raises:
        HepmlError: see `JetDataset.open`.
    """
    report, scanned = DataReport(), look(files, request)
    if request.max_jets is not None:
        return {**_sampled(scanned, request, request.max_jets, report), "report": report}
    columns = GrowingColumns(scanned.entries)
    about: dict[str, Any] = {}
    for piece in packed_chunks(scanned, request, report, columns):
        columns.append(columns_of(piece, request))
        about = {n: piece[n] for n in ABOUT}
        piece.clear()  # nothing views the columns when they grow
    return {**as_arguments(columns.finish(), about, request), "report": report}


def _sampled(scanned: Scan, request: Request, most: int, report: DataReport) -> dict[str, Any]:
    """A random sample of so many jets."""
    pieces: list[dict[str, Any]] = []
    sample = Sample(most)
    for piece in packed_chunks(scanned, request, report):
        pieces.append(piece)
        sample.add(piece)
        sample.thin(pieces, slack=sample.size)
    sample.thin(pieces)
    _count_again(report, pieces)
    about, total = {n: pieces[0][n] for n in ABOUT}, len(pieces)
    columns = GrowingColumns(total)
    while pieces:
        columns.reached += 1
        columns.append(columns_of(pieces.pop(0), request))
    return as_arguments(columns.finish(), about, request)


def columns_of(piece: dict[str, Any], request: Request) -> dict[str, np.ndarray | None]:
    """All columns of a piece by name, with jet columns and extras under `jet_columns.` and `extras.`."""
    columns: dict[str, np.ndarray | None] = {n: piece[n] for n in (*PER_CONSTITUENT, *PER_JET)}
    columns |= {f"{JET_COLUMNS}{n}": c for n, c in piece["jet_columns"].items()}
    columns |= beside_columns(piece["collections"])
    return columns | {f"{EXTRAS}{n}": c for n, c in extras_of(piece, request).items()}


def as_arguments(columns: dict[str, Any], about: dict[str, Any], request: Request) -> dict[str, Any]:
    """The arguments of `JetDataset` from all columns, the offsets in the place of counts."""
    collections = _batches(take_under(BESIDE, columns), columns.get("jet_momenta"), request)
    offsets = starts_of(columns.pop("counts"))
    jet_columns, extras = take_under(JET_COLUMNS, columns), take_under(EXTRAS, columns)
    entries, events = columns.pop("entries"), columns.pop("events", None)
    return {
        **{n: None if a is None else torch.from_numpy(a) for n, a in columns.items()},
        "offsets": torch.from_numpy(offsets),
        "entries": np.asarray(entries),
        "events": None if events is None else np.asarray(events),
        "jet_columns": {n: np.asarray(a) for n, a in jet_columns.items()},
        "extras": {n: torch.from_numpy(a) for n, a in extras.items()},
        "collections": collections,
        **{n: tuple(about[n]) for n in ABOUT},
        "jet_feature_names": tuple(request.inputs.jet_features),
    }


def beside_columns(collections: Mapping[str, JetBatch]) -> dict[str, np.ndarray | None]:
    """The columns of further collections, each under `collections.`, its name and the column's."""
    out: dict[str, np.ndarray | None] = {}
    for name, batch in collections.items():
        out[f"{BESIDE}{name}.counts"] = batch.counts.numpy()
        out[f"{BESIDE}{name}.four_momenta"] = batch.four_momenta.numpy()
        if batch.features is not None:
            out[f"{BESIDE}{name}.features"] = batch.features.numpy()
    return out


def _batches(columns: dict[str, Any], momenta: Any, request: Request) -> dict[str, JetBatch]:
    """The further collections as batches, from their columns."""
    out = {}
    for name, features in request.inputs.collections:
        own = take_under(f"{name}.", columns)
        stored = own.get("features")
        out[name] = JetBatch(
            torch.from_numpy(own["four_momenta"]),
            torch.from_numpy(starts_of(own["counts"])),
            None if stored is None else torch.from_numpy(stored),
            features if stored is not None else (),
            jet_momenta=None if momenta is None else torch.from_numpy(momenta),
        )
    return out


def take_under(prefix: str, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns whose name begins so, taken out, by the rest of their name."""
    return {n.removeprefix(prefix): columns.pop(n) for n in list(columns) if n.startswith(prefix)}


def look(files: Files, request: Request) -> Scan:
    """The scan of what a request will read."""
    return scan(files, request.layout, missing_columns=request.missing_columns)


def extras_of(piece: dict[str, Any], request: Request) -> dict[str, np.ndarray]:
    """The extras that a model asks for, by name, from the four-momenta of a piece.

    Raises:
        LayoutError: no such extra; names the nearest.
    """
    if not request.inputs.extras:
        return {}
    momenta = torch.from_numpy(piece["four_momenta"])
    offsets = torch.nn.functional.pad(torch.from_numpy(piece["counts"]).cumsum(0), (1, 0))
    with torch.no_grad():
        return {n: extra_table.lookup(n).build(momenta, offsets).numpy() for n in request.inputs.extras}


class Sample:
    """A uniform random sample of fixed size out of a stream, in memory for twice its size; the same for the
    same stream.

    Args:
        size: jets to keep.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rng = np.random.default_rng(0)

    def add(self, piece: dict[str, Any]) -> None:
        """Gives each jet of a new piece its lot."""
        piece["lots"] = self._rng.random(len(piece["counts"]))

    def thin(self, pieces: list[dict[str, Any]], slack: int = 0) -> None:
        """Keeps the jets with the smallest lots, where there are more than `size + slack`."""
        lots = np.concatenate([p["lots"] for p in pieces])
        if len(lots) <= self.size + slack:
            return
        limit = np.partition(lots, self.size - 1)[self.size - 1]
        for piece in pieces:
            keep = piece["lots"] <= limit
            rows = np.repeat(keep, piece["counts"])
            for name in PER_CONSTITUENT:
                piece[name] = None if piece[name] is None else piece[name][rows]
            for name in (*PER_JET, "lots"):
                piece[name] = None if piece[name] is None else piece[name][keep]
            piece["collections"] = {n: b.take(keep) for n, b in piece["collections"].items()}
            piece["jet_columns"] = {n: c[keep] for n, c in piece["jet_columns"].items()}


def packed_chunks(
    scanned: Scan,
    request: Request,
    report: DataReport,
    columns: GrowingColumns | None = None,
    span: tuple[int, int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Packed columns chunk by chunk; `report` is complete after the last.

    Args:
        scanned: the scanned files.
        request: what is wanted of them.
        report: filled in while chunks are taken.
        columns: where the columns of constituents are to be computed; in new memory where left out.
        span: first and last entry, counted over all files. There may then be no jets at all.

    Raises:
        HepmlError: see `JetDataset.open`.
    """
    scanned.raise_first()
    for name in request.inputs.extras:
        extra_table.lookup(name)
    names = feature_table.resolve(request.inputs.features) if request.inputs.features else ()
    raw = feature_table.file_columns_for(names)
    classify = request.labels and request.target is None
    samples = file_samples.SampleMap(request.samples, scanned) if request.samples else None
    labelled = scanned if samples is None else samples.scanned(scanned)
    mapper = ClassMap(labelled, request.classes) if classify else None
    jets = _jet_columns(request)
    if samples is not None and jets != "all":
        jets = list(dict.fromkeys([*jets, *samples.columns(scanned)]))
    stream = iterate_chunks(
        [f.source for f in scanned.files],
        request.layout,
        columns=raw,
        jet_columns=jets,
        selection=request.selection,
        max_constituents=request.inputs.max_constituents,
        bad=request.bad,
        report=report,
        entry_start=None if span is None else span[0],
        entry_stop=None if span is None else span[1],
        step_size=None,
        scanned=scanned,
        finite=[
            *(c for c in request.inputs.jet_features if c not in request.inputs.targets),
            *(c for c in (request.target, request.weights) if isinstance(c, str)),
        ],
        weights=request.weights is None or request.weights is True,
        missing_columns=request.missing_columns,
        essential=_named(request),
        collections={n: feature_table.file_columns_for(f) for n, f in request.inputs.collections},
    )
    read, room = 0, columns.room if columns is not None else None
    for chunk in stream:
        labels: Any = None
        if samples is not None:
            chunk = samples(chunk)
        if mapper is not None:
            chunk, labels = mapper(chunk, report)
        if request.target is not None:
            labels = jet_matrix(chunk, [request.target])[:, 0]
        weights = _weights(chunk, request)
        if not len(chunk):
            continue
        read += len(chunk)
        if columns is not None:
            columns.reached = chunk.reached
        if mapper is not None:
            report.count_classes(mapper.names, labels)
        batch = batch_of(
            JetBatch,
            chunk, names, request.inputs.jet_features, labels=labels, weights=weights, room=room,
            collections=request.inputs.collections, targets=request.inputs.targets,
        )  # fmt: skip
        yield {
            **{name: _array(getattr(batch, name)) for name in _BATCH_COLUMNS},
            "counts": chunk.counts,
            "jet_momenta": batch.jets.numpy(),  # of every chunk, whether or not its file has them
            "entries": chunk.entries,
            "events": chunk.events,
            "jet_columns": {
                n: c
                for n, c in chunk.jets.items()
                if request.jet_columns == "all" or n in request.jet_columns
            },
            "collections": batch.collections,
            "feature_names": names,
            "classes": mapper.names if mapper is not None else (),
        }
    if not read and span is None:
        raise DataError(
            f"no jets left: {report}", mend="loosen the selection or the classes, or repair the file"
        )


def _jet_columns(request: Request) -> list[str] | str:
    if request.jet_columns == "all":
        return "all"
    wanted = [*request.inputs.jet_features, *request.jet_columns]
    return list(dict.fromkeys([*wanted, *_named(request)]))


def _named(request: Request) -> list[str]:
    """The target and the weight, where they are columns by name."""
    return [c for c in (request.target, request.weights) if isinstance(c, str)]


def _array(t: torch.Tensor | None) -> np.ndarray | None:
    return None if t is None else t.numpy()


def _weights(chunk: Chunk, request: Request) -> np.ndarray | None:
    if request.weights is False:
        return None
    if isinstance(request.weights, str):
        return jet_matrix(chunk, [request.weights])[:, 0]
    if request.weights is True and chunk.weights is None:
        raise LayoutError(
            "there are no event weights", where=chunk.file, mend="set data.weights to a column, or to false"
        )
    return chunk.weights


def _count_again(report: DataReport, pieces: list[dict[str, Any]]) -> None:
    """Counts the jets that a sample kept."""
    kept = sum(len(p["counts"]) for p in pieces)
    report.not_taken, report.kept = report.kept - kept, kept
    report.without_constituents = sum(int((p["counts"] == 0).sum()) for p in pieces)
    if report.classes:
        report.classes = {}
        for p in pieces:
            report.count_classes(p["classes"], p["labels"])
