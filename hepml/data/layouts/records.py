"""Candidates that another package (coffea's NanoEvents, uproot) read out of an experiment's files, under the
experiment's names: the columns and units that hepml would have read from the same file.

Only names that are nobody else's are understood so; records in hepml's own names stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from hepml.data.layouts import delphes, nanoaod, physlite
from hepml.data.layouts.collections import Candidates
from hepml.data.layouts.derived import filled, with_derived
from hepml.data.reading.columns import Column

_OWN = {"d0_error", "dz_error", "is_photon", "is_charged_hadron", "is_neutral_hadron"}
_CMS = {"d0Err", "dzErr"}
_CMS_RECORDS = ("PFCand", "PFCands")
_PHYSLITE = "_eventindex"  # a field that NanoEvents adds to each of its records


def candidates_of(fields: Collection[str], record: str | None = None) -> Candidates | None:
    """What these fields are, as columns whose branch is a field's name; None where they are as they should
    be.

    Args:
        fields: of the records, one number each.
        record: their name.
    """
    has = set(fields)
    if has & _OWN:
        return None
    if {"theta", "phi", "qOverP"} <= has or (_PHYSLITE in has and {"pt", "eta", "phi"} <= has):
        return physlite.candidates_named("TrackParticles", {f: f for f in fields})
    if {"Eta", "Phi"} <= has and has & {"PT", "ET"}:
        return _without("x.", delphes.candidates_named("x", {f"x.{f}": "float[]" for f in fields}))
    if record in _CMS_RECORDS or has & _CMS:
        return _without("x_", nanoaod.candidates_named("x", {f"x_{f}": "float[]" for f in fields}))
    return None


def translated(candidates: Candidates, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Flat columns by field as flat columns by hepml's names, in GeV and mm; fields of no meaning here keep
    theirs."""
    size = len(next(iter(columns.values()))) if columns else 0
    out = with_derived(candidates.derive, filled(candidates.columns, columns, size))
    return out | {n: columns[n] for n in candidates.further if n not in out}


def _without(prefix: str, candidates: Candidates) -> Candidates:
    """The same with fields in the place of branches."""

    def field(c: Column) -> Column:
        return c if c.branch is None else replace(c, branch=c.branch.removeprefix(prefix))

    return replace(
        candidates,
        columns={n: field(c) for n, c in candidates.columns.items()},
        further={n: field(c) for n, c in candidates.further.items()},
    )
