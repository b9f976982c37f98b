"""The packed cache: a data set's columns as flat files, memory-mapped, for jets that do not fit in memory or
should not be read twice.

A cache is keyed by the files' identity (path, size, time of change), the layout, and everything that was
asked for. It is written chunk by chunk under a temporary name and renamed when complete, so a killed or
failed build leaves nothing under its final name, and of two processes that build the same one the second
waits for the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import xxhash

from hepml import outputs
from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.data.build import (
    ABOUT,
    EXTRAS,
    JET_COLUMNS,
    PER_CONSTITUENT,
    PER_JET,
    Request,
    as_arguments,
    beside_columns,
    build,
    columns_of,
    look,
    packed_chunks,
)
from hepml.data.reading.reader import Scan
from hepml.data.reading.report import DataReport
from hepml.data.reading.sources import Files, Source
from hepml.errors import FileError

FORMAT = 5  # 5: jets that number their events carry the event


# Writes the columns of what was scanned into a folder.
Write = Callable[[Path, Scan, Request], None]


def open_cache(folder: Path, files: Files, request: Request, write: Write | None = None) -> dict[str, Any]:
    """The arguments of `JetDataset` from the cache in `folder`, which is built first where it is not there.

    Args:
        write: how it is built; in this process where left out.

    Raises:
        HepmlError: see `JetDataset.open`.
        FileError: the cache cannot be written (a full disk, say); nothing is left of it then.
    """
    scanned = look(files, request)
    home = folder / cache_key(scanned, request)
    if not (home / "meta.json").is_file():
        _build(home, scanned, files, request, write or stream)
    return _load(home, request)


def cache_key(scanned: Scan, request: Request) -> str:
    """A name for what is cached: changes when a file, the layout, the request or the feature table
    changes."""
    h = xxhash.xxh3_128()
    for item in scanned.files:
        h.update(
            _stable(
                (_place_of(item.source), item.tree, item.entries, item.source.identity, item.layout)
            ).encode()
        )
    asked = {f.name: getattr(request, f.name) for f in fields(request) if f.name != "layout"}
    table = [
        (f.name, f.needs, f.shift, f.scale, f.clip)
        for f in map(feature_table.lookup, request.inputs.features)
    ]
    versions = [extra_table.lookup(name).version for name in request.inputs.extras]
    h.update(_stable((FORMAT, asked, table, versions)).encode())
    return h.hexdigest()[:20]


def _place_of(source: Source) -> str:
    return source.name if source.content is not None else os.path.abspath(source.path)


def _stable(value: Any) -> str:
    """A `repr` that is the same in every process: sets have no order of their own."""
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(_stable(v) for v in value)) + "}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_stable(v)}" for k, v in value.items()) + "}"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(_stable(getattr(value, f.name)) for f in fields(value))})"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_stable(v) for v in value) + "]"
    return repr(value)


def _build(home: Path, scanned: Scan, files: Files, request: Request, write: Write) -> None:
    try:
        with outputs.building(home) as partial:
            if partial is None:  # another process was first: its cache is as good
                return
            if request.max_jets is not None:  # a sample fits in memory
                _write_all(partial, build(files, request))
            else:
                write(partial, scanned, request)
    except OSError as problem:
        raise FileError(
            f"the cache cannot be written ({problem.strerror or problem})",
            where=str(home.parent),
            mend="free some space, or name another folder with data.cache",
        ) from problem


def stream(partial: Path, scanned: Scan, request: Request) -> None:
    """Packs the jets chunk by chunk."""
    report, writer = DataReport(), ColumnWriter(partial)
    try:
        for piece in packed_chunks(scanned, request, report):
            writer.add(piece, request)
    finally:
        writer.close()
    writer.finish(report, request)


class ColumnWriter:
    """Columns on their way to a folder, one file each.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = {"columns": {}}
        self._files: dict[str, BinaryIO] = {}

    def add(self, piece: dict[str, Any], request: Request) -> None:
        """Appends the jets of a chunk."""
        columns = {n: c for n, c in columns_of(piece, request).items() if c is not None}
        for name, array in columns.items():
            kind = {"dtype": array.dtype.str, "row": list(array.shape[1:])}
            stream = self.file(name, kind)
            stream.write(np.ascontiguousarray(array, dtype=self.about["columns"][name]["dtype"]).data)
        self.about |= {n: piece[n] for n in ABOUT}

    def file(self, name: str, kind: dict[str, Any]) -> BinaryIO:
        """The open file of a column of this dtype and row."""
        if name not in self._files:
            self._files[name] = open(self.folder / f"{name}.bin", "wb")  # noqa: SIM115 - closed with the others
            self.about["columns"][name] = kind
        return self._files[name]

    def close(self) -> None:
        """Closes the files."""
        for stream in self._files.values():
            stream.close()

    def finish(self, report: DataReport, request: Request) -> None:
        """Writes down what the closed files hold."""
        _write_meta(self.folder, {**self.about, "jet_feature_names": request.inputs.jet_features}, report)


def _write_all(partial: Path, arrays: dict[str, Any]) -> None:
    arrays = {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in arrays.items()}
    arrays["counts"] = np.diff(arrays["offsets"])
    columns = {n: arrays[n] for n in (*PER_CONSTITUENT, *PER_JET) if arrays.get(n) is not None}
    columns |= {f"{JET_COLUMNS}{n}": c for n, c in arrays["jet_columns"].items()}
    columns |= {f"{EXTRAS}{n}": c.numpy() for n, c in arrays["extras"].items()}
    columns |= {n: c for n, c in beside_columns(arrays["collections"]).items() if c is not None}
    for name, array in columns.items():
        (partial / f"{name}.bin").write_bytes(np.ascontiguousarray(array).data)
    about = {n: arrays[n] for n in ("feature_names", "classes", "jet_feature_names")}
    about["columns"] = {n: {"dtype": a.dtype.str, "row": list(a.shape[1:])} for n, a in columns.items()}
    _write_meta(partial, about, arrays["report"])


def _write_meta(partial: Path, about: dict[str, Any], report: DataReport) -> None:
    sums = {path.name: _checksum(path) for path in sorted(partial.glob("*.bin"))}
    meta = {**about, "format": FORMAT, "report": report.as_dict(), "checksums": sums}
    (partial / "meta.json").write_text(json.dumps(meta))


def _checksum(path: Path) -> str:
    h = xxhash.xxh3_128()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            h.update(block)
    return h.hexdigest()


def verify(folder: Path) -> dict[str, list[str]]:
    """Every cache in a folder (or the cache that it is) -> what is wrong with it; empty where it is whole.

    Raises:
        FileError: no cache there.
    """
    homes = sorted(p.parent for p in folder.rglob("meta.json")) if folder.is_dir() else []
    if not homes:
        raise FileError("no packed jets there", where=str(folder), mend="hepml data pack FILES -o FOLDER")
    out: dict[str, list[str]] = {}
    for home in homes:
        try:
            about = json.loads((home / "meta.json").read_text())
            sums, columns = dict(about["checksums"]), list(about["columns"])
        except (OSError, ValueError, KeyError, TypeError):
            out[str(home)] = ["meta.json is damaged, or of a version without checksums"]
            continue
        wrong = [f"{name}.bin is absent" for name in columns if not (home / f"{name}.bin").is_file()]
        there = [(name, recorded) for name, recorded in sums.items() if (home / name).is_file()]
        wrong += [f"{name} has changed" for name, recorded in there if _checksum(home / name) != recorded]
        out[str(home)] = wrong
    return out


def _load(home: Path, request: Request) -> dict[str, Any]:
    try:
        about = json.loads((home / "meta.json").read_text())
        arrays = {
            name: np.memmap(home / f"{name}.bin", dtype=kind["dtype"], mode="c").reshape(-1, *kind["row"])
            if (home / f"{name}.bin").stat().st_size
            else np.zeros((0, *kind["row"]), dtype=kind["dtype"])
            for name, kind in about["columns"].items()
        }
    except (OSError, ValueError, KeyError) as problem:
        raise FileError(
            "the cache is damaged",
            where=str(home),
            mend="delete this folder; it is written again when needed",
        ) from problem
    out = as_arguments(arrays, about, request)
    return {**out, "report": DataReport.from_dict(about["report"])}
