"""The runs of a benchmark as processes of their own, several at a time; what they report is read from their
journals.

A run that fails, or whose process dies, is one failed run: the others go on. A signal to this process is
handed to all of them, so that each writes its checkpoint, and the same command goes on from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from hepml.data.reading.cores import available_cores
from hepml.tracking.journal import read_journal
from hepml.tracking.last_words import last_words
from hepml.training.benchmark.plan import PlannedRun, prepare
from hepml.training.callbacks import watched
from hepml.training.run_directory import SUMMARY, RunDirectory

LOG = "train.log"
_LOOK = 0.3  # seconds between looks at the processes
_GRACE = 60.0  # seconds that a run has to write its checkpoint after a signal

Status = Literal["waiting", "kept", "running", "finished", "failed", "killed"]


@dataclass
class Progress:
    """How far a run is.

    Args:
        run: which.
        status: `kept` was finished before; `killed` was stopped by a signal to the benchmark and can go on.
        epoch: epochs done.
        values: the metrics of the last epoch.
        began, ended: monotonic seconds of this process, or None.
        problem: the last line of a failed run's log.
    """

    run: PlannedRun
    status: Status = "waiting"
    epoch: int = 0
    values: dict[str, float] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None
    problem: str | None = None
    _read: int = 0

    @property
    def seconds(self) -> float | None:
        """Time that it has run, now."""
        return None if self.began is None else (self.ended or time.monotonic()) - self.began

    def look(self) -> None:
        """Reads what the run has written to its journal since the last look."""
        record = read_journal(self.run.folder, self._read)
        self._read = record.ends[-1] if record.ends else self._read
        for entry in record.of("metrics"):
            if "epoch_seconds" in entry["values"]:
                self.epoch, self.values = int(entry["step"]) + 1, entry["values"]


class Interrupted(Exception):
    """The benchmark was asked to stop; its runs have written their checkpoints.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


def carry_out(
    runs: Sequence[PlannedRun],
    workers: int,
    tell: Callable[[Sequence[Progress]], None] = lambda all_of_them: None,
) -> list[Progress]:
    """Trains all runs that are not finished, at most `workers` at a time.

    Args:
        runs: from `plan`.
        workers: processes at a time; where there are several GPUs they take turns on them.
        tell: called again and again with all runs.

    Returns:
        one a run, in order.

    Raises:
        Interrupted: SIGINT or SIGTERM came; every run was stopped cleanly.
    """
    everything = [Progress(run) for run in runs]
    waiting: list[tuple[Progress, bool]] = []
    for progress in everything:
        state = prepare(progress.run)
        if state == "finished":
            progress.status = "kept"
            progress.look()
        else:
            waiting.append((progress, state != "new"))
    devices = _devices()
    running: dict[int, tuple[Progress, subprocess.Popen[bytes]]] = {}
    with _signals() as received:
        while waiting or running:
            while waiting and len(running) < max(1, workers) and not received:
                progress, resume = waiting.pop(0)
                slot = next(i for i in range(len(running) + 1) if i not in running)
                running[slot] = (progress, _start(progress.run, resume, devices[slot % len(devices)]))
                progress.status, progress.began = "running", time.monotonic()
            if received:
                _stop(running)
                for progress in everything:
                    if progress.status == "running":
                        progress.status, progress.ended = "killed", time.monotonic()
                tell(everything)
                raise Interrupted(received[0])
            for slot, (progress, process) in list(running.items()):
                progress.look()
                code = process.poll()
                if code is not None:
                    del running[slot]
                    _settle(progress, code)
            tell(everything)
            if running:
                time.sleep(_LOOK)
    tell(everything)
    return everything


def measure(folders: Sequence[Path], words: Sequence[str], result: str, log: Path, workers: int = 1) -> None:
    """Takes measurements on runs (see `hepml.training.benchmark.measure`), each of which leaves a file in its
    folder.

    A process that dies takes none but the run it was at with it: that one is given up, and another process
    goes on behind it.

    Args:
        folders: the runs.
        words: arguments of the measuring module.
        result: name of the file that says a run is done.
        log: where the processes write.
        workers: processes at a time, each with a part of the runs.
    """
    parts = [list(folders[i::workers]) for i in range(max(1, min(workers, len(folders))))]
    devices = _devices()
    threads = threads_for(len(parts))
    running: dict[int, subprocess.Popen[bytes]] = {}
    with _signals() as received, open(log, "ab") as out:
        while any(parts):
            for slot, part in enumerate(parts):
                if not part or slot in running:
                    continue
                (part[0] / result).unlink(missing_ok=True)
                line = [sys.executable, "-m", "hepml.training.benchmark.measure", *map(str, part), *words]
                mine = environment(devices[slot % len(devices)], threads)
                running[slot] = subprocess.Popen(
                    line, stdout=out, stderr=out, env=mine, start_new_session=True
                )
            time.sleep(_LOOK)
            for slot, process in list(running.items()):
                code = process.poll()
                if code is None and not received:
                    continue
                if received:
                    process.kill()
                    process.wait()
                    continue
                del running[slot]
                while parts[slot] and (parts[slot][0] / result).is_file():
                    parts[slot].pop(0)
                if parts[slot]:
                    dead = parts[slot].pop(0)
                    RunDirectory(dead).write_json(
                        result, {"problem": f"the process died with exit code {code}"}
                    )
            if received:
                raise Interrupted(received[0])


def command(words: Sequence[str]) -> list[str]:
    """The command line of `hepml WORDS` in this Python."""
    return [sys.executable, "-m", "hepml.cli.main", *words]


def default_workers(runs: int) -> int:
    """As many processes as there are GPUs, or as cores where there is none, never more than runs."""
    import torch

    return max(1, min(runs, torch.cuda.device_count() or available_cores()))


def threads_for(workers: int) -> int:
    """CPU threads for each of so many processes."""
    return max(1, available_cores() // max(1, workers))


# ------------------------------------------------------------------------------------------------------------
# helpers


def environment(device: str | None = None, threads: int | None = None) -> dict[str, str]:
    """The environment of a process of ours: quiet threads, and its own GPU where there are several."""
    mine = dict(os.environ)
    mine.pop("HEPML_RUN_FOLDER", None)
    mine.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads is not None:
        mine["OMP_NUM_THREADS"] = str(threads)
    if device is not None:
        mine["CUDA_VISIBLE_DEVICES"] = device
    return mine


def _start(run: PlannedRun, resume: bool, device: str | None) -> subprocess.Popen[bytes]:
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / LOG, "ab") as log:
        return subprocess.Popen(
            command(run.words(resume=resume)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(device, run.config.training.threads),
            start_new_session=True,  # Ctrl-C comes to us, and we hand it on once
        )


def _settle(progress: Progress, code: int) -> None:
    progress.ended = time.monotonic()
    progress.look()
    if code == 0 and (progress.run.folder / SUMMARY).is_file():
        progress.status = "finished"
        return
    progress.status = "failed"
    message = last_words(progress.run.folder / LOG) or "no message"
    by = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    progress.problem = (
        message.removeprefix("error: ") if message.startswith("error: ") else f"{by}: {message}"
    )
    RunDirectory(progress.run.folder).write_json("failed.json", {"problem": progress.problem, "code": code})


def _stop(running: dict[int, tuple[Progress, subprocess.Popen[bytes]]]) -> None:
    for _, process in running.values():
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    until = time.monotonic() + _GRACE
    for _, process in running.values():
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals received inside the block; elsewhere than in the main thread there are none."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)

    before: dict[int, Any] = {s: signal.signal(s, note) for s in watched()}
    try:
        yield received
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _devices() -> list[str | None]:
    """What each worker may see of several GPUs; nothing is said where there is one or none."""
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return [None]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(named.split(",")) if named else [str(i) for i in range(count)]
