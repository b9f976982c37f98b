"""How many processor cores this process may use, and work on all of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 8  # threads
_NAME = "hepml-reading"
# The threads of this process, by its number: a fork has none of its parent's.
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_making = threading.Lock()


def available_cores() -> int:
    """Cores that this process is allowed, which a batch system may have made fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_all_cores(work: Callable[[Item], Result], items: Iterable[Item], number: int) -> list[Result]:
    """The results of independent pieces of work, in order; several at a time where there are several, for
    work that lets go of the interpreter's lock.

    All of hepml's readers share these threads. glibc keeps a heap for each thread that lives, and in it most
    of what was freed: threads of each open file's own held 200 MB that nothing used.
    """
    cores = min(available_cores(), _MOST)
    if min(cores, number) < 2 or threading.current_thread().name.startswith(_NAME):
        return [work(item) for item in items]
    return list(_pool(cores).map(work, items))


def _pool(cores: int) -> ThreadPoolExecutor:
    with _making:
        key = os.getpid(), cores
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(cores, thread_name_prefix=_NAME)
        return _pools[key]
