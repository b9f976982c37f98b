"""What glibc's allocator does with memory that is freed: kept for the next step of a training, or given back
where jets are read in bounded memory.

A training step makes and frees the same large tensors again and again. glibc maps every block above 32 MB
anew and gives it back to the system when it is freed, and the system clears its pages each time: up to two
fifths of a step of large jets (`docs/benchmarks.md`). Two settings of `mallopt(3)` keep such memory for the
next step. A process then stays as large as it once was.

Threads that read files get a heap each from glibc, up to eight a core of the machine, and each heap keeps
most of what was freed in it: 200 MB for two threads that decompress baskets, more on larger machines. Three
other settings make them share one heap, and give back its free end.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

# Numbers of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_NEVER = -1
_FREE_END = 8 << 20  # bytes that may lie free at the end of the heap
_MAPPED = 32 << 20  # blocks from here on are mapped each for itself: the most that glibc takes
# What a user sets the same by.
_SET_BY_USER = (
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)
_kept: list[bool] = []  # whether this process keeps what it frees


def keep_freed_memory() -> bool:
    """Whether the process keeps freed memory from now on: not where the C library is another one than glibc,
    or where the user's environment sets its allocator."""
    done = _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER})
    _kept[:] = [done]
    return done


def give_back_freed_memory() -> bool:
    """Whether threads share one heap from now on, whose free end goes back to the system; not where
    `keep_freed_memory` would not be done, and in a process that keeps its memory only the heap is shared."""
    bounded = {} if any(_kept) else {_TRIM_THRESHOLD: _FREE_END, _MMAP_THRESHOLD: _MAPPED}
    return _set({_ARENA_MAX: 1, **bounded})


def _set(options: Mapping[int, int]) -> bool:
    if any(name in os.environ for name in _SET_BY_USER) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        library = ctypes.CDLL(None)
        if not hasattr(library, "gnu_get_libc_version"):
            return False
        results = [bool(library.mallopt(option, value)) for option, value in options.items()]
        return all(results)
    except (AttributeError, OSError, TypeError):
        return False
