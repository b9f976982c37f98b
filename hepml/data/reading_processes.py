"""Processes that read shards ahead of the one that trains.

Each is a Python of its own that is sent the scanned files once, and then numbers of shards; it opens a file
when it is asked for one of its shards. They are started as `python -m`, not by multiprocessing, which would
run the user's script again in each of them.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.shards import Shard, ShardReader
from hepml.errors import DataError, HepmlError

_SIZE = struct.Struct(">Q")


def read_ahead(reader: ShardReader, shards: Iterable[Shard], workers: int) -> Iterator[JetBatch]:
    """The shards' jets in order. With workers each of them is one shard ahead; without, each shard is read
    when it is asked for.

    Raises:
        HepmlError: what reading raises.
        DataError: a worker was killed.
    """
    if not workers:
        yield from map(reader.read, shards)
        return
    pool = [_Worker(reader) for _ in range(workers)]
    try:
        waiting: deque[_Worker] = deque()
        free, rest = deque(pool), iter(shards)
        while True:
            while free and (shard := next(rest, None)) is not None:
                worker = free.popleft()
                worker.ask(shard)
                waiting.append(worker)
            if not waiting:
                return
            worker = waiting.popleft()
            batch = worker.answer()
            if (shard := next(rest, None)) is not None:
                worker.ask(shard)
                waiting.append(worker)
            yield batch
    finally:
        for worker in pool:
            worker.stop()


class _Worker:
    """One such process, as seen from the one that trains."""

    def __init__(self, reader: ShardReader) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        environment.setdefault("OMP_NUM_THREADS", "1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hepml.data.reading_processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.stop = weakref.finalize(self, _end, self.process)
        self._send((reader.scanned, reader.request))

    def ask(self, shard: Shard) -> None:
        """Asks for a shard."""
        self._send(shard)

    def answer(self) -> JetBatch:
        """The jets of the shard that was asked for."""
        assert self.process.stdout is not None
        try:
            reply = _receive(self.process.stdout)
        except EOFError:
            raise DataError(
                f"a process that reads jets has ended (exit code {self.process.wait()})",
                mend="it may have been killed for its memory; data.workers=0 reads without",
            ) from None
        if isinstance(reply, BaseException):
            raise reply
        batch = _unpacked(reply)
        assert isinstance(batch, JetBatch)
        return batch

    def _send(self, value: Any) -> None:
        assert self.process.stdin is not None
        try:
            _write(self.process.stdin, value)
        except BrokenPipeError:
            return  # the answer says so


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.terminate()
    process.wait()


def _write(stream: Any, value: Any) -> None:
    body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_SIZE.pack(len(body)))
    stream.write(body)
    stream.flush()


def _receive(stream: Any) -> Any:
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    body = stream.read(_SIZE.unpack(head)[0])
    return pickle.loads(body)  # from our own process


def _packed(value: Any) -> Any:
    """A batch and what is in it with arrays in the place of tensors, which would travel by shared memory."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, JetBatch):
        return _Parts({f.name: _packed(getattr(value, f.name)) for f in fields(value)})
    return {n: _packed(v) for n, v in value.items()} if isinstance(value, Mapping) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, _Parts):
        return JetBatch(**{name: _unpacked(v) for name, v in value.items()})
    return {n: _unpacked(v) for n, v in value.items()} if isinstance(value, dict) else value


class _Parts(dict[str, Any]):
    """The parts of a batch."""


def _serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    scanned, request = _receive(incoming)
    reader = ShardReader(scanned, request)
    while True:
        try:
            shard = _receive(incoming)
        except EOFError:
            return
        try:
            answer: Any = _packed(reader.read(shard))
        except HepmlError as problem:
            answer = problem
        except Exception as problem:
            answer = DataError(f"reading ahead failed: {type(problem).__name__}: {problem}")
        _write(outgoing, answer)


def main() -> None:
    """Serves the process that started this one."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not come between
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    # under the module's own name, so that what is pickled here is known there
    from hepml.data.reading_processes import main as serve

    serve()
