"""Which event a jet belongs to, as run, luminosity block and event number say: jets of one event are not
independent, and must not stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

# Usual names, in small letters and without `_`.
_USUAL = {
    "run": ("run", "runnumber", "runno", "runnum"),
    "luminosityBlock": ("luminosityblock", "lumi", "lumiblock", "lumisection"),
    "event": ("event", "eventnumber", "eventno", "eventnum", "evt", "evtnumber", "evtno", "evtnum"),
}
_SEED, _FACTORS = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def usual_branches(branches: Iterable[str]) -> dict[str, str]:
    """Run, luminosity block and event number among these names: `run`, `luminosityBlock`, `event` -> name,
    as far as there are any.

    Examples:
        >>> usual_branches(["jet_pt", "event_no", "RunNumber"])
        {'run': 'RunNumber', 'event': 'event_no'}
    """
    named: dict[str, str] = {}
    for branch in branches:
        named.setdefault(branch.rpartition(".")[2].lower().replace("_", ""), branch)
    found = {role: next((named[n] for n in usual if n in named), None) for role, usual in _USUAL.items()}
    return {role: branch for role, branch in found.items() if branch is not None}


def numbers_of(columns: Mapping[str, str]) -> dict[str, str]:
    """Which of a layout's event columns, name -> branch, are run, luminosity block and event number: those of
    that name, else those whose branch has a usual name."""
    return usual_branches(columns.values()) | {role: columns[role] for role in _USUAL if role in columns}


def identities(columns: Mapping[str, np.ndarray], jets: int) -> np.ndarray:
    """The event of each jet, [J] int64: the same number for the same event in whichever file; -1 where there
    is no event number, or where it is zero for all of these jets (the file does not number its events).

    Args:
        columns: `run`, `luminosityBlock`, `event` -> [J], as far as there are any.
        jets: how many.
    """
    if "event" not in columns:
        return np.full(jets, -1, dtype=np.int64)
    mixed = np.full(jets, _SEED, dtype=np.uint64)
    for part in _USUAL:
        if part not in columns:
            continue
        values = columns[part]
        if values.dtype.kind == "f":
            values = np.where(np.isfinite(values), values, 0)
        number = values.astype(np.int64)
        if part == "event" and not number.any():
            return np.full(jets, -1, dtype=np.int64)
        mixed = (mixed ^ number.view(np.uint64)) * np.uint64(_FACTORS[0])
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(_FACTORS[1])
        mixed ^= mixed >> np.uint64(32)
    return (mixed >> np.uint64(1)).view(np.int64)
