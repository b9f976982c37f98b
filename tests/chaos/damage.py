"""Damage to a file's bytes, drawn by a seed, and what becomes of reading it."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepml.errors import HepmlError

KINDS = ("bit", "bytes", "block", "truncated", "zeros", "swapped", "repeated")
PATIENCE = 30  # seconds; a reader that takes longer hangs


def damaged(data: bytes, seed: int) -> bytes:
    """One variant of a file; the kind of damage follows from the seed."""
    draw = np.random.default_rng([20_26, seed])
    kind, out, size = KINDS[seed % len(KINDS)], bytearray(data), len(data)
    at = int(draw.integers(size))
    length = int(draw.integers(1, max(2, size // 20)))
    if kind == "bit":
        out[at] ^= 1 << int(draw.integers(8))
    elif kind == "bytes":
        for _ in range(int(draw.integers(1, 5))):
            out[int(draw.integers(size))] = int(draw.integers(256))
    elif kind == "block":
        out[at : at + length] = draw.bytes(len(out[at : at + length]))
    elif kind == "truncated":
        del out[at:]
    elif kind == "zeros":
        out[at : at + length] = bytes(len(out[at : at + length]))
    elif kind == "swapped":
        other = int(draw.integers(size))
        one, two = out[at : at + length], out[other : other + length]
        out[at : at + len(two)], out[other : other + len(one)] = two, one
    else:
        out[at:at] = out[at : at + length]
    return bytes(out)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        name: of it.
        write: makes a whole one at a path.
        read: what a user gets from it, as text that can be compared.
        suffix: of its name.
        checked: whether the format holds checksums of its content, so that a reader can know.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], str]
    suffix: str
    checked: bool


def outcomes(kind: Format, folder: Path, seeds: range) -> tuple[Counter[str], list[str]]:
    """How many damaged variants were read as the file was, refused in one line, read as other values where no
    checksum could tell (`payload`), or wrongly; and what was wrong."""
    whole = folder / f"whole{kind.suffix}"
    kind.write(whole)
    data, truth = whole.read_bytes(), kind.read(whole)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in seeds:
        path = folder / f"x{seed}{kind.suffix}"  # PyTables keeps a file open that it could not read
        path.write_bytes(damaged(data, seed))
        outcome = _outcome(kind, path, truth)
        path.unlink()
        counts[outcome.partition(":")[0]] += 1
        if outcome.startswith("wrong"):
            wrong.append(f"{kind.name}, seed {seed} ({KINDS[seed % len(KINDS)]}): {outcome}")
    return counts, wrong


def _outcome(kind: Format, path: Path, truth: str) -> str:
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(PATIENCE)
    try:
        read = kind.read(path)
    except HepmlError as refused:
        text = str(refused)
        return (
            "refused" if "\n" not in text and text.strip() and refused.exit_code == 2 else f"wrong: {text!r}"
        )
    except Exception as problem:
        return f"wrong: {type(problem).__name__}: {str(problem)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if read == truth:
        return "same"
    return "wrong: other values" if kind.checked else "payload"


def _too_long(signum: int, frame: object) -> None:
    raise TimeoutError(f"no answer in {PATIENCE} s")
