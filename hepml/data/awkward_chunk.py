"""Awkward jets, as `hepml.read_jets` gives them or as users build them, as a flat chunk of columns: what
files give as well, so that both are packed by the same code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hepml.data.formats.resolve import cartesian
from hepml.data.jet_columns import from_collider_columns, settle
from hepml.data.layouts.derived import INTERMEDIATE
from hepml.data.layouts.records import candidates_of, translated
from hepml.data.reading.chunk import MOMENTUM, Chunk, canonical_columns
from hepml.data.reading.per_jet import one_each
from hepml.data.reading.screen import GIVEN
from hepml.errors import DataError, LayoutError, did_you_mean

if TYPE_CHECKING:
    import awkward as ak


def from_awkward(jets: ak.Array, *, label: str = "label", weight: str = "weight") -> Chunk:
    """Awkward jets as a flat chunk.

    Raises:
        LayoutError: no `constituents`, or no momentum in them.
    """
    import awkward as ak

    if not isinstance(jets, ak.Array):
        raise LayoutError(
            f"jets are an awkward array, not {type(jets).__name__}",
            mend="one of them is jets[:1]; ak.Array makes one of a list",
        )
    if "constituents" not in ak.fields(jets):
        raise LayoutError(
            "these jets have no field 'constituents'",
            mend=did_you_mean("constituents", ak.fields(jets), noun="fields"),
        )
    lists = _present(jets["constituents"])
    offsets, flat = _constituents(lists)
    own = {
        n: numbers
        for n in ak.fields(jets)
        if n not in ("constituents", label, weight) and jets[n].ndim == 1 and not ak.fields(jets[n])
        if (numbers := _numbers(jets[n])).dtype.kind in "biuf"
    }
    index = own["index"] if "index" in own else np.arange(len(offsets) - 1)
    entries = np.asarray(index, dtype=np.int64)
    further = {
        name: replace(other, entries=entries)
        for name in ak.fields(jets)
        if name not in ("constituents", "momentum") and (other := _further(jets[name])) is not None
    }
    chunk = Chunk(
        offsets=offsets,
        constituents=flat,
        jets=own,
        labels=_one_each(jets, label),
        weights=_one_each(jets, weight),
        classes=tuple(jets.attrs.get("classes", ())),
        entries=entries,
        file=GIVEN,
        at_rest=bool(jets.attrs.get("at_rest", False)),
        collections=further,
    )
    momenta = _own_momenta(jets, own)
    return chunk if momenta is None else replace(chunk, momenta=settle(momenta, chunk.summed()))


def _present(lists: ak.Array) -> ak.Array:
    """Constituents as plain lists: an option type is taken off where nothing is missing.

    Raises:
        LayoutError: no list of records a jet.
        DataError: a jet, or a constituent, that is missing (None).
    """
    import awkward as ak

    if lists.ndim != 2 or not ak.fields(lists):
        raise LayoutError(
            f"constituents are {lists.type}, not one list of records a jet",
            mend="ak.flatten(jets, axis=1) makes a list of jets of a list of events"
            if lists.ndim > 2
            else "give records with px, py, pz, energy or pt, eta, phi, mass",
        )
    no_list = _missing(lists)
    if no_list.any():
        raise DataError(
            f"the constituents of {int(no_list.sum())} jets are missing (None)",
            where=f"{GIVEN}, jet {int(np.argmax(no_list))}",
            mend="leave those jets out: jets[~ak.is_none(jets.constituents)]",
        )
    lists = ak.to_packed(ak.from_regular(ak.drop_none(lists, axis=0)))
    flat = ak.flatten(lists, axis=1)
    missing = _missing(flat)
    if missing.any():
        jet = int(np.searchsorted(_offsets(lists), int(np.argmax(missing)), side="right")) - 1
        raise DataError(
            f"{int(missing.sum())} constituents are missing (None)",
            where=f"{GIVEN}, jet {jet}",
            mend="leave them out: ak.drop_none(jets.constituents, axis=1)",
        )
    return ak.unflatten(ak.drop_none(flat, axis=0), ak.num(lists)) if _is_option(flat) else lists


def _missing(array: ak.Array) -> np.ndarray:
    """Which of the outermost elements are None, [N]."""
    import awkward as ak

    if not _is_option(array):
        return np.zeros(0, dtype=bool)
    return np.asarray(ak.to_layout(array).mask_as_bool(valid_when=False), dtype=bool)


def _is_option(array: ak.Array) -> bool:
    import awkward as ak

    return bool(ak.to_layout(array).is_option)


def _constituents(lists: ak.Array) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Offsets, and one flat column for each momentum component and each further number of a constituent."""
    import awkward as ak

    fields = [n for n in ak.fields(lists) if _is_numbers(lists[n])]
    candidates = candidates_of(fields, _record(lists))
    if candidates is not None:
        columns = {n: _floats(ak.flatten(lists[n], axis=1)) for n in fields}
        flat = translated(candidates, columns)
        four = cartesian(flat, "constituents", GIVEN)
        rest = {n: _single(c) for n, c in flat.items() if n not in (*INTERMEDIATE, *_IMPLIED)}
        return _offsets(lists[fields[0]]), four | rest
    four = {n: lists[n] if set(MOMENTUM) <= set(fields) else _component(lists, n) for n in MOMENTUM}
    flat = {n: _floats(ak.flatten(a, axis=1)) for n, a in four.items()}
    flat |= {n: _floats(ak.flatten(lists[n], axis=1)) for n in fields if n not in (*flat, *_IMPLIED)}
    return _offsets(four["px"]), flat


def _is_numbers(lists: ak.Array) -> bool:
    """Whether a field has one number a constituent: no text, lists or records."""
    import awkward as ak

    return lists.ndim == 2 and not ak.fields(lists) and "string" not in str(lists.type)


def _component(lists: ak.Array, name: str) -> ak.Array:
    """A component of records with a momentum: as `vector` reads their fields, else as their own class does.

    Raises:
        LayoutError: neither knows.
    """
    import awkward as ak
    import vector

    vector.register_awkward()
    for kind in ("Momentum4D", None):
        with suppress(AttributeError, TypeError):  # what vector raises for other coordinates
            return getattr(lists if kind is None else ak.with_name(lists, kind), name)
    raise LayoutError(
        f"constituents have no four-momentum among {', '.join(ak.fields(lists))}",
        mend="give px, py, pz, energy or pt, eta, phi, mass",
    )


def _record(lists: ak.Array) -> str | None:
    """What the records in these lists are called."""
    import awkward as ak

    return str(ak.parameters(ak.flatten(lists, axis=1)).get("__record__", "")) or None


def _offsets(lists: ak.Array) -> np.ndarray:
    import awkward as ak

    return np.asarray(ak.to_layout(ak.to_packed(lists)).offsets.data, dtype=np.int64)


def _single(column: np.ndarray) -> np.ndarray:
    return column.astype(np.float32, copy=False)


def _further(lists: ak.Array) -> Chunk | None:
    """A further collection: a list of records with momenta for each jet; None where it is something else."""
    import awkward as ak

    if lists.ndim != 2 or not ak.fields(lists):
        return None
    try:
        return from_awkward(ak.zip({"constituents": lists}, depth_limit=1))
    except (DataError, LayoutError):  # records without momenta, or missing, are the user's own business
        return None


# what follows from the momentum, by any name
_IMPLIED = frozenset(
    (*MOMENTUM, "pt", "eta", "phi", "mass", "E", "e", "t", "x", "y", "z", "rho", "theta", "tau", "M", "m")
)
_COLLIDER = ("pt", "eta", "phi", "energy", "mass")


def _own_momenta(jets: ak.Array, columns: dict[str, np.ndarray]) -> np.ndarray | None:
    import awkward as ak

    if "momentum" not in ak.fields(jets):
        own = from_collider_columns(canonical_columns(columns))
        if own is None and ak.parameters(jets).get("__record__"):  # jets of coffea: vectors themselves
            own = from_collider_columns({n: columns[n] for n in _COLLIDER if n in columns})
        return own
    four = jets["momentum"]
    return np.stack([_floats(getattr(four, n)) for n in ("energy", "px", "py", "pz")], 1).astype(np.float32)


def _one_each(jets: ak.Array, name: str) -> np.ndarray | None:
    """A field of one number a jet, or None where it is absent.

    Raises:
        LayoutError: a list a jet, or no numbers.
    """
    import awkward as ak

    if name not in ak.fields(jets):
        return None
    if jets[name].ndim != 1:
        raise LayoutError(
            f"field '{name}' of these jets holds a list a jet ({jets[name].type})",
            mend=f"give one number a jet, as jets['{name}'][:, 0]",
        )
    return one_each(_numbers(jets[name]), len(jets), f"field '{name}'", "the given jets")


def _numbers(array: ak.Array) -> np.ndarray:
    """A flat field; a number that is missing is NaN."""
    import awkward as ak

    if ak.to_layout(array).is_option and "string" not in str(array.type):
        array = ak.fill_none(ak.values_astype(array, np.float64), np.nan)
    return np.asarray(ak.to_numpy(array, allow_missing=False))


def _floats(array: ak.Array) -> np.ndarray:
    """A flat field of constituents; a number that is missing is NaN."""
    values = _numbers(array)
    out: np.ndarray = values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
    return out
