"""Chunks joined to one as they are read: each number is copied once, to its final place, so that memory
holds the jets only once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hepml.data.reading.chunk import Chunk
from hepml.data.reading.links import starts_of
from hepml.data.reading.reconcile import common_columns
from hepml.data.reading.report import DataReport
from hepml.data.reserved import GrowingColumns

_ONE_A_JET = ("momenta", "labels", "weights", "entries", "events")
_CONSTITUENTS, _JETS = "constituents.", "jets."
_WITHIN = "//"  # between the name of a further collection and that of a column of it


class GatheredChunks:
    """Chunks that are added one by one.

    Args:
        expected: entries that will be read in all.
    """

    def __init__(self, expected: int) -> None:
        self._columns = GrowingColumns(expected)
        self._shells: list[Chunk] = []  # what the chunks of each file are like, without their jets
        self.jets = 0

    def add(self, chunk: Chunk, reached: int) -> None:
        """Adds the jets of a chunk.

        Args:
            reached: entries read so far, its own included.
        """
        shell = _shell_of(chunk)
        if not self._shells or not _are_alike(shell, self._shells[-1]):
            self._shells.append(shell)
        self.jets += len(chunk)
        if not len(chunk):
            return
        self._columns.reached = reached
        self._columns.append(
            {
                "counts": chunk.counts,
                **{name: getattr(chunk, name) for name in _ONE_A_JET},
                **{f"{_CONSTITUENTS}{n}": c for n, c in chunk.constituents.items()},
                **{f"{_JETS}{n}": c for n, c in chunk.jets.items()},
                **{
                    f"{name}{_WITHIN}{n}": c
                    for name, other in chunk.collections.items()
                    for n, c in {"": other.counts, **other.constituents}.items()
                },
            }
        )

    @property
    def bytes_foretold(self) -> int:
        """What all jets will take, as far as the chunks so far tell."""
        return self._columns.bytes_foretold

    @property
    def differ(self) -> bool:
        """Whether the chunks come from several files, or have different columns."""
        return len(self._shells) > 1

    def finish(self, report: DataReport) -> Chunk:
        """All jets, with the columns that all files have; what is left out is noted in the report."""
        whole = common_columns(self._shells, report)[0] if self.differ else self._shells[0]
        whole = replace(whole, at_rest=any(s.at_rest for s in self._shells))
        if not self.jets:
            return whole
        columns = self._columns.finish()
        return replace(
            whole,
            offsets=starts_of(columns["counts"]),
            constituents={n: columns[f"{_CONSTITUENTS}{n}"] for n in whole.constituents},
            jets={n: columns[f"{_JETS}{n}"] for n in whole.jets},
            collections={
                name: self._collection(name, other, columns) for name, other in whole.collections.items()
            },
            **{name: columns[name] for name in _ONE_A_JET},
        )

    def _collection(self, name: str, shell: Chunk, gathered: dict[str, np.ndarray]) -> Chunk:
        """A further collection of all jets."""
        offsets = starts_of(gathered[f"{name}{_WITHIN}"])
        columns = {n: gathered[f"{name}{_WITHIN}{n}"] for n in shell.constituents}
        return replace(shell, offsets=offsets, constituents=columns, entries=gathered["entries"])


def _shell_of(chunk: Chunk) -> Chunk:
    """The chunk without its jets."""

    def none(a: np.ndarray | None) -> np.ndarray | None:
        return None if a is None else np.empty((0, *a.shape[1:]), dtype=a.dtype)

    per_jet: dict[str, Any] = {name: none(getattr(chunk, name)) for name in _ONE_A_JET}
    return replace(
        chunk,
        offsets=np.zeros(1, dtype=np.int64),
        constituents={n: np.empty(0, dtype=c.dtype) for n, c in chunk.constituents.items()},
        jets={n: np.empty(0, dtype=c.dtype) for n, c in chunk.jets.items()},
        collections={n: _shell_of(other) for n, other in chunk.collections.items()},
        **per_jet,
    )


def _are_alike(one: Chunk, other: Chunk) -> bool:
    return (
        one.file == other.file
        and one.at_rest == other.at_rest
        and one.constituents.keys() == other.constituents.keys()
        and one.jets.keys() == other.jets.keys()
        and one.collections.keys() == other.collections.keys()
        and all((getattr(one, n) is None) == (getattr(other, n) is None) for n in _ONE_A_JET)
    )
