"""From a file's flat branches and a layout to a `Chunk`: momenta, raw columns, jet columns, labels and
weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from hepml.data.collider import momentum_of
from hepml.data.jet_columns import DERIVED, derived_array, from_collider_columns, settle
from hepml.data.reading.chunk import MOMENTUM, Chunk
from hepml.data.reading.layouts import Collection, Column, Layout, missing_branch
from hepml.data.reading.links import starts_of
from hepml.data.reading.per_jet import a_list, class_indices, element, one_each, one_hot_labels
from hepml.data.reading.tree_reader import Flat
from hepml.errors import DataError, LayoutError, did_you_mean

_FORM_EXTRAS = ("energy", "mass")
# Further collections to read: name -> raw columns besides the momentum, all of every collection, or none.
Wanted = Mapping[str, Sequence[str]] | Literal["all"] | None
# Constituent columns that follow from the momenta, and are derived where a file lacks them.
DERIVABLE = ("px", "py", "pz", "energy", "pt", "delta_eta", "delta_phi", "jet_pt", "jet_energy")


def branches_needed(
    layout: Layout,
    branches: Mapping[str, str],
    columns: Sequence[str] | None,
    jet_columns: Sequence[str],
    where: str,
    weights: bool = True,
    collections: Wanted = None,
) -> list[str]:
    """Branches to read: momenta always, `columns` of the constituents (None: all), jet momenta, labels,
    `jet_columns`, the weight unless `weights` is false, and the columns of further `collections`.

    Raises:
        LayoutError: a column that was asked for and that the file lacks; names the nearest.
    """
    wanted: dict[str, None] = {}
    for group in layout.constituents:
        for name in _columns_of(group, columns, branches):
            branch = group.columns[name].branch
            if branch is not None:
                wanted[branch] = None
    for name in columns or ():
        if not any(_has(group, name, branches) for group in layout.constituents):
            _refuse_column(name, layout, branches, where)
    for group, names in _collections(layout, collections, where):
        for name in _columns_of(group, names, branches):
            branch = group.columns[name].branch
            if branch is not None:
                wanted[branch] = None
        for name in names or ():
            if name not in DERIVABLE and not _has(group, name, branches):
                column = group.columns.get(name)
                if column is not None and column.branch is not None:
                    raise missing_branch(column.branch, branches, where)
                raise LayoutError(
                    f"no column '{name}' in a collection of layout '{layout.name}'",
                    where=where,
                    mend=did_you_mean(name, group.columns, noun="columns of it"),
                )
    for column in (*layout.jet.values(), *layout.columns.values()):
        if column.branch in branches:
            wanted[str(column.branch)] = None
    one_hot = layout.label_branches(branches)
    weight = layout.weight if weights else None
    for branch in [*one_hot.values(), *([] if one_hot else [layout.label]), weight]:
        if branch in branches:
            wanted[str(branch)] = None
    for name in jet_columns:
        if name in branches:
            wanted[name] = None
        elif name not in layout.columns and name not in DERIVED:
            raise missing_branch(name, [*branches, *layout.columns, *DERIVED], where)
    return list(wanted)


def assemble(
    layout: Layout,
    flat: Mapping[str, Flat],
    branches: Mapping[str, str],
    columns: Sequence[str] | None,
    jet_columns: Sequence[str],
    start: int,
    where: str,
    weights: bool = True,
    collections: Wanted = None,
) -> Chunk:
    """The chunk of jets that begins at entry `start`.

    Args:
        flat: the branches that `branches_needed` named.
        weights: whether the layout's event weights are read.

    Raises:
        DataError: lists of one jet that differ in length; names file, entry and branches.
        LayoutError: a list where one number a jet belongs.
    """
    entries = next((len(f.content) if f.offsets is None else len(f.offsets) - 1) for f in flat.values())
    jet = {
        name: c
        for name, column in layout.jet.items()
        if (c := _jet_column(column, flat, entries, where)) is not None
    }
    groups = [_collection(group, flat, branches, columns, jet, start, where) for group in layout.constituents]
    offsets, constituents = groups[0] if len(groups) == 1 else _merge(groups)
    jets = {n: _one_each(n, flat, entries, where) for n in flat if n in jet_columns}
    for name, column in layout.columns.items():
        values = _jet_column(column, flat, entries, where)
        if values is not None:
            jets[name] = values
    momenta = from_collider_columns(jet)
    labels, classes = _labels(layout, flat, branches, entries, where)
    weight: np.ndarray | None = None
    if weights and layout.weight is not None and (layout.weight in jets or layout.weight in flat):
        weight = (
            jets[layout.weight] if layout.weight in jets else _weight(layout.weight, flat, entries, where)
        )
        weight = weight.astype(np.float32, copy=False)
    chunk = Chunk(
        offsets=offsets,
        constituents=constituents,
        jets=jets,
        momenta=momenta,
        labels=labels,
        classes=classes,
        weights=None if weight is None else weight.astype(np.float32, copy=False),
        entries=np.arange(start, start + entries, dtype=np.int64),
        file=where,
    )
    if momenta is not None:
        chunk = replace(chunk, momenta=settle(momenta, chunk.summed()))
    for name in jet_columns:
        if name not in jets and name in DERIVED:
            jets[name] = derived_array(name, chunk.jet_momenta(), chunk.counts)
    asked = zip(
        layout.collections if collections == "all" else collections or (),
        _collections(layout, collections, where),
        strict=True,
    )
    for name, (group, wanted) in asked:
        at, further = _collection(group, flat, branches, wanted, jet, start, where)
        chunk.collections[name] = Chunk(at, further, {}, chunk.entries, where)
    return chunk.by_pt() if len(groups) > 1 else chunk


def _collections(layout: Layout, wanted: Wanted, where: str) -> list[tuple[Collection, Sequence[str] | None]]:
    """The further collections that are asked for, with the columns of each (None: all)."""
    if wanted == "all":
        return [(group, None) for group in layout.collections.values()]
    out: list[tuple[Collection, Sequence[str] | None]] = []
    for name, columns in (wanted or {}).items():
        if name not in layout.collections:
            raise LayoutError(
                f"layout '{layout.name}' has no collection '{name}'",
                where=where,
                mend=did_you_mean(name, layout.collections, noun="collections of it"),
            )
        out.append((layout.collections[name], columns))
    return out


def _columns_of(group: Collection, columns: Sequence[str] | None, branches: Mapping[str, str]) -> list[str]:
    """Columns of this collection to read: what the momentum needs, and those asked for that the file has."""
    form = (*group.momentum_form, *(n for n in _FORM_EXTRAS if n in group.columns))
    names = [n for n in group.columns if n in form or columns is None or n in columns]
    return [n for n in names if _has(group, n, branches)]


def _has(group: Collection, name: str, branches: Mapping[str, str]) -> bool:
    column = group.columns.get(name)
    return column is not None and (column.branch is None or column.branch in branches)


def _refuse_column(name: str, layout: Layout, branches: Mapping[str, str], where: str) -> None:
    if name in DERIVABLE:
        return
    for group in layout.constituents:
        column = group.columns.get(name)
        if column is not None and column.branch is not None:
            error = missing_branch(column.branch, branches, where)
            raise LayoutError(f"column '{name}' needs {error.what}", where=where, mend=error.mend)
    known = dict.fromkeys(n for g in layout.constituents for n in g.columns)
    raise LayoutError(
        f"layout '{layout.name}' has no constituent column '{name}'",
        where=where,
        mend=did_you_mean(name, known, noun="columns at hand"),
    )


def _jet_column(column: Column, flat: Mapping[str, Flat], entries: int, where: str) -> np.ndarray | None:
    """One column of the layout's `jet` or `columns`, [B]; None where the file lacks its branch."""
    if column.branch is None:
        return np.full(entries, column.constant, dtype=np.float32)
    if column.branch not in flat:
        return None
    if column.element is None:
        return column(_one_each(column.branch, flat, entries, where))
    content, offsets = flat[column.branch]
    if offsets is None:
        raise LayoutError(
            f"branch '{column.branch}' has one number an entry",
            where=where,
            mend="leave out `element`, which takes one of a list",
        )
    return column(element(content, offsets, column.element))


def _one_each(
    name: str, flat: Mapping[str, Flat], entries: int, where: str, what: str = "branch"
) -> np.ndarray:
    """A branch of one number a jet, [B].

    Raises:
        LayoutError: it holds a list a jet.
    """
    content, offsets = flat[name]
    if offsets is not None:
        raise a_list(name, what, where)
    return one_each(content, entries, f"{what} '{name}'", where)


def _weight(name: str, flat: Mapping[str, Flat], entries: int, where: str) -> np.ndarray:
    if flat[name].offsets is not None:
        raise LayoutError(
            f"weight branch '{name}' is a list of numbers an entry, not one weight a jet",
            where=where,
            mend=f"take one of them, as layout.weight: {{branch: {name}, element: 0}}, or train without "
            "(data.weights: false)",
        )
    return _one_each(name, flat, entries, where, "weight branch")


def _collection(
    group: Collection,
    flat: Mapping[str, Flat],
    branches: Mapping[str, str],
    columns: Sequence[str] | None,
    jet: Mapping[str, np.ndarray],
    start: int,
    where: str,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Offsets and raw columns of one collection, in canonical momentum form."""
    names = _columns_of(group, columns, branches)
    offsets: np.ndarray | None = None
    out: dict[str, np.ndarray] = {}
    reference = ""
    for name in names:
        column = group.columns[name]
        if column.branch is None:
            continue
        values, at = flat[column.branch]
        if at is None:
            raise LayoutError(
                f"branch '{column.branch}' has one value an entry",
                where=where,
                mend="a constituent column needs one list an entry",
            )
        if offsets is None:
            offsets, reference = at, column.branch
        elif offsets is not at and not np.array_equal(offsets, at):
            bad = int(np.nonzero(np.diff(offsets) != np.diff(at))[0][0])
            raise DataError(
                f"branches '{reference}' and '{column.branch}' have {np.diff(offsets)[bad]} and "
                f"{np.diff(at)[bad]} constituents",
                where=f"{where}, entry {start + bad}",
                mend="the file is damaged, or these branches belong to different collections",
            )
        out[name] = column(values).astype(np.float32, copy=False)
    assert offsets is not None
    for name in names:
        column = group.columns[name]
        if column.branch is None:
            out[name] = np.full(int(offsets[-1]), column.constant, dtype=np.float32)
    return offsets, _canonical(group, out, np.diff(offsets), jet, columns, where)


def _canonical(
    group: Collection,
    out: dict[str, np.ndarray],
    counts: np.ndarray,
    jet: Mapping[str, np.ndarray],
    columns: Sequence[str] | None,
    where: str,
) -> dict[str, np.ndarray]:
    """The same columns with the four-momentum as px, py, pz, energy in front."""
    form = group.momentum_form
    if form != ("px", "py", "pz"):
        pt = out["pt"]
        if form[1] == "eta":
            eta, phi = out["eta"], out["phi"]
        else:
            if "eta" not in jet:
                raise LayoutError(
                    "constituents relative to the jet need the jet's eta",
                    where=where,
                    mend="add jet: {eta: BRANCH}",
                )
            eta = out["delta_eta"] + np.repeat(jet["eta"].astype(np.float32), counts)
            phi = out["delta_phi"]
            if "phi" in jet:
                phi = phi + np.repeat(jet["phi"].astype(np.float32), counts)
        out["px"], out["py"], out["pz"] = momentum_of(pt, eta, phi)
    if "energy" not in out:
        with np.errstate(all="ignore"):
            squared = out["px"] ** 2 + out["py"] ** 2 + out["pz"] ** 2
            energy = np.sqrt(squared + out["mass"] ** 2 if "mass" in out else squared)
        # without momentum there is no particle, but padding, whatever mass the layout gives it
        out["energy"] = np.where(squared == 0, np.float32(0), energy)
    extras = [n for n in out if n not in MOMENTUM and n not in ("pt", "eta", "phi", "mass")]
    return {n: out[n] for n in (*MOMENTUM, *extras) if n in MOMENTUM or columns is None or n in columns}


def _merge(
    groups: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Several collections as one list a jet; a column that one of them lacks is zero there, or left out where
    it follows from the momenta."""
    counts = np.sum([np.diff(offsets) for offsets, _ in groups], axis=0)
    offsets = starts_of(counts)
    jet_of = np.concatenate([np.repeat(np.arange(len(o) - 1), np.diff(o)) for o, _ in groups])
    order = np.argsort(jet_of, kind="stable")
    every = dict.fromkeys(n for _, columns in groups for n in columns)
    names = [n for n in every if n not in DERIVABLE or all(n in columns for _, columns in groups)]
    return offsets, {
        n: np.concatenate([c.get(n, np.zeros(int(o[-1]), dtype=np.float32)) for o, c in groups])[order]
        for n in names
    }


def _labels(
    layout: Layout, flat: Mapping[str, Flat], branches: Mapping[str, str], entries: int, where: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Class index of each jet, below zero where it has none (see `per_jet`), and the class names."""
    one_hot = layout.label_branches(branches)
    if one_hot:
        columns = [_one_each(b, flat, entries, where, "label branch") for b in one_hot.values()]
        return one_hot_labels(columns, entries), tuple(one_hot)
    if layout.label is not None and layout.label in branches:
        values = _one_each(layout.label, flat, entries, where, "label branch")
        return class_indices(values, len(layout.classes) or 2**62), layout.classes
    return None, ()
