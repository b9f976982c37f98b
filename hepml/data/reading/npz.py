"""Jets in npz files: `four_momenta` [ΣN, 4] (E, px, py, pz) in GeV, `offsets` [B + 1], `labels` [B], and
optionally `weights` [B] and `classes` (names). Labels without names are indices into the classes that a run
asks for."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hepml.data.reading.assemble import DERIVED_JETS, derived_jet_column
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.sources import Source, _missing
from hepml.errors import DataError, FileError, LayoutError, did_you_mean

_OWN = ("four_momenta", "offsets", "labels", "weights", "classes")


def scan_npz(source: Source) -> tuple[int, tuple[str, ...], dict[str, str]]:
    """Jets, class names and keys of an npz file.

    Raises:
        FileError: missing or not an npz file.
        LayoutError: no `four_momenta` or `offsets`.
    """
    with _load(source) as arrays:
        keys = list(arrays.keys())
        for name in ("four_momenta", "offsets"):
            if name not in keys:
                raise LayoutError(
                    f"array '{name}' not found",
                    where=str(source),
                    mend=did_you_mean(name, keys, noun="arrays at hand"),
                )
        offsets = arrays["offsets"]
        if "classes" in keys:
            classes = tuple(str(c) for c in arrays["classes"])
        elif "labels" in keys and arrays["labels"].dtype.kind in "iub" and len(arrays["labels"]):
            classes = tuple(str(i) for i in range(int(arrays["labels"].max()) + 1))
        else:
            classes = ()
        return len(offsets) - 1, classes, dict.fromkeys(keys, "array")


def names_classes(source: Source) -> bool:
    """Whether the file gives its classes names of its own."""
    with _load(source) as arrays:
        return "classes" in arrays


def read_npz(
    source: Source, start: int, stop: int, step: int, *, selection_names: Sequence[str] = ()
) -> Iterator[Chunk]:
    """The jets start:stop as chunks of at most `step`.

    Raises:
        DataError: shapes that do not fit each other.
    """
    with _load(source) as arrays:
        p, offsets = arrays["four_momenta"], np.asarray(arrays["offsets"], dtype=np.int64)
        labels, weights = arrays.get("labels"), arrays.get("weights")
        jets = {
            k: arrays[k]
            for k in arrays
            if k not in _OWN and arrays[k].ndim == 1 and len(arrays[k]) == len(offsets) - 1
        }
    if p.ndim != 2 or p.shape[1] != 4 or len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(p):
        raise DataError(
            f"four_momenta have shape {p.shape}, offsets end at {offsets[-1:]}",
            where=str(source),
            mend="give [ΣN, 4] as (E, px, py, pz) and offsets from 0 to ΣN",
        )
    if (np.diff(offsets) < 0).any():
        raise DataError(
            "offsets fall", where=str(source), mend="offsets rise from 0 to the number of constituents"
        )
    _, classes, _ = scan_npz(source)
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
            file=str(source),
            labels=None if labels is None or labels.dtype.kind == "f" else labels[low:high].astype(np.int64),
            classes=classes,
            weights=None if weights is None else weights[low:high].astype(np.float32),
        )
        for name in selection_names:
            if name not in chunk.jets:
                if name not in DERIVED_JETS:
                    raise LayoutError(
                        f"jet column '{name}' not found",
                        where=str(source),
                        mend=did_you_mean(name, [*chunk.jets, *DERIVED_JETS], noun="columns at hand"),
                    )
                chunk.jets[name] = derived_jet_column(chunk, name)
        yield chunk


def _load(source: Source) -> np.lib.npyio.NpzFile:
    if not Path(source.path).is_file():
        raise _missing(source.path)
    try:
        loaded = np.load(source.path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise FileError(
            "not an npz file, or a truncated one", where=source.path, mend="copy it again"
        ) from problem
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise FileError("not an npz file", where=source.path, mend="save it with numpy.savez")
    return loaded
