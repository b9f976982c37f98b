"""The cache of teachers' scores: one file a teacher, in which each jet is found by its content, so that
another run, a part of the jets or another student finds the scores again."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import xxhash
from filelock import FileLock, Timeout

from hepml.data.batch import JetBatch
from hepml.errors import FileError
from hepml.training.checkpoints import write_atomically
from hepml.training.teachers import Tutor

FORMAT = 2  # of the cache; in 1 the scores stood in the order of the classes of the run that kept them


def jet_keys(batch: JetBatch, tutor: Tutor) -> np.ndarray:
    """128 bits of each jet's content, as far as the teacher reads it, [B, 2]."""
    columns = [batch.four_momenta]
    if tutor.beside_momenta:
        columns.append(batch.select(tutor.beside_momenta))
    beside = [_rows_of(batch.collections[name], features) for name, features in tutor.inputs.collections]
    rows = torch.cat(columns, dim=1).contiguous().numpy()
    own = [] if batch.jet_momenta is None else [batch.jet_momenta]
    if tutor.inputs.jet_features:
        own.append(batch.select_jets(tutor.inputs.jet_features))
    jets = torch.cat(own, dim=1).contiguous().numpy() if own else np.zeros((len(batch), 0), np.float32)
    ends = batch.offsets.tolist()
    keys = np.empty((len(batch), 2), dtype=np.uint64)
    for i, (low, high) in enumerate(pairwise(ends)):
        content = rows[low:high].tobytes() + jets[i].tobytes()
        for columns_of, at in beside:
            content += columns_of[at[i] : at[i + 1]].tobytes()
        value = xxhash.xxh3_128(content).intdigest()
        keys[i] = value >> 64, value & 0xFFFFFFFFFFFFFFFF
    return keys


def _rows_of(collection: JetBatch, features: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Momenta and features of a further collection, [ΣM, 4 + F], and where each jet's begin."""
    columns = torch.cat([collection.four_momenta, collection.select(features)], dim=1)
    return columns.contiguous().numpy(), collection.offsets.tolist()


class Cache:
    """One teacher's scores on disk, found by the jets' content.

    Args:
        folder: where; `.hepml/teachers` in the home folder where None.
        teacher: digest of the teacher.
    """

    def __init__(self, folder: str | None, teacher: str) -> None:
        home = Path(folder).expanduser() if folder else Path.home() / ".hepml" / "teachers"
        self.path = home / f"{teacher}-v{FORMAT}.npz"
        self.lock = f"{self.path}.lock"

    @contextmanager
    def locked(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Others wait, and say so by `waiting`; a folder that cannot be written has no lock and keeps
        nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.lock)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                lock.acquire()
        except OSError:
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Keys [N, 2] and rows [N, C]; nothing where there is no file or an unreadable one, since scores may
        always be computed again."""
        try:
            with self.path.open("rb") as file, np.load(file) as arrays:
                keys, rows = arrays["keys"], arrays["rows"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            return np.zeros((0, 2), np.uint64), None
        if keys.dtype != np.uint64 or rows.ndim != 2 or keys.shape != (len(rows), 2):
            return np.zeros((0, 2), np.uint64), None
        return keys, rows

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Which jets are known, [N], and their rows, [N, C] with zeros for others; None where nothing is
        known."""
        have, rows = self.read()
        if rows is None:
            return np.zeros(len(keys), dtype=bool), None
        at = {tuple(key): i for i, key in enumerate(have.tolist())}
        places = np.array([at.get(tuple(key), -1) for key in keys.tolist()], dtype=np.int64)
        known = places >= 0
        scores = np.zeros((len(keys), rows.shape[1]), np.float32)
        scores[known] = rows[places[known]]
        return known, scores

    def forget(self) -> None:
        """Leaves out all scores."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> bool:
        """Keeps more scores, of which those that are finite; whether that could be done."""
        finite = np.isfinite(rows).all(axis=1)
        keys, rows = keys[finite], rows[finite]
        have, before = self.read()
        if before is not None and before.shape[1] == rows.shape[1]:
            keys, rows = np.concatenate((have, keys)), np.concatenate((before, rows))
        keys, first = np.unique(keys, axis=0, return_index=True)
        buffer = io.BytesIO()
        np.savez(buffer, keys=keys, rows=rows[first].astype(np.float32))
        try:
            write_atomically(self.path, buffer.getvalue())
        except FileError:
            return False
        return True
