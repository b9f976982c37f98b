"""From jets to `JetBatch`: four-momenta and standardised features, packed without a loop over jets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hepml.data import features as feature_table
from hepml.data.arrays import check_numbers, check_physical
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED, derived_array, from_collider_columns, settle
from hepml.data.reading.chunk import BLOCK, MOMENTUM, Chunk, canonical_columns
from hepml.data.reading.cores import available_cores
from hepml.data.reading.per_jet import one_each
from hepml.data.reading.report import DataReport
from hepml.data.reading.screen import GIVEN, BadJets, screen
from hepml.data.reserved import Room
from hepml.errors import LayoutError, did_you_mean

if TYPE_CHECKING:
    import awkward as ak

COMPONENTS = ("energy", "px", "py", "pz")  # of a four-momentum, in their order

# Further collections, by name with the features of each.
Collections = Sequence[tuple[str, Sequence[str]]]


def pack(
    jets: ak.Array,
    features: str | Sequence[str] = (),
    *,
    jet_features: Sequence[str] | None = None,
    max_constituents: int | None = None,
    dtype: torch.dtype = torch.float32,
    target: str | None = None,
    label: str = "label",
    weight: str = "weight",
    bad: BadJets = "refuse",
) -> JetBatch:
    """A batch from awkward jets.

    Args:
        jets: one entry a jet, with `constituents` (any `vector` momentum: px, py, pz, energy, or pt, eta,
            phi, mass) and raw columns.
        features: constituent features to compute, by name or set; without any, the raw columns travel along
            and features are computed on demand.
        jet_features: jet-level columns to carry along; all but labels and those that follow from momenta,
            where left out.
        max_constituents: keep only the leading so many, by pT.
        dtype: floating dtype of the batch.
        target: jet column to use as labels (regression) instead of `label`.
        label, weight: names of these jet columns; they may be absent.
        bad: what to do with jets that no model can use, by the rule for files: `refuse`, `drop` (a warning
            says how many) or `keep`.

    Raises:
        LayoutError: a column that is not there.
        DataError: NaN, infinite or unphysical constituents (or jet features, target, weight); names the jet.
    """
    chunk = from_awkward(jets, label=label, weight=weight)
    report = DataReport()
    used = [*(jet_features or ()), *([target] if target else [])]
    chunk = screen(chunk, bad, report, [n for n in used if n in chunk.jets])
    if report.dropped_bad:
        told = "; ".join(f"{reason}: {found}" for reason, found in report.bad.items())
        warnings.warn(f"{report.dropped_bad} jets dropped: {told}", stacklevel=3)
    if max_constituents is not None:
        chunk = chunk.leading(max_constituents)
    if jet_features is None:
        labels = {*chunk.classes, *(f"label_{name}" for name in chunk.classes)}
        jet_features = [n for n in chunk.jets if n not in (*labels, *DERIVED, "index")]
    batch = batch_of(
        chunk,
        features,
        jet_features,
        labels=chunk.labels if target is None else jet_matrix(chunk, [target])[:, 0],
        weights=chunk.weights,
        dtype=dtype,
        collections=[(name, ()) for name in chunk.collections],
    )
    if features:
        return batch
    raw = {n: torch.from_numpy(c).to(dtype) for n, c in chunk.constituents.items() if n not in MOMENTUM}
    return replace(batch, raw=raw)


def batch_of(
    chunk: Chunk,
    features: str | Sequence[str] = (),
    jet_features: Sequence[str] = (),
    *,
    labels: Any = None,
    weights: Any = None,
    dtype: torch.dtype = torch.float32,
    room: Room | None = None,
    collections: Collections = (),
) -> JetBatch:
    """The jets of a chunk as a batch, whichever way they came: the one place where this is done.

    Args:
        chunk: jets.
        features: constituent features to compute, by name or set.
        jet_features: jet-level columns to carry along.
        labels, weights: [B], or None.
        dtype: floating dtype of the batch.
        room: gives the memory for `four_momenta` and `features`; new memory where left out.
        collections: further collections, with the features of each.

    Raises:
        LayoutError: a column that is not there.
        DataError: NaN or infinite momenta; names jet and constituent.
    """
    names = feature_table.resolve(features) if features else ()
    batch = JetBatch.from_arrays(
        four_momenta_of(chunk, dtype, room),
        chunk.offsets,
        features_of(chunk, names, dtype, room) if names else None,
        labels,
        feature_names=names,
        jet_features=jet_matrix(chunk, jet_features) if jet_features else None,
        jet_feature_names=tuple(jet_features),
        weights=weights,
        index=chunk.entries,
        dtype=dtype,
    )
    momenta = chunk.momenta
    if momenta is not None:
        batch = replace(batch, jet_momenta=torch.from_numpy(momenta).to(dtype))
    if not collections:
        return batch
    return replace(batch, collections={n: _beside(chunk, n, names, dtype) for n, names in collections})


def _beside(chunk: Chunk, name: str, features: Sequence[str], dtype: torch.dtype) -> JetBatch:
    """A further collection of these jets, relative to the momenta of the jets."""
    if name not in chunk.collections:
        raise LayoutError(
            f"these jets have no collection '{name}'",
            where=chunk.file,
            mend=did_you_mean(name, chunk.collections, noun="collections at hand")
            if chunk.collections
            else "name it in the layout (collections)",
        )
    inner = replace(chunk.collections[name], momenta=chunk.jet_momenta())
    made = batch_of(inner, features, dtype=dtype)
    if features:
        return made
    raw = {n: torch.from_numpy(c).to(dtype) for n, c in inner.constituents.items() if n not in MOMENTUM}
    return replace(made, raw=raw)


def prepare(batch: JetBatch, inputs: Inputs) -> JetBatch:
    """A batch as a model reads it: cut to its leading constituents, with the model's features computed, in
    float32 on the CPU as for jets from files, so that a jet has one score through whichever door it comes.

    Raises:
        LayoutError: a feature or jet column that these jets do not have.
        DataError: a constituent that no particle in a detector is, by the rule for files.
    """
    batch = batch.to("cpu").to(torch.float32).without_padding()
    check_physical(batch.four_momenta, batch.offsets)
    if batch.jet_momenta is not None:
        check_numbers("jet_momenta", batch.jet_momenta, len(batch), columns=True)
    if inputs.max_constituents is not None:
        batch = batch.leading(inputs.max_constituents)
    names, jet_names = feature_table.resolve(inputs.features), tuple(inputs.jet_features)
    collections = {}
    for name, wanted in inputs.collections:
        if name not in batch.collections:
            raise LayoutError(f"these jets have no collection '{name}'", mend="give jets that have one")
        inner = replace(batch.collections[name], jet_momenta=batch.jets)
        collections[name] = prepare(inner, Inputs(features=wanted))
    return replace(
        batch,
        collections=collections,
        features=batch.select(names).contiguous() if names else None,
        feature_names=names,
        jet_features=batch.select_jets(jet_names) if jet_names else None,
        jet_feature_names=jet_names,
        raw={},
    )


def four_momenta_of(chunk: Chunk, dtype: torch.dtype = torch.float32, room: Room | None = None) -> Tensor:
    """Constituents as [ΣN, 4] (E, px, py, pz) in GeV."""
    columns = [torch.from_numpy(chunk.constituents[name]) for name in COMPONENTS]
    out = (room or _new)("four_momenta", int(chunk.offsets[-1]), 4, _numpy(dtype))

    def fill(first: int) -> None:
        part = slice(first, first + BLOCK)
        _interleave([c[part] for c in columns], out[part])

    starts = range(0, len(out), BLOCK)
    _on_all_cores(fill, starts, len(starts))
    return torch.from_numpy(out)


def features_of(
    chunk: Chunk, names: Sequence[str], dtype: torch.dtype = torch.float32, room: Room | None = None
) -> Tensor:
    """Standardised features [ΣN, len(names)].

    Computed over blocks of jets whose columns stay in the processor's cache, which is several times quicker
    than column by column.

    Raises:
        LayoutError: a column that a feature needs is not there; names the feature and the nearest column.
    """
    out = (room or _new)("features", int(chunk.offsets[-1]), len(names), _numpy(dtype))
    edges = np.searchsorted(chunk.offsets, np.arange(0, chunk.offsets[-1], BLOCK))
    edges = np.unique(np.concatenate([[0], edges, [len(chunk)]]))

    def fill(jets: tuple[int, int]) -> None:
        first, last = jets
        columns = feature_table.compute_columns(names, raw_columns(chunk.jets_between(first, last), dtype))
        _interleave(columns, out[int(chunk.offsets[first]) : int(chunk.offsets[last])])

    _on_all_cores(fill, pairwise(edges.tolist()), len(edges) - 1)
    return torch.from_numpy(out)


def _on_all_cores(work: Callable[[Any], None], items: Iterable[Any], number: int) -> None:
    """Does independent pieces of work, several at a time where there are several; torch and numpy let go of
    the interpreter's lock."""
    cores = min(available_cores(), 8, number)
    if cores < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(cores) as pool:
        for _ in pool.map(work, items):
            pass


def _new(name: str, rows: int, width: int, dtype: Any) -> np.ndarray:
    """New memory for a packed column; numpy asks for large pages for it, which saves most of the page faults
    of filling it once."""
    return np.empty((rows, width), dtype=dtype)


def _numpy(dtype: torch.dtype) -> type:
    return np.float64 if dtype == torch.float64 else np.float32


def _interleave(columns: Sequence[Tensor], out: np.ndarray) -> None:
    """Columns side by side: out[:, i] = columns[i]."""
    if len(columns) <= 4:  # by columns, which several passes over a wide row would make the slower way
        for i, column in enumerate(columns):
            out[:, i] = column.numpy()
        return
    out[:] = (
        torch.stack([c if c.dtype == columns[0].dtype else c.to(columns[0].dtype) for c in columns]).numpy().T
    )


def jet_matrix(chunk: Chunk, names: Sequence[str]) -> np.ndarray:
    """Jet columns side by side, [B, len(names)] float32; those in `jet_columns.DERIVED` follow from
    momenta where the file lacks them.

    Raises:
        LayoutError: a column that is not there; names the nearest.
    """
    out = np.empty((len(chunk), len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        if name in chunk.jets:
            out[:, i] = chunk.jets[name]
        elif name in DERIVED:
            out[:, i] = derived_array(name, chunk.jet_momenta(), chunk.counts)
        else:
            raise LayoutError(
                f"jet column '{name}' not found",
                where=chunk.file,
                mend=did_you_mean(name, [*chunk.jets, *DERIVED], noun="columns at hand"),
            )
    return out


def raw_columns(chunk: Chunk, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Raw constituent columns of a chunk as tensors [ΣN], those that follow from momenta among them."""
    counts = chunk.counts
    own = {n: torch.from_numpy(c).to(dtype) for n, c in chunk.constituents.items() if n not in MOMENTUM}
    computed = feature_table.columns_of_components(
        [torch.from_numpy(chunk.constituents[name]).to(dtype) for name in COMPONENTS],
        lambda c: torch.from_numpy(np.repeat(c.numpy(), counts)),
        torch.from_numpy(chunk.jet_momenta()).to(dtype),
    )
    return feature_table.with_own_columns(computed, own)


def from_awkward(jets: ak.Array, *, label: str = "label", weight: str = "weight") -> Chunk:
    """Awkward jets as a flat chunk.

    Raises:
        LayoutError: no `constituents`, or no momentum in them.
    """
    import awkward as ak
    import vector

    if "constituents" not in ak.fields(jets):
        raise LayoutError(
            "these jets have no field 'constituents'",
            mend=did_you_mean("constituents", ak.fields(jets), noun="fields"),
        )
    lists = ak.to_packed(ak.from_regular(jets["constituents"]))
    fields = ak.fields(lists)
    if not set(MOMENTUM) <= set(fields):
        vector.register_awkward()
        lists = ak.with_name(lists, "Momentum4D")
        try:
            four = {n: getattr(lists, n) for n in MOMENTUM}
        except AttributeError as problem:
            raise LayoutError(
                f"constituents have no four-momentum among {', '.join(fields)}",
                mend="give px, py, pz, energy or pt, eta, phi, mass",
            ) from problem
    else:
        four = {n: lists[n] for n in MOMENTUM}
    first = ak.to_packed(four["px"])
    offsets = np.asarray(ak.to_layout(first).offsets.data, dtype=np.int64)
    flat = {n: _floats(ak.flatten(a, axis=1)) for n, a in four.items()}
    flat |= {
        n: _floats(ak.flatten(lists[n], axis=1))
        for n in fields
        if n not in flat
        and n
        not in ("pt", "eta", "phi", "mass", "E", "e", "t", "x", "y", "z", "rho", "theta", "tau", "M", "m")
    }
    own = {
        n: found
        for n in ak.fields(jets)
        if n not in ("constituents", label, weight) and jets[n].ndim == 1 and not ak.fields(jets[n])
        if (found := _numbers(jets[n])).dtype.kind in "biuf"
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


def _further(lists: ak.Array) -> Chunk | None:
    """A further collection: a list of records with momenta for each jet; None where it is something else."""
    import awkward as ak

    if lists.ndim != 2 or not ak.fields(lists):
        return None
    try:
        return from_awkward(ak.zip({"constituents": lists}, depth_limit=1))
    except LayoutError:  # records without momenta are the user's own business
        return None


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
    import awkward as ak

    values = ak.to_numpy(array, allow_missing=False)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
