"""What a training step frees stays with its process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from hepml.training import allocator

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


def seen(**environment: str) -> tuple[bool, int, int]:
    """Whether memory is kept, and the faults of four rounds without and with it."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, allocator.__file__],
        env={**outside, **environment},
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


def test_a_user_s_own_settings_stand() -> None:
    assert not seen(MALLOC_TRIM_THRESHOLD_="131072")[0]
    assert not seen(GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072")[0]
