"""Jets with values that no model can use: NaN or infinite columns, negative energies. Refused, dropped or
kept, and always counted."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hepml.data.reading.chunk import Chunk
from hepml.data.reading.report import DataReport
from hepml.errors import DataError

BadJets = Literal["refuse", "drop", "keep"]


def screen(chunk: Chunk, policy: BadJets, report: DataReport) -> Chunk:
    """The jets of the chunk that the policy lets through.

    Raises:
        DataError: a bad jet under the policy `refuse`; names the column, the value, file and entry.
    """
    if policy not in ("refuse", "drop", "keep"):
        raise DataError(f"unknown policy '{policy}' for bad jets", mend="refuse, drop or keep")
    bad: np.ndarray | None = None
    for reason, value, jets in _findings(chunk):
        first = int(np.nonzero(jets)[0][0])
        where = f"{chunk.file}, entry {chunk.entries[first]}"
        if policy == "refuse":
            raise DataError(
                f"{reason}: {value}",
                where=where,
                mend="repair the file, or let such jets be dropped and counted (bad='drop')",
            )
        report.add_bad(reason, int(jets.sum()), where)
        bad = jets if bad is None else bad | jets
    if bad is None or policy == "keep":
        return chunk
    report.dropped_bad += int(bad.sum())
    return chunk.take(~bad)


def _findings(chunk: Chunk) -> list[tuple[str, float, np.ndarray]]:
    """(reason, first value, which jets [B]) for every column with something bad."""
    found = []

    def of_constituents(reason: str, rows: np.ndarray, column: np.ndarray) -> None:
        jets = np.zeros(len(chunk), dtype=bool)
        jets[np.searchsorted(chunk.offsets, np.nonzero(rows)[0], side="right") - 1] = True
        found.append((reason, float(column[rows][0]), jets))

    for name, column in chunk.constituents.items():
        if not _sums_to_finite(column) and not (finite := np.isfinite(column)).all():
            of_constituents(f"NaN or infinite '{name}'", ~finite, column)
    energy = chunk.constituents["energy"]
    if len(energy) and energy.min() < 0:
        of_constituents("negative energy", energy < 0, energy)
    for name, values in (("jet momentum", chunk.momenta), ("weight", chunk.weights)):
        if values is not None and not _sums_to_finite(values):
            rows = ~np.isfinite(values if values.ndim == 1 else values.sum(axis=1))
            if rows.any():
                found.append((f"NaN or infinite {name}", float("nan"), rows))
    return found


def _sums_to_finite(values: np.ndarray) -> bool:
    """A finite sum proves every term finite, and is quicker to take than looking at each; a sum that
    overflows proves nothing."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float32 if values.dtype == np.float32 else None)))
