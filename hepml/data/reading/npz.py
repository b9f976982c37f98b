"""Jets in npz files: `four_momenta` [ΣN, 4] (E, px, py, pz) in GeV, `offsets` [B + 1], `labels` [B], and
optionally `weights` [B], `classes` (names) and jet columns [B]. Labels without names are indices into the
classes that a run asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hepml.data.jet_columns import DERIVED, derived_array
from hepml.data.reading import arrays as checked
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.sources import Source, _missing
from hepml.errors import LayoutError, did_you_mean

_OWN = ("four_momenta", "offsets", "labels", "weights", "classes")


def scan_npz(source: Source) -> tuple[int, tuple[str, ...], dict[str, str]]:
    """Jets, class names and keys of an npz file.

    Raises:
        FileError: missing, not an npz file or a damaged one.
        LayoutError: no `four_momenta` or `offsets`.
        DataError: arrays that do not fit each other.
    """
    where = str(source)
    headers = _headers(source)
    for name in ("four_momenta", "offsets"):
        if name not in headers:
            raise LayoutError(
                f"array '{name}' not found",
                where=where,
                mend=did_you_mean(name, headers, noun="arrays at hand"),
            )
    checked.check_momenta(headers["four_momenta"], where)
    offsets = checked.whole_offsets(
        checked.read_array(source.path, "offsets"), headers["four_momenta"].shape[0], where
    )
    _, classes = _labels(source, headers, len(offsets) - 1)
    return len(offsets) - 1, classes, {n: _kind_of(n, h, len(offsets) - 1) for n, h in headers.items()}


def _kind_of(name: str, header: checked.Header, jets: int) -> str:
    """The type of an array that is a jet column, else `array`."""
    return str(header.dtype) if name not in _OWN and header.shape == (jets,) else "array"


def names_classes(source: Source) -> bool:
    """Whether the file gives its classes names of its own."""
    return "classes" in _headers(source)


def read_npz(
    source: Source, start: int, stop: int, step: int, *, selection_names: Sequence[str] = ()
) -> Iterator[Chunk]:
    """The jets start:stop as chunks of at most `step`.

    Raises:
        FileError: a damaged file.
        DataError: shapes that do not fit each other.
    """
    where = str(source)
    headers = _headers(source)
    arrays = checked.read_arrays(source.path)
    p = arrays["four_momenta"]
    offsets = checked.whole_offsets(arrays["offsets"], len(p), where)
    jets = {
        k: v
        for k, v in arrays.items()
        if k not in _OWN and v.shape == (len(offsets) - 1,) and v.dtype.kind in "iufb"
    }
    labels, classes = _labels(source, headers, len(offsets) - 1)
    weights = arrays.get("weights")
    if weights is not None:
        weights = checked.one_number_a_jet(weights, "weights", len(offsets) - 1, where)
    for low in range(start, stop, step):
        high = min(low + step, stop)
        rows = slice(int(offsets[low]), int(offsets[high]))
        columns = {
            name: np.ascontiguousarray(p[rows, i], dtype=np.float32)
            for i, name in enumerate(("energy", "px", "py", "pz"))
        }
        chunk = Chunk(
            offsets=offsets[low : high + 1] - offsets[low],
            constituents={n: columns[n] for n in ("px", "py", "pz", "energy")},
            jets={k: v[low:high] for k, v in jets.items()},
            entries=np.arange(low, high, dtype=np.int64),
            file=where,
            labels=None if labels is None else labels[low:high],
            classes=classes,
            weights=None if weights is None else weights[low:high].astype(np.float32),
        )
        for name in selection_names:
            if name not in chunk.jets:
                if name not in DERIVED:
                    raise LayoutError(
                        f"jet column '{name}' not found",
                        where=str(source),
                        mend=did_you_mean(name, [*chunk.jets, *DERIVED], noun="columns at hand"),
                    )
                chunk.jets[name] = derived_array(name, chunk.jet_momenta(), chunk.counts)
        yield chunk


def _labels(
    source: Source, headers: dict[str, checked.Header], jets: int
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels [B], or None, and the names of the classes."""
    small: dict[str, np.ndarray] = {
        n: checked.read_array(source.path, n) for n in ("labels", "classes") if n in headers
    }
    names = checked.names_in(small, str(source))
    if "labels" not in small:
        return None, names or ()
    labels = checked.whole_labels(small["labels"], jets, None if names is None else len(names), str(source))
    if names is None:
        names = tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))
    return labels, names


def _headers(source: Source) -> dict[str, checked.Header]:
    if not Path(source.path).is_file():
        raise _missing(source.path)
    return checked.read_headers(source.path)
