"""Memory that a training step frees stays with the process, where glibc is its allocator.

A step makes and frees the same large tensors again and again. glibc maps every block above 32 MB anew and
gives it back to the system when it is freed, and the system clears its pages each time: up to two fifths of a
step of large jets (`docs/benchmarks.md`). Two settings of `mallopt(3)` keep such memory for the next step. A
process then stays as large as it once was.
"""

from __future__ import annotations

import ctypes
import os

# Numbers of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
# What a user sets the same by.
_SET_BY_USER = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Whether the process keeps freed memory from now on: not where the C library is another one than glibc,
    or where the user's environment sets its allocator."""
    if any(name in os.environ for name in _SET_BY_USER) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        library = ctypes.CDLL(None)
        if not hasattr(library, "gnu_get_libc_version"):
            return False
        return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, _NEVER))
    except (AttributeError, OSError, TypeError):
        return False
