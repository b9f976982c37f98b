"""What is handed to a batch system: jobs, the resources they ask for, and the task that runs one of them on
its node."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hepml.errors import ConfigError

_GRACE = 75.0  # seconds to write a checkpoint before the time limit; submitit warns 90 s ahead


@dataclass(frozen=True)
class Job:
    """One command.

    Args:
        name: what people call it.
        words: after `hepml`.
    """

    name: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command as it would be typed."""
        return shlex.join(["hepml", *self.words])


@dataclass(frozen=True)
class Resources:
    """What a job asks for.

    Args:
        minutes: time limit.
        cpus: cores.
        gpus: GPUs.
        memory_gb: memory in GB; what the batch system gives where left out.
        partition: queue; the default one where left out.
        account: who pays.
        parallel: jobs of an array at a time.
        more: further options of the batch system, as they are (`{"constraint": "a100"}`).
    """

    minutes: int = 480
    cpus: int = 2
    gpus: int = 0
    memory_gb: float | None = None
    partition: str | None = None
    account: str | None = None
    parallel: int = 64
    more: Mapping[str, str] = field(default_factory=dict)


class Task:
    """Runs one job as a process of its own; submitit keeps it in a file and calls it on the node.

    Shortly before the time limit submitit asks for a checkpoint: the process is told to end, which writes
        one, and the same task is queued
    again; `--resume` among its words lets it go on there.

    Args:
        words: after `hepml`.

    Raises:
        RuntimeError: the command failed; its output is in the job's log.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        print(f"$ {shlex.join(['hepml', *self.words])}", flush=True)
        line = [sys.executable, "-u", "-m", "hepml.cli.main", *self.words]
        self._process = subprocess.Popen(line, env=_environment(), preexec_fn=_deaf_to_requeueing)
        while (
            self._process.poll() is None
        ):  # no blocking wait: `checkpoint` is called from a signal handler meanwhile
            time.sleep(0.2)
        code = self._process.returncode
        if code:
            raise RuntimeError(f"{shlex.join(['hepml', *self.words])} ended with exit code {code}")
        return code

    def checkpoint(self) -> Any:
        """Ends the process cleanly and gives submitit the task that goes on."""
        from submitit.helpers import DelayedSubmission

        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            until = time.monotonic() + _GRACE
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
        return DelayedSubmission(Task(self.words))

    def __getstate__(self) -> dict[str, Any]:
        return {"words": self.words, "_process": None}


def minutes(text: str) -> int:
    """Minutes of `90`, `2h`, `01:30:00`, `1-12:00:00`.

    Raises:
        ConfigError: none of these forms.
    """
    if text.isdigit():
        return _positive(int(text), text)
    units = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::\d\d)?", text)
    found = units or clock
    days, hours, rest = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return _positive(1440 * days + 60 * hours + rest, text)


def _positive(total: int, text: str) -> int:
    if total < 1:
        raise ConfigError(f"'{text}' is no time", where="--time", mend="minutes, 2h, 01:30:00 or 1-12:00:00")
    return total


def _environment() -> dict[str, str]:
    mine = {key: value for key, value in os.environ.items() if key != "HEPML_RUN_FOLDER"}
    mine.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return mine


def _deaf_to_requeueing() -> None:
    # Slurm sends the warning before the time limit to every process of the step; it is for submitit, which
    # tells us
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
