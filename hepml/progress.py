"""The progress of long work, reported from wherever it happens to whoever listens; nothing here prints.

Reading, clustering and exporting call `tell`; the command line listens and draws. A script may listen, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int | None], None]
_listeners: list[Listener] = []


def tell(what: str, done: int, total: int | None = None) -> None:
    """So many of `what` are done, of `total` where it is known; `done == total` is the end.

    Args:
        what: what is counted and what happens to it, as `entries read`.
    """
    if _listeners:
        _listeners[-1](what, done, total)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Work that cannot be counted, from here to the end of the block."""
    tell(what, 0, None)
    try:
        yield
    finally:
        tell(what, 1, 1)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has `listener` told of everything that happens in the block.

    Examples:
        >>> from hepml import progress
        >>> with progress.listening(print):
        ...     progress.tell("entries read", 3, 4)
        entries read 3 4
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
