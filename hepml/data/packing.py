"""From jets to packed jets: four-momenta and standardised features, packed without a loop over jets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hepml.data import features as feature_table
from hepml.data.arrays import check_numbers, check_physical
from hepml.data.awkward_chunk import from_awkward
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED, derived_array
from hepml.data.packed_jets import PackedJets
from hepml.data.reading.chunk import BLOCK, MOMENTUM, Chunk
from hepml.data.reading.cores import on_all_cores
from hepml.data.reading.report import DataReport
from hepml.data.reading.screen import BadJets, screen
from hepml.data.reserved import Room
from hepml.errors import LayoutError, did_you_mean

if TYPE_CHECKING:
    import awkward as ak

COMPONENTS = ("energy", "px", "py", "pz")  # of a four-momentum, in their order

Jets = TypeVar("Jets", bound=PackedJets)

# Further collections, by name with the features of each.
Collections = Sequence[tuple[str, Sequence[str]]]


def pack(
    kind: type[Jets],
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
) -> Jets:
    """A batch from awkward jets.

    Args:
        kind: `JetBatch`.
        jets: one entry a jet, with `constituents` (any `vector` momentum: px, py, pz, energy, or pt, eta,
            phi, mass) and raw columns.
        features: constituent features to compute, by name or set; without any, the raw columns travel along
            and features are computed on demand.
        jet_features: jet-level columns to carry along. Left out, all but labels, those that follow from
            momenta, and those that are not finite in every jet, of which a warning tells.
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
        reasons = "; ".join(f"{reason}: {count}" for reason, count in report.bad.items())
        warnings.warn(f"{report.dropped_bad} jets dropped: {reasons}", stacklevel=3)
    if max_constituents is not None:
        chunk = chunk.leading(max_constituents)
    if jet_features is None:
        labels = {*chunk.classes, *(f"label_{name}" for name in chunk.classes)}
        jet_features = _finite(chunk, [n for n in chunk.jets if n not in (*labels, *DERIVED, "index")])
    batch = batch_of(
        kind,
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


def _finite(chunk: Chunk, names: Sequence[str]) -> list[str]:
    """Of jet columns that nobody asked for, those that a batch can carry; the others are told."""
    lacking = {n: int((~np.isfinite(chunk.jets[n])).sum()) for n in names}
    left_out = [f"{n} ({jets} jets)" for n, jets in lacking.items() if jets]
    if left_out:
        more = f" and {len(left_out) - 6} more" if len(left_out) > 6 else ""
        warnings.warn(
            "jet columns left out, being NaN, infinite or absent in some jets: "
            f"{', '.join(left_out[:6])}{more}",
            stacklevel=4,
        )
    return [n for n in names if not lacking[n]]


def batch_of(
    kind: type[Jets],
    chunk: Chunk,
    features: str | Sequence[str] = (),
    jet_features: Sequence[str] = (),
    *,
    labels: Any = None,
    weights: Any = None,
    dtype: torch.dtype = torch.float32,
    room: Room | None = None,
    collections: Collections = (),
    targets: Sequence[str] = (),
) -> Jets:
    """The jets of a chunk as a batch, whichever way they came: the one place where this is done.

    Args:
        kind: `JetBatch`.
        chunk: jets.
        features: constituent features to compute, by name or set.
        jet_features: jet-level columns to carry along.
        labels, weights: [B], or None.
        dtype: floating dtype of the batch.
        room: gives the memory for `four_momenta` and `features`; new memory where left out.
        collections: further collections, with the features of each.
        targets: those of `jet_features` that a jet may lack (NaN).

    Raises:
        LayoutError: a column that is not there.
        DataError: NaN or infinite momenta; names jet and constituent.
    """
    names = feature_table.resolve(features) if features else ()
    of_jets = jet_matrix(chunk, jet_features) if jet_features else None
    complete = of_jets
    if of_jets is not None and targets:
        complete = np.where(np.isin(jet_features, targets)[None, :], np.float32(0.0), of_jets)
    batch = kind.from_arrays(
        four_momenta_of(chunk, dtype, room),
        chunk.offsets,
        features_of(chunk, names, dtype, room) if names else None,
        labels,
        feature_names=names,
        jet_features=complete,
        jet_feature_names=tuple(jet_features),
        weights=weights,
        index=chunk.entries,
        dtype=dtype,
    )
    if of_jets is not None and targets:
        batch = replace(batch, jet_features=torch.from_numpy(of_jets).to(dtype))
    momenta = chunk.momenta
    if momenta is not None:
        batch = replace(batch, jet_momenta=torch.from_numpy(momenta).to(dtype))
    if not collections:
        return batch
    return replace(batch, collections={n: _beside(kind, chunk, n, names, dtype) for n, names in collections})


def _beside(kind: type[Jets], chunk: Chunk, name: str, features: Sequence[str], dtype: torch.dtype) -> Jets:
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
    packed = batch_of(kind, inner, features, dtype=dtype)
    if features:
        return packed
    raw = {n: torch.from_numpy(c).to(dtype) for n, c in inner.constituents.items() if n not in MOMENTUM}
    return replace(packed, raw=raw)


def prepare(batch: Jets, inputs: Inputs) -> Jets:
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
    on_all_cores(fill, starts, len(starts))
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

    on_all_cores(fill, pairwise(edges.tolist()), len(edges) - 1)
    return torch.from_numpy(out)


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
