"""Whether an exported file equals the tagger that it was exported from: both on the same jets, in batches
and paddings of many shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from hepml.data.batch import JetBatch
from hepml.errors import DataError
from hepml.inference.exporting.session import ExportedTagger
from hepml.inference.exporting.tagger import GIVEN
from hepml.inference.prediction import head_of, inputs_of, pack_chunk
from hepml.models.identity import identity_of
from hepml.packed.rectangle import widest

BATCHES, PADDINGS = (1, 2, 64, 512), (0, 50)
TOLERANCE = 1e-5
_PAIRS = 1 << 22  # of a batch: matrices of pairs are made for the longest of its jets


@dataclass(frozen=True)
class Row:
    """One shape of batch.

    Args:
        batch: jets at a time.
        padding: absent constituents beyond the longest jet.
        jets: how many were compared.
        largest: difference of a probability.
        jet: which jet that was, in the order given.
        constituents: how many that jet has.
    """

    batch: int
    padding: int
    jets: int
    largest: float
    jet: int
    constituents: int


def parity(
    model: nn.Module,
    exported: ExportedTagger,
    jets: JetBatch,
    batches: tuple[int, ...] = BATCHES,
    paddings: tuple[int, ...] = PADDINGS,
    most: int = 512,
) -> list[Row]:
    """The largest difference of a probability between a tagger and its file.

    Args:
        model: in evaluation mode.
        exported: its file.
        jets: with the model's features, and the file's columns.
        batches: jets at a time.
        paddings: absent constituents beyond the longest jet of each batch.
        most: jets that are compared in each shape.
    """
    head = head_of(model)
    rows = []
    with torch.inference_mode():
        wanted = head.activation(model(jets)).double().cpu().numpy()
    for size in batches:
        taken = min(len(jets), most if size > 2 else 32)
        for padding in paddings:
            worst, at = 0.0, 0
            for low, part in _cut(jets, size, taken, padding):
                first = exported.probabilities(part, padding)
                difference = np.abs(first.astype(np.float64) - wanted[low : low + len(part)]).max(axis=1)
                if np.isnan(difference).any():
                    worst, at = np.nan, low + int(np.isnan(difference).argmax())
                elif difference.max(initial=0.0) > worst:
                    worst, at = float(difference.max()), low + int(difference.argmax())
            rows.append(Row(size, padding, taken, worst, at, int(jets.counts[at])))
    return rows


def checked(model: nn.Module, exported: ExportedTagger, files: Any, most: int = 512) -> list[Row]:
    """`parity` on the first jets of files.

    Raises:
        DataError: the files have no jet that can be scored.
    """
    jets = jets_of_files(model, exported, files, most)
    return parity(model, exported, jets, most=most)


def jets_of_files(model: nn.Module, exported: ExportedTagger, files: Any, most: int) -> JetBatch:
    """The first jets of files, with the features that the model reads and the columns that the file does."""
    from hepml.data.features import file_columns_for
    from hepml.data.reading.reader import iterate_chunks, scan
    from hepml.inference.prediction import _usable

    inputs = inputs_of(model)
    both = replace(inputs, features=(*inputs.features, *exported.inputs.features))
    layout = identity_of(model).layout
    scanned = scan(files, layout).raise_first()
    chunks = iterate_chunks(
        files,
        layout,
        columns=file_columns_for(both.features),
        jet_columns=list(inputs.jet_features),
        bad="keep",
        step_size=most,
        scanned=scanned,
        weights=False,
    )
    for chunk in chunks:
        good = _usable(chunk, inputs.jet_features)
        if good.any():
            batch = pack_chunk(chunk.take(good), both)
            return batch if exported.metadata["hepml.jet_axis"] == GIVEN else replace(batch, jet_momenta=None)
    raise DataError("no jet of these files can be scored", where=str(files), mend="give files with jets")


def as_dicts(rows: list[Row]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(row) for row in rows]


def _cut(jets: JetBatch, size: int, most: int, padding: int) -> Iterator[tuple[int, JetBatch]]:
    width = widest(jets.offsets) + padding
    size = max(1, min(size, _PAIRS // max(1, width * width)) if size > 64 else size)
    for low in range(0, most, size):
        yield low, jets.take(torch.arange(low, min(low + size, most)))
