"""Writing scores: ROOT (a TTree, grown chunk by chunk), npz, parquet, csv or HDF5. Written beside the
final name, checked for the number of rows, then renamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hepml import outputs
from hepml.errors import FileError

TREE, H5_TABLE = "tree", "jets"


class Writer(Protocol):
    """Takes columns chunk by chunk."""

    rows: int

    def add(self, columns: Mapping[str, np.ndarray]) -> None: ...

    def close(self) -> None: ...


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """A writer to a file, by its suffix, which appears under its name only when all was written.

    Raises:
        FileError: another suffix, a folder that cannot be written, a full disk, or a file that holds another
            number of rows than were given.
    """
    kinds: dict[str, Any] = {".root": _Root, ".npz": _Npz, ".parquet": _Parquet, ".csv": _Csv, ".h5": _Hdf5}
    path = Path(path)
    if path.suffix not in kinds:
        raise FileError(
            f"cannot write '{path.suffix or path.name}' files",
            where=str(path),
            mend="end the name in .root, .npz, .parquet, .csv or .h5",
        )
    try:
        with outputs.writing(path) as temporary:
            sink = kinds[path.suffix](temporary)
            try:
                yield sink
            finally:
                sink.close()
            if not sink.rows:
                raise FileError("no jets to write", where=str(path), mend="give files with jets")
            _check(temporary, sink.rows)
    except OSError as problem:
        raise FileError(
            f"cannot write {path.name}: {problem.strerror or problem}",
            where=str(path.parent),
            mend="free some space or choose another -o",
        ) from None


class _Root:
    def __init__(self, path: Path) -> None:
        import uproot

        self.rows = 0
        # 1 is the cheapest zstd level, and scores compress badly at any
        self._file = uproot.recreate(path, compression=uproot.ZSTD(1))
        self._tree: Any = None

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        columns = {name: np.asarray(values) for name, values in columns.items()}
        if self._tree is None:
            # assigning to the file would write an RNTuple, which older ROOT cannot read
            self._tree = self._file.mktree(TREE, {name: values.dtype for name, values in columns.items()})
        self._tree.extend(columns)
        self.rows += len(next(iter(columns.values())))

    def close(self) -> None:
        self._file.close()


class _Npz:
    def __init__(self, path: Path) -> None:
        self.rows, self._path = 0, path
        self._parts: list[Mapping[str, np.ndarray]] = []

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        self._parts.append(columns)
        self.rows += len(next(iter(columns.values())))

    def close(self) -> None:
        if self._parts:
            names = list(self._parts[0])
            with open(self._path, "wb") as file:
                np.savez_compressed(file, **{n: np.concatenate([p[n] for p in self._parts]) for n in names})  # type: ignore[arg-type]


class _Parquet:
    def __init__(self, path: Path) -> None:
        self.rows, self._path = 0, path
        self._file: Any = None

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({name: np.asarray(values) for name, values in columns.items()})
        if self._file is None:
            self._file = pyarrow.parquet.ParquetWriter(self._path, table.schema)
        self._file.write_table(table)
        self.rows += table.num_rows

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Csv:
    def __init__(self, path: Path) -> None:
        self.rows, self._path = 0, path

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        import pandas

        table = pandas.DataFrame(dict(columns))
        table.to_csv(self._path, mode="a", header=self.rows == 0, index=False)
        self.rows += len(table)

    def close(self) -> None:
        pass


class _Hdf5:
    """One table `jets`, a column a field."""

    def __init__(self, path: Path) -> None:
        import tables

        self.rows = 0
        self._file = tables.open_file(str(path), "w")
        self._table: Any = None

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        kinds = np.dtype([(name, values.dtype) for name, values in arrays.items()])
        rows = np.empty(len(next(iter(arrays.values()))), dtype=kinds)
        for name, values in arrays.items():
            rows[name] = values
        if self._table is None:
            self._table = self._file.create_table("/", H5_TABLE, kinds)
        self._table.append(rows)
        self.rows += len(rows)

    def close(self) -> None:
        self._file.close()


def _check(path: Path, rows: int) -> None:
    if path.suffix == ".root":
        import uproot

        with uproot.open(path) as file:
            written = int(file[TREE].num_entries)
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        written = int(pyarrow.parquet.read_metadata(path).num_rows)
    elif path.suffix == ".csv":
        with open(path) as file:
            written = sum(1 for _ in file) - 1
    elif path.suffix == ".h5":
        import tables

        with tables.open_file(str(path)) as file:
            written = int(file.root[H5_TABLE].nrows)
    else:
        with np.load(path) as file:
            written = len(file[file.files[0]])
    if written != rows:
        raise FileError(
            f"{written} rows were written for {rows} jets",
            where=str(path),
            mend="this is a defect: report it",
        )
