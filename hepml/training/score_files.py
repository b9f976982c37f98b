"""Files of scores: ROOT (a TTree, grown chunk by chunk) or npz. Written beside the final name, checked for
the number of rows, then renamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hepml import outputs
from hepml.errors import FileError

TREE = "tree"


class Writer(Protocol):
    """Takes columns chunk by chunk."""

    rows: int

    def add(self, columns: Mapping[str, np.ndarray]) -> None: ...

    def close(self) -> None: ...


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """A writer to a .root or .npz file, which appears under its name only when all was written.

    Raises:
        FileError: another suffix, a folder that cannot be written, a full disk, or a file that holds another
            number of rows than
        were given.
    """
    kinds: dict[str, Any] = {".root": _Root, ".npz": _Npz}
    path = Path(path)
    if path.suffix not in kinds:
        raise FileError(
            f"cannot write '{path.suffix or path.name}' files",
            where=str(path),
            mend="end the name in .root or .npz",
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


def _check(path: Path, rows: int) -> None:
    if path.suffix == ".root":
        import uproot

        with uproot.open(path) as file:
            found = int(file[TREE].num_entries)
    else:
        with np.load(path) as file:
            found = len(file[file.files[0]])
    if found != rows:
        raise FileError(
            f"{found} rows were written for {rows} jets", where=str(path), mend="this is a defect: report it"
        )
