"""From files to the packed columns of a `JetDataset`: read in chunks, relabel, check, standardise, join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.data.inputs import Inputs
from hepml.data.packing import batch_of, jet_matrix
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.classes import ClassMap
from hepml.data.reading.reader import STEP, LayoutLike, Scan, iterate_chunks, scan
from hepml.data.reading.reconcile import MissingColumns
from hepml.data.reading.report import DataReport
from hepml.data.reading.screen import BadJets
from hepml.data.reading.sources import Files
from hepml.data.sampling import samples as file_samples
from hepml.errors import DataError, LayoutError

# Packed columns: one row a constituent, and one row a jet.
PER_CONSTITUENT = ("four_momenta", "features")
PER_JET = ("counts", "jet_features", "labels", "weights", "jet_momenta", "entries", "events")
IN_MEMORY_STEP = 60_000  # entries a chunk where all of them are kept anyway: fewer, larger pieces to join
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
    report = DataReport()
    pieces: list[dict[str, Any]] = []
    sample = None if request.max_jets is None else Sample(request.max_jets)
    for piece in packed_chunks(look(files, request), request, report, IN_MEMORY_STEP):
        pieces.append(piece)
        if sample is not None:
            sample.add(piece)
            sample.thin(pieces, slack=sample.size)
    if sample is not None:
        sample.thin(pieces)
        _count_again(report, pieces)
    for piece in pieces:
        piece["extras"] = extras_of(piece, request)
    return {**join(pieces, request), "report": report}


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
            piece["jet_columns"] = {n: c[keep] for n, c in piece["jet_columns"].items()}


def packed_chunks(
    found: Scan, request: Request, report: DataReport, step_size: int = STEP
) -> Iterator[dict[str, Any]]:
    """Packed columns chunk by chunk; `report` is complete after the last.

    Raises:
        HepmlError: see `JetDataset.open`.
    """
    found.raise_first()
    for name in request.inputs.extras:
        extra_table.lookup(name)
    names = feature_table.resolve(request.inputs.features) if request.inputs.features else ()
    columns = feature_table.file_columns_for(names)
    classify = request.labels and request.target is None
    samples = file_samples.SampleMap(request.samples, found) if request.samples else None
    labelled = found if samples is None else samples.scanned(found)
    mapper = ClassMap(labelled, request.classes) if classify else None
    jets = _jet_columns(request)
    if samples is not None and jets != "all":
        jets = list(dict.fromkeys([*jets, *samples.columns(found)]))
    stream = iterate_chunks(
        [f.source for f in found.files],
        request.layout,
        columns=columns,
        jet_columns=jets,
        selection=request.selection,
        max_constituents=request.inputs.max_constituents,
        bad=request.bad,
        report=report,
        step_size=step_size,
        scanned=found,
        finite=[
            *request.inputs.jet_features,
            *(c for c in (request.target, request.weights) if isinstance(c, str)),
        ],
        weights=request.weights is None or request.weights is True,
        missing_columns=request.missing_columns,
        essential=_named(request),
    )
    seen = 0
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
        seen += len(chunk)
        if mapper is not None:
            report.count_classes(mapper.names, labels)
        batch = batch_of(chunk, names, request.inputs.jet_features, labels=labels, weights=weights)
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
            "feature_names": names,
            "classes": mapper.names if mapper is not None else (),
        }
    if not seen:
        raise DataError(
            f"no jets left: {report}", mend="loosen the selection or the classes, or repair the file"
        )


def join(pieces: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """The columns of all chunks behind each other, as tensors."""
    first = pieces[0]

    def one(name: str) -> np.ndarray | None:
        parts = [p.pop(name) for p in pieces]
        if any(part is None for part in parts):
            return None
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    counts = one("counts")
    assert counts is not None
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    columns = {n: np.concatenate([p["jet_columns"][n] for p in pieces]) for n in first["jet_columns"]}
    extras = {n: np.concatenate([p["extras"][n] for p in pieces]) for n in first["extras"]}
    out: dict[str, Any] = {
        name: None if (array := one(name)) is None else torch.from_numpy(array)
        for name in ("four_momenta", "features", "jet_features", "labels", "weights", "jet_momenta")
    }
    return {
        **out,
        "offsets": torch.from_numpy(offsets),
        "entries": one("entries"),
        "events": one("events"),
        "feature_names": first["feature_names"],
        "jet_feature_names": tuple(request.inputs.jet_features),
        "jet_columns": columns,
        "extras": {n: torch.from_numpy(a) for n, a in extras.items()},
        "classes": first["classes"],
    }


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
