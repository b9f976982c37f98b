"""Ctrl-C while a command is still starting up.

Python answers SIGINT with an exception, which can get lost there: raised in a weak reference's callback, or
in a library that catches everything while it imports something, it is ignored, and the command goes on. So it
is noted as well, and a run looks at the note before it starts.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received = False


@contextmanager
def noting() -> Iterator[None]:
    """Notes interrupts inside the block, and raises KeyboardInterrupt as ever."""
    global _received
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not ours or before is not signal.default_int_handler:  # another owner, or a shell that ignores it
        yield
        return
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        _received = False
        signal.signal(signal.SIGINT, before)


def received() -> bool:
    """Whether there was an interrupt since the command began."""
    return _received


def _note(signum: int, frame: FrameType | None) -> None:
    global _received
    _received = True
    raise KeyboardInterrupt
