"""Scores of jets, in the order in which they stand in their files, one row a jet.

Jets stream through in chunks; inside a chunk they are scored in batches of similar length and put back in
their order. The number of rows is compared with the number of jets in the files, and a difference is an
error, never a shorter answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor, nn

from hepml import objectives
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.packing import batch_of, prepare
from hepml.data.reading.chunk import Chunk
from hepml.errors import DataError, ModelError
from hepml.models.identity import identity_of
from hepml.models.identity import inputs_of as inputs_of
from hepml.nn.modes import evaluation_mode
from hepml.objectives import Objective

CHUNK = 20_000  # jets read at a time


@dataclass(frozen=True)
class Scored:
    """Some jets of a file with their rows.

    Args:
        rows: [B, C] what `predict` gives for them; NaN for jets that cannot be scored.
        file: where they come from.
        entries: [B] entry of each jet in its file.
        columns: the jets' own columns by name, [B] each.
        labels: [B] index into `classes`, or None.
        classes: the file's class names.
        unusable: jets whose row is NaN.
    """

    rows: np.ndarray
    file: str
    entries: np.ndarray
    columns: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    unusable: int


def predict(
    model: nn.Module,
    files_or_jets: Any,
    batch_size: int = 512,
    *,
    layout: Any = None,
    jets: str | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Class probabilities (or mean and sigma of a regression), in file order.

    Args:
        model: from `hepml.load_model`, `hepml.pretrained.load` or `hepml.models.create`.
        files_or_jets: ROOT or npz files (a path, a glob, a folder, a list of those), awkward jets from
            `hepml.read_jets`, or a `JetBatch`.
        batch_size: jets a step.
        layout: of the files; what the model was trained with, or recognised, where left out.
        jets: the jet collection of event files; that of the training where left out.
        device: where to compute; where the model is, by default.

    Returns:
        [N, C] float array: probabilities of the classes; [N, 2 T] (mean, sigma) in turn for a regression. A
        jet in a file that cannot be scored (NaN or negative energies) has a row of NaN, so that rows and jets
        stay in step; a jet without constituents is scored.

    Raises:
        FileError, LayoutError, DataError: see `hepml.data`; awkward jets with NaN momenta are refused.
    """
    with _evaluating(model, device) as where:
        if _are_files(files_or_jets):
            scored = predict_files(model, files_or_jets, batch_size, layout=layout, jets=jets, device=device)
            parts = [part.rows for part in scored]
        else:
            given = _jets(files_or_jets)
            starts = range(0, len(given), CHUNK)
            if isinstance(given, JetBatch):
                pieces = (given.slice(i, i + CHUNK) for i in starts)
            else:
                pieces = (JetBatch.from_awkward(given[i : i + CHUNK]) for i in starts)
            parts = [score(model, piece, batch_size, where) for piece in pieces]
    return np.concatenate(parts) if parts else np.zeros((0, width_of(model)))


def predict_files(
    model: nn.Module,
    files: Any,
    batch_size: int = 512,
    *,
    layout: Any = None,
    jets: str | None = None,
    device: str | None = None,
    jet_columns: Sequence[str] | str | None = None,
) -> Iterator[Scored]:
    """The same for files, chunk by chunk in bounded memory, with where each jet came from.

    Args:
        jet_columns: jet columns to carry along; "all" for all numbers that every file has.

    Raises:
        DataError: fewer or more rows than the files have jets.
    """
    from hepml.data.reading.reader import iterate_chunks, scan
    from hepml.data.reading.report import DataReport

    if reads_files(model):
        yield from model.score_files(files, batch_size, layout=layout, jet_columns=jet_columns)  # type: ignore[operator]
        return
    inputs = inputs_of(model)
    layout = layout_for(model, layout, jets)
    scanned = scan(files, layout).raise_first()
    if jet_columns == "all":
        jet_columns = common_columns(scanned)
    wanted = [*dict.fromkeys([*(jet_columns or ()), *inputs.jet_features])]
    raw = feature_table.file_columns_for(inputs.features)
    total, report = 0, DataReport()
    with _evaluating(model, device) as where:
        chunks = iterate_chunks(
            files,
            layout,
            columns=raw,
            jet_columns=wanted,
            bad="keep",
            step_size=CHUNK,
            scanned=scanned,
            weights=False,
            report=report,
            collections={n: feature_table.file_columns_for(f) for n, f in inputs.collections},
        )
        for chunk in chunks:
            good = _usable(chunk, inputs.jet_features)
            rows = np.full((len(chunk), width_of(model)), np.nan)
            if good.any():
                rows[good] = _score(model, pack_chunk(chunk.take(good), inputs), batch_size, where)
            total += len(rows)
            columns = {name: chunk.jets[name] for name in (jet_columns or ()) if name in chunk.jets}
            bad = int((~good).sum())
            yield Scored(rows, chunk.file, chunk.entries, columns, chunk.labels, chunk.classes, bad)
    for doubt in report.doubts():
        warnings.warn(doubt, stacklevel=2)
    # an entry of an event file is an event, of which the jets are known once they are read
    expected = report.read if any(f.events is not None for f in scanned.files) else scanned.entries
    if total != expected:
        raise DataError(
            f"{total} rows for {expected} jets",
            where=str(files),
            mend="this is a defect of hepml: report it",
        )


def reads_files(model: nn.Module) -> bool:
    """Whether a model reads columns of files itself, as an experiment's own network does, instead of jets."""
    return hasattr(model, "score_files")


def count_jets(model: nn.Module, files: Any, layout: Any = None, jets: str | None = None) -> int | None:
    """Jets in files that this model can score, before any is read; None for event files, whose jets are known
    once they are read.

    Raises:
        FileError, LayoutError, DataError: files that the model cannot read.
    """
    from hepml.data.reading.reader import scan

    if reads_files(model):
        number: int = model.count(files, layout)  # type: ignore[operator]
        return number
    scanned = scan(files, layout_for(model, layout, jets)).raise_first()
    return None if any(file.events is not None for file in scanned.files) else scanned.entries


def layout_for(model: nn.Module, layout: Any = None, jets: str | None = None) -> Any:
    """The layout to read files with: the one given, else that of the model's training where it fits."""
    from hepml.data.layouts.event_layout import with_jets

    return with_jets(layout if layout is not None else identity_of(model).layout, jets)


def common_columns(scanned: Any) -> list[str]:
    """The jet columns (one number a jet) that every scanned file has, in the first file's order."""
    names = [set(file.jet_columns) for file in scanned.files]
    return [name for name in scanned.files[0].jet_columns if all(name in columns for columns in names)]


def score(
    model: nn.Module, batch: JetBatch, batch_size: int = 512, device: torch.device | None = None
) -> np.ndarray:
    """Activated outputs of a packed batch of any size, [B, C], in its order; scored in batches of similar
    length.

    Features that the batch lacks are computed as for jets from files (see `hepml.data.packing.prepare`).
    """
    inputs = getattr(model, "inputs", None)
    if isinstance(inputs, Inputs):
        batch = prepare(batch, inputs)
    return _score(model, batch, batch_size, device)


def _score(model: nn.Module, batch: JetBatch, batch_size: int, device: torch.device | None) -> np.ndarray:
    head = head_of(model)
    device = device or _device_of(model)
    order = torch.argsort(batch.counts, stable=True)
    parts = []
    for begin in range(0, len(batch), batch_size):
        with torch.inference_mode():
            parts.append(
                head.activation(_outputs(model, batch.take(order[begin : begin + batch_size]), device)).cpu()
            )
    if not parts:
        return np.zeros((0, width_of(model)))
    rows = torch.cat(parts)
    if len(rows) != len(batch):
        raise ModelError(f"{len(rows)} rows for {len(batch)} jets", mend="a model returns one row a jet")
    back = torch.empty_like(rows)
    back[order.to(back.device)] = rows
    return back.numpy()


def score_dataset(
    model: nn.Module,
    dataset: Any,
    batches: Iterable[JetBatch],
    *,
    device: torch.device,
    bf16: bool = False,
    tell: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Activated outputs of a data set in its order, [N, C], from the batches of a loader that gives each jet
    once.

    Raises:
        DataError: a jet without a row.
    """
    head = head_of(model)
    rows = np.full((len(dataset), width_of(model)), np.nan)
    scored = np.zeros(len(dataset), dtype=bool)
    place = _positions(dataset)
    count = 0
    with torch.inference_mode():
        for batch in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext():
                outputs = _outputs(model, batch, device)
            assert batch.index is not None
            at = place(batch.index.cpu().numpy())
            rows[at], scored[at] = head.activation(outputs.double()).cpu().numpy(), True
            count += len(batch)
            tell(count)
    if not scored.all():
        raise DataError(f"{int((~scored).sum())} of {len(dataset)} jets were not scored")
    return rows


def head_of(model: nn.Module) -> Objective:
    """The objective that a model was trained for; categorical over its outputs where it does not say.

    Raises:
        ModelError: it was trained on hidden constituents alone, so that its outputs mean nothing.
    """
    identity = identity_of(model)
    if identity.pretext:
        raise ModelError(
            "this run learnt what was hidden from it (pretraining), and its outputs have learnt nothing",
            mend="fine-tune it on labelled jets: hepml train CONFIG model.pretrained=RUN",
        )
    named = identity.objective
    if isinstance(named, Objective):
        return named
    outputs = int(identity.hyperparameters.get("outputs", 2))
    name = named if isinstance(named, str) else ("bernoulli" if outputs == 1 else "categorical")
    return (
        objectives.objective(name, classes=outputs) if name == "categorical" else objectives.objective(name)
    )


def width_of(model: nn.Module) -> int:
    """Columns of what `predict` gives for this model."""
    if reads_files(model):
        return len(output_names(model))
    head = head_of(model)
    return 2 if head.name == "bernoulli" else head.outputs


def output_names(model: nn.Module) -> list[str]:
    """Names of the columns that `predict` gives: `score_CLASS`, or `predicted_TARGET` and `sigma_TARGET`."""
    if reads_files(model):
        return list(model.output_names)  # type: ignore[arg-type]
    head = head_of(model)
    if head.task == "regression":
        target = identity_of(model).target or "target"
        targets = width_of(model) // 2
        names = [target] if targets == 1 else [f"{target}_{i}" for i in range(targets)]
        return [f"{kind}_{name}" for name in names for kind in ("predicted", "sigma")]
    classes = identity_of(model).bare_classes
    return [f"score_{name}" for name in (classes or range(width_of(model)))]


@contextmanager
def _evaluating(model: nn.Module, device: str | None) -> Iterator[torch.device]:
    where = torch.device(device) if device else _device_of(model)
    with evaluation_mode(model.to(where)):
        yield where


def _device_of(model: nn.Module) -> torch.device:
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _outputs(model: nn.Module, batch: JetBatch, device: torch.device) -> Tensor:
    first = next(model.parameters(), None)
    moved = batch.to(device, non_blocking=True)
    out: Tensor = model(moved if first is None or moved.dtype == first.dtype else moved.to(first.dtype))
    return out


def pack_chunk(chunk: Chunk, inputs: Inputs) -> JetBatch:
    """Jets of a file packed as for training, with the file's own jet axis and relative coordinates."""
    if inputs.max_constituents is not None:
        chunk = chunk.leading(inputs.max_constituents)
    return batch_of(JetBatch, chunk, inputs.features, inputs.jet_features, collections=inputs.collections)


def _usable(chunk: Any, finite: Sequence[str] = ()) -> np.ndarray:
    """Which jets of a chunk can be scored, [B]."""
    from hepml.data.reading.report import DataReport
    from hepml.data.reading.screen import screen

    numbered = replace(chunk, entries=np.arange(len(chunk)))  # jets of one event share an entry
    kept = screen(numbered, "drop", DataReport(), finite, sums=False)
    return (
        np.ones(len(chunk), dtype=bool)
        if len(kept) == len(chunk)
        else np.isin(numbered.entries, kept.entries)
    )


def _positions(dataset: Any) -> Callable[[np.ndarray], np.ndarray]:
    """From the index that batches carry to the position in the data set (a part of one keeps the whole's
    index)."""
    indices = getattr(dataset, "indices", None)
    if indices is None:
        return lambda index: index
    return lambda index: np.searchsorted(indices, index)


def _jets(given: Any) -> JetBatch | ak.Array:
    """Jets as they were given.

    Raises:
        DataError: neither a batch nor an awkward array.
    """
    if isinstance(given, JetBatch | ak.Array):
        return given
    raise DataError(
        f"cannot take jets from a {type(given).__name__}",
        mend="give files, jets from hepml.read_jets, a JetBatch, or padded four-momenta"
        " [jets, constituents, 4] with mask=...",
    )


def _are_files(source: Any) -> bool:
    if isinstance(source, str | Path):
        return True
    return (
        isinstance(source, list | tuple) and bool(source) and all(isinstance(s, str | Path) for s in source)
    )
