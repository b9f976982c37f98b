"""What a training step frees stays with its process; what reading threads free goes back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from hepml import allocator

# Page faults of four rounds of making, filling and freeing 40 MB. Pages have 2 MB at most.
ROUNDS = """
import resource, runpy, sys

keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * (40 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

mapped = faults()
kept = keep_freed_memory()
faults()
print(int(kept), mapped, faults())
"""


def unset() -> dict[str, str]:
    """The environment without settings of the allocator."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}


def seen(**environment: str) -> tuple[bool, int, int]:
    """Whether memory is kept, and the faults of four rounds without and with it."""
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, allocator.__file__],
        env={**unset(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, mapped, after = map(int, done.stdout.split())
    return bool(kept), mapped, after


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc's malloc")
def test_large_blocks_are_not_mapped_anew_once_memory_is_kept() -> None:
    kept, mapped, after = seen()
    assert kept
    assert mapped >= 4 * 20
    assert after < 20


# Heaps after six threads have made and freed blocks of 1 MB at the same time; glibc lists them.
THREADS = """
import ctypes, runpy, sys, threading

made = runpy.run_path(sys.argv[1])
shared = made["give_back_freed_memory"]() if sys.argv[2] == "shared" else False
together = threading.Barrier(6)

def work():
    blocks = [b"x" * (1 << 20) for _ in range(30)]
    together.wait()

b"x" * (8 << 20)  # from here on blocks of this size are taken from a heap
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
print(int(shared))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc's malloc")
def test_threads_share_one_heap_where_memory_is_given_back() -> None:
    heaps = {}
    for how in ("own", "shared"):
        words = [sys.executable, "-c", THREADS, allocator.__file__, how]
        done = subprocess.run(words, env=unset(), capture_output=True, text=True, check=True)
        assert bool(int(done.stdout)) == (how == "shared")
        heaps[how] = done.stderr.count("Arena ")
    assert heaps["own"] >= 6
    assert heaps["shared"] == 1


def test_a_user_s_own_settings_stand() -> None:
    assert not seen(MALLOC_TRIM_THRESHOLD_="131072")[0]
    assert not seen(GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072")[0]
