"""A library that may crash on a damaged file tries it in a child process first.

The HDF5 library ends the process on some damaged files, where Python can catch nothing. A child that reads
the file and dies of a signal says so, and the parent refuses the file in one line.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hepml.errors import FileError

WHOLE = 64 << 20  # bytes; a larger file is not read whole by the child, but at its ends
_PATIENCE = 60.0  # seconds; a reader that takes longer hangs


def try_first(path: Path | str, read: Callable[[bool], object]) -> None:
    """Reads a file in a child process.

    Args:
        read: reads it; its argument says whether all of it (else its begin and end). What it raises is met
            again by the caller, and not said here.

    Raises:
        FileError: the child died of a signal, or hangs.
    """
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # a crash is what is asked about here
        with contextlib.suppress(BaseException):
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            read(os.stat(path).st_size <= WHOLE)
        os._exit(0)
    end = _wait(child)
    if end is None or os.WIFSIGNALED(end):
        how = "does not come to an end with" if end is None else "crashes on"
        raise FileError(
            f"the HDF5 file cannot be read (the HDF5 library {how} it)",
            where=str(path),
            mend="it is damaged; copy it again",
        )


def _wait(child: int) -> int | None:
    """How the child ended; None where it had to be ended."""
    begun, pause = time.monotonic(), 0.001
    while time.monotonic() < begun + _PATIENCE:
        ended, end = os.waitpid(child, os.WNOHANG)
        if ended:
            return end
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
