"""Jets that no model can use, by one rule for all of them: NaN or infinite values, and constituents that
no particle in a detector is (negative energy, energy below momentum, no transverse momentum, |eta| above
10). Refused, dropped or kept, and always counted. Rows of zeros are padding, no constituents: they are
left out, and counted too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from hepml.data.reading.chunk import BLOCK, MOMENTUM, Chunk
from hepml.data.reading.per_jet import NO_INDEX, one_each, sentinels
from hepml.data.reading.report import DataReport
from hepml.data.reading.sums import unlike_their_sums
from hepml.errors import DataError

GIVEN = "the given jets"  # in the place of a file, for jets that were handed over
BadJets = Literal["refuse", "drop", "keep"]
LARGEST_ETA = 10.0
_SLOPE = math.sinh(LARGEST_ETA)  # |pz| / pT at that pseudorapidity
_MARGIN, _LEAST_SQUARE = 1e-4, np.float32(1e-30)
_ROUNDING = 2e-3  # by which an energy may fall below the momentum: numbers stored with 10 bits differ so


def screen(
    chunk: Chunk, policy: BadJets, report: DataReport, finite: Sequence[str] = (), *, sums: bool = True
) -> Chunk:
    """The jets of the chunk that the policy lets through, without padding.

    Args:
        finite: jet columns that are used as numbers (target, weight, jet features): NaN makes a jet bad.
        sums: whether to count jets that their constituents do not add up to.

    Raises:
        DataError: a bad jet under the policy `refuse`; names the column, the value, file and entry.
        LayoutError: a jet column, label or weight that is not one number a jet.
    """
    if policy not in ("refuse", "drop", "keep"):
        raise DataError(f"unknown policy '{policy}' for bad jets", mend="refuse, drop or keep")
    _check_shapes(chunk)
    chunk = without_padding(chunk, report)
    if chunk.collections:
        chunk = replace(chunk, collections={n: without_padding(c) for n, c in chunk.collections.items()})
    _note_sentinels(chunk, finite, report)
    bad: np.ndarray | None = None
    findings = _findings(chunk, finite)
    for name, other in chunk.collections.items():
        findings += [(f"{name}: {reason}", value, jets) for reason, value, jets in _findings(other, ())]
    for reason, value, jets in findings:
        first = int(np.nonzero(jets)[0][0])
        where = _place(chunk, first)
        if policy == "refuse":
            raise DataError(
                f"{reason}: {value}",
                where=where,
                mend="repair the file, or let such jets be dropped and counted (bad='drop')",
            )
        report.add_bad(reason, int(jets.sum()), where)
        bad = jets if bad is None else bad | jets
    if policy == "refuse" and chunk.labels is not None and (chunk.labels == NO_INDEX).any():
        first = int(np.nonzero(chunk.labels == NO_INDEX)[0][0])
        raise DataError(
            "a label that is no class index but a fraction",
            where=_place(chunk, first),
            mend="map a label branch of whole numbers",
        )
    if bad is not None and policy != "keep":
        report.dropped_bad += int(bad.sum())
        chunk = chunk.take(~bad)
    if sums:
        _note_sums(chunk, report)
    return chunk


def without_padding(chunk: Chunk, report: DataReport | None = None) -> Chunk:
    """The chunk without constituents whose four-momentum is zero: what arrays of fixed size are filled up
    with."""
    columns = [chunk.constituents[name] for name in MOMENTUM]
    if columns[3].all():  # no energy is zero
        return chunk
    padding = ~np.logical_or.reduce([c != 0 for c in columns])
    if not padding.any():
        return chunk
    jet_of = chunk.jet_of()
    if report is not None:
        report.padding += int(padding.sum())
    counts = chunk.counts - np.bincount(jet_of[padding], minlength=len(chunk))
    return replace(
        chunk,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        constituents={name: c[~padding] for name, c in chunk.constituents.items()},
    )


def unphysical(p: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """What no particle in a detector is, for four-momenta [N, 4] (E, px, py, pz): (reason, which [N])."""
    return _unphysical(*(p[:, i] for i in range(4)))


def _unphysical(
    energy: np.ndarray, px: np.ndarray, py: np.ndarray, pz: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    with np.errstate(all="ignore"):
        transverse, longitudinal = np.hypot(px, py), np.abs(pz)
        negative, still = energy < 0, transverse == 0
        momentum = np.hypot(transverse, longitudinal)
        return [
            ("negative energy", negative),
            ("no transverse momentum", still & ~negative),
            (f"|eta| above {LARGEST_ETA:g}", (longitudinal > _SLOPE * transverse) & ~still),
            ("energy below momentum", (energy * (1 + _ROUNDING) < momentum) & ~negative & ~still),
        ]


def _plainly_physical(energy: np.ndarray, px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> bool:
    """Whether no constituent can be unphysical, told from squares, which take a fifth of the time of lengths;
    False proves nothing. The margin is wider than any rounding, and squares that overflow or vanish fail."""
    columns = (energy, px, py, pz)
    blocks = ((c[first : first + BLOCK] for c in columns) for first in range(0, len(energy), BLOCK))
    return all(_is_plainly_physical(*block) for block in blocks)


def _is_plainly_physical(energy: np.ndarray, px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        transverse, longitudinal = px * px + py * py, pz * pz
        return bool(
            (energy > 0).all()
            and (transverse > _LEAST_SQUARE).all()
            and (longitudinal < transverse * np.float32(_SLOPE**2 * (1 - _MARGIN))).all()
            and (
                transverse + longitudinal < energy * energy * np.float32((1 + _ROUNDING) ** 2 * (1 - _MARGIN))
            ).all()
        )


def _check_shapes(chunk: Chunk) -> None:
    """One number a jet for all that belongs to jets, and one a constituent for all that belongs to those."""
    jets = len(chunk)
    for name, column in chunk.jets.items():
        one_each(column, jets, f"jet column '{name}'", chunk.file)
    for name, values in (("weights", chunk.weights), ("labels", chunk.labels)):
        if values is not None:
            one_each(values, jets, name, chunk.file)
    for name, column in chunk.constituents.items():
        one_each(column, int(chunk.offsets[-1]), f"constituent column '{name}'", chunk.file)


def _note_sentinels(chunk: Chunk, finite: Sequence[str], report: DataReport) -> None:
    used = {name: chunk.jets[name] for name in finite if name in chunk.jets}
    if chunk.weights is not None:
        used["weight"] = chunk.weights
    for name, values in used.items():
        sentinel = sentinels(values)
        if sentinel is not None:
            report.add_sentinel(name, *sentinel)


def _place(chunk: Chunk, jet: int) -> str:
    """Where a jet stands, for people."""
    word = "entry" if chunk.file != GIVEN else "jet"
    return f"{chunk.file}, {word} {chunk.entries[jet]}"


def _note_sums(chunk: Chunk, report: DataReport) -> None:
    deviations, units = unlike_their_sums(chunk)
    for what, jets in deviations:
        first = int(np.nonzero(jets)[0][0])
        report.add_unlike(what, int(jets.sum()), _place(chunk, first))
    report.units = report.units or units or ""


def _findings(chunk: Chunk, finite: Sequence[str]) -> list[tuple[str, float, np.ndarray]]:
    """(reason, first value, which jets [B]) for every column with something bad."""
    findings = []

    def of_constituents(reason: str, rows: np.ndarray, column: np.ndarray) -> None:
        jets = np.zeros(len(chunk), dtype=bool)
        jets[np.searchsorted(chunk.offsets, np.nonzero(rows)[0], side="right") - 1] = True
        findings.append((reason, float(column[rows][0]), jets))

    for name, column in chunk.constituents.items():
        if not _sums_to_finite(column) and not (is_finite := np.isfinite(column)).all():
            of_constituents(f"NaN or infinite '{name}'", ~is_finite, column)
    energy, px, py, pz = (chunk.constituents[name] for name in ("energy", "px", "py", "pz"))
    for reason, rows in [] if _plainly_physical(energy, px, py, pz) else _unphysical(energy, px, py, pz):
        if chunk.at_rest and reason == "no transverse momentum":
            rows = rows & (pz != 0)
        if rows.any():
            of_constituents(reason, rows, {"|": pz, "n": energy}.get(reason[0], energy))
    if chunk.momenta is not None:
        findings += _of_jet_momenta(chunk.momenta, chunk.counts > 0)
    columns = {f"'{name}'": chunk.jets[name] for name in dict.fromkeys(finite) if name in chunk.jets}
    if chunk.weights is not None:
        columns["weight"] = chunk.weights
    for name, values in columns.items():
        if values.dtype.kind == "f" and not _sums_to_finite(values):
            rows = ~np.isfinite(values)
            if rows.any():
                findings.append((f"NaN or infinite {name}", float(values[rows][0]), rows))
    return findings


def _of_jet_momenta(p: np.ndarray, has_constituents: np.ndarray) -> list[tuple[str, float, np.ndarray]]:
    """What is wrong with the jets' own four-momenta [B, 4]; a jet without constituents may have none."""
    findings = []
    infinite = ~np.isfinite(p).all(axis=1)
    if infinite.any():
        findings.append(("NaN or infinite jet momentum", float("nan"), infinite))
    for reason, rows in unphysical(p):
        rows = rows & has_constituents & ~infinite
        if rows.any() and reason != "energy below momentum":  # a groomed mass may go with another energy
            findings.append((f"jet momentum: {reason}", float(p[rows][0, 0]), rows))
    return findings


def _sums_to_finite(values: np.ndarray) -> bool:
    """A finite sum (of squares, for floats) proves every term finite, and is quicker to take than looking at
    each; a sum that overflows proves nothing."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.dot(values, values) if values.dtype.kind == "f" else values.sum()))
