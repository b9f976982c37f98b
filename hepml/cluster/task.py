"""What runs on a node of Slurm: one job as a process of its own, ended cleanly and queued again where a
time limit or a preemption ends it early."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepml.cluster import requeue
from hepml.cluster.jobs import Surroundings

_GRACE = 75.0  # seconds to write a checkpoint before the time limit; submitit warns 90 s ahead
LAST = Path("checkpoints/last.ckpt")


class Task:
    """Runs one job as a process of its own; submitit keeps it in a file and calls it on the node, once a
    rank.

    Shortly before the time limit submitit asks for a checkpoint: the process is told to end, which writes
    one, and the same task is queued again; `--resume` among its words lets it go on there. A SIGTERM of
    Slurm's preemption reaches the process directly: it ends, and the task has Slurm queue the job again.

    Args:
        words: after `hepml`.
        surroundings: container and code.
        folder: of the run, or None; a slot in which it gets no new checkpoint is not followed by another.
        gpus: of the node.

    Raises:
        RuntimeError: the command failed; its output is in the job's log.
    """

    def __init__(
        self,
        words: Sequence[str],
        surroundings: Surroundings | None = None,
        folder: str | None = None,
        gpus: int = 0,
    ) -> None:
        self.words, self.surroundings = tuple(words), surroundings or Surroundings()
        self.folder, self.gpus = folder, gpus
        self._process: subprocess.Popen[bytes] | None = None
        self._earlier: float | None = None

    def __call__(self) -> int:
        typed = shlex.join(["hepml", *self.words])
        if os.environ.get("SLURM_PROCID", "0") == "0":
            print(f"$ {typed}", flush=True)
        self._earlier = self._written()
        self._process = subprocess.Popen(
            self.surroundings.command(self.words, gpus=self.gpus),
            env=self.surroundings.environment(os.environ),
            preexec_fn=_deaf_to_requeueing,
        )
        # no blocking wait: `checkpoint` is called from a signal handler meanwhile
        while self._process.poll() is None:
            time.sleep(0.2)
        code = self._process.returncode
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and requeue.asked_to_end(code):
            if os.environ.get("SLURM_PROCID", "0") != "0":
                sys.exit(0)  # the first task decides; an error here would end its step before it does
            if requeue.preempted(os.environ) and requeue.now(os.environ):
                sys.exit(0)  # no result: the job has not ended
        if code:
            raise RuntimeError(f"{typed} ended with exit code {code}")
        return code

    def checkpoint(self) -> Any:
        """Ends the process cleanly and gives submitit the task that goes on; None where that would be in
        vain."""
        from submitit.helpers import DelayedSubmission

        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            until = time.monotonic() + _GRACE
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
        if self.folder is not None and self._written() == self._earlier and requeue.out_of_time(os.environ):
            print(
                f"error: the time limit came before the first new checkpoint of {self.folder}: the slot is "
                "too short for start-up and one step; submit with a longer --time",
                file=sys.stderr,
                flush=True,
            )
            return None
        return DelayedSubmission(Task(self.words, self.surroundings, self.folder, self.gpus))

    def _written(self) -> float | None:
        """When the run's last checkpoint was written."""
        try:
            return (Path(self.folder) / LAST).stat().st_mtime if self.folder is not None else None
        except OSError:
            return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_found": None}


def _deaf_to_requeueing() -> None:
    # Slurm sends the warning before the time limit to every process of the step; it is for submitit, which
    # tells us
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
