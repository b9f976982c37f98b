"""Files to jets: `read_jets` for all at once, `iterate_jets` and `iterate_chunks` in bounded memory, `scan`
before anything runs.

A jet that cannot be used is never dropped silently: what happens to it is the caller's stated policy, and it
is counted in a `DataReport`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np

import hepml.data.jet_array  # noqa: F401  # how awkward jets show themselves in a notebook
from hepml import progress
from hepml.data.formats.event_files import read_event_file
from hepml.data.layouts.event_layout import with_jets
from hepml.data.reading.assemble import Wanted, assemble, branches_needed
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.classes import Classes, ClassMap, relabel
from hepml.data.reading.event_numbers import identities
from hepml.data.reading.gathering import GatheredChunks
from hepml.data.reading.npz import read_npz
from hepml.data.reading.reconcile import FilePlan, MissingColumns, reconcile
from hepml.data.reading.report import DataReport
from hepml.data.reading.scanning import FileScan, LayoutLike, Scan, is_number, scan
from hepml.data.reading.screen import BadJets, screen
from hepml.data.reading.selection import Selection
from hepml.data.reading.sources import Files, Source, open_root, open_tree, refusing_damage
from hepml.data.reading.tree_reader import STEP, TreeReader
from hepml.errors import DataError, LayoutError

__all__ = [
    "STEP",
    "FileScan",
    "LayoutLike",
    "Scan",
    "classes_of",
    "iterate_chunks",
    "iterate_jets",
    "read_jets",
    "scan",
]
MANY = 2_000_000_000  # bytes of jets at once, from which on reading them in pieces is recommended


def read_jets(
    files: Files | Sequence[Source],
    layout: LayoutLike = None,
    jets: str | None = None,
    classes: Classes | None = None,
    *,
    columns: Sequence[str] | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    selection: str | None = None,
    max_constituents: int | None = None,
    bad: BadJets = "refuse",
    missing_columns: MissingColumns | None = None,
) -> ak.Array:
    """Jets as one awkward array, one entry a jet.

    Args:
        files: path, glob, folder, `file.root:tree`, npz, or a list of those.
        layout: name, mapping, YAML file or `Layout`; recognised from the branches where left out.
        jets: the jet collection of an event file (`FatJet`); without it the widest that has constituents, and
            a warning says which others there are.
        classes: label names in the order of a model's outputs, so that `label` counts them from 0; a mapping
            `{name: label or [labels]}` merges. Jets of other classes are left out and counted in the report.
            All that the files have where left out.
        columns: raw constituent columns besides the four-momentum (`hepml.data.features.RAW_COLUMNS`); all
            where left out.
        entry_start, entry_stop: range over all files behind each other.
        selection: expression on jet columns, `jet_pt > 500 & abs(jet_eta) < 2`.
        max_constituents: keep only the leading so many, by pT.
        bad: what to do with jets that have NaN, infinite or unphysical constituents: `refuse`, `drop` or
            `keep`.
        missing_columns: what to do with a column that some of the files lack: `refuse`, `fill` or `drop` (see
            `hepml.data.reading.reconcile`). Left out, it is dropped, but event weights are refused.

    All jets are in memory, once (3 to 4 kB a jet of 50 constituents with all columns); more than 2 GB of them
    are warned of. `iterate_jets` gives the same in pieces, in bounded memory.

    Returns:
        `constituents` with px, py, pz, energy (GeV) and raw columns under a `vector` momentum behaviour; jet
        columns under the file's names; `label` (index into `classes_of(jets)`, -1 for none) and `weight`
        where the file has them. `jets.attrs["report"]` says in words what was read and dropped.

    Examples:
        >>> jets = hepml.read_jets("data/toptag/test.root", classes=["QCD", "Tbqq"], entry_stop=6)
        >>> jets.label.tolist()
        [1, 0, 1, 1, 1, 1]

    Raises:
        HepmlError: see `hepml.data.reading.sources`, `hepml.data.reading.layouts` and, for bad jets,
            `DataError` with file and entry.
    """
    report = DataReport()
    layout = with_jets(layout, jets)
    scanned = scan(files, layout, missing_columns=missing_columns)
    _say_others(scanned)
    to_classes = None if classes is None else ClassMap(scanned, classes)
    first = entry_start or 0
    last = scanned.entries if entry_stop is None else min(entry_stop, scanned.entries)
    gathered, momentum, hinted = GatheredChunks(last - first), False, False
    for chunk in iterate_chunks(
        files,
        layout,
        columns=columns,
        jet_columns="all",
        entry_start=entry_start,
        entry_stop=entry_stop,
        selection=selection,
        max_constituents=max_constituents,
        bad=bad,
        report=report,
        step_size=None,
        scanned=scanned,
        missing_columns=missing_columns,
        collections="all",
    ):
        if to_classes is not None:
            chunk = to_classes.relabelled(chunk, report)
        momentum = momentum or chunk.has_hidden_momenta()
        gathered.add(chunk, chunk.reached - first)
        if not hinted and gathered.bytes_foretold > MANY:
            hinted = True
            warnings.warn(
                f"all these jets take about {gathered.bytes_foretold / 1e9:.1f} GB of memory; "
                "hepml.data.iterate_jets gives them piece by piece, entry_stop= and columns= read fewer",
                stacklevel=2,
            )
    if classes is not None and not gathered.jets:
        raise DataError(f"no jets of these classes: {report}", where=str(files), mend="choose others")
    whole = gathered.finish(report)
    # columns that say the momenta may have been left out, where files differ
    out = whole.to_awkward(momentum or (gathered.differ and whole.has_hidden_momenta()))
    out.attrs["classes"] = list(whole.classes)
    out.attrs["report"] = str(report)
    if whole.at_rest:
        out.attrs["at_rest"] = True
    return out


def iterate_jets(
    files: Files | Sequence[Source],
    layout: LayoutLike = None,
    jets: str | None = None,
    classes: Classes | None = None,
    *,
    step_size: int = STEP,
    **selection: Any,
) -> Iterator[ak.Array]:
    """`read_jets` in pieces of at most `step_size` entries, in bounded memory; arguments as there.

    Examples:
        >>> [len(jets) for jets in hepml.data.iterate_jets('data/toptag/val.root', step_size=600)]
        [600, 900]
    """
    selection.setdefault("collections", "all")
    report = selection.setdefault("report", DataReport())
    layout = with_jets(layout, jets)
    scanned = selection.pop("scanned", None) or scan(
        files, layout, missing_columns=selection.get("missing_columns")
    )
    _say_others(scanned)
    to_classes = None if classes is None else ClassMap(scanned, classes)
    for chunk in iterate_chunks(
        files, layout, step_size=step_size, jet_columns="all", scanned=scanned, **selection
    ):
        if to_classes is not None:
            chunk = to_classes.relabelled(chunk, report)
        piece = chunk.to_awkward()
        piece.attrs["classes"] = list(chunk.classes)
        if chunk.at_rest:
            piece.attrs["at_rest"] = True
        yield piece


def classes_of(jets: ak.Array) -> tuple[str, ...]:
    """Class names of jets that `read_jets` gave; empty where the file has none."""
    return tuple(jets.attrs.get("classes", ()))


def iterate_chunks(
    files: Files | Sequence[Source],
    layout: LayoutLike = None,
    *,
    columns: Sequence[str] | None = None,
    jet_columns: Sequence[str] | str | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    selection: str | None = None,
    max_constituents: int | None = None,
    bad: BadJets = "refuse",
    report: DataReport | None = None,
    step_size: int | None = STEP,
    scanned: Scan | None = None,
    finite: Sequence[str] = (),
    weights: bool = True,
    missing_columns: MissingColumns | None = None,
    essential: Sequence[str] = (),
    collections: Wanted = None,
) -> Iterator[Chunk]:
    """Jets as flat chunks in bounded memory; the rest as in `read_jets`.

    Args:
        jet_columns: names of jet-level branches to read besides those that the layout and the selection need;
            "all" for every number.
        report: filled in while chunks are taken.
        step_size: entries a chunk; None takes as many as are quickest to work on.
        scanned: the answer of an earlier `scan` of the same files.
        finite: jet columns that are used as numbers: a jet is bad where one is NaN or infinite.
        weights: whether to read the layout's event weights.
        missing_columns: as in `read_jets`.
        essential: those of `finite` that nothing can stand in for where a file lacks them.
        collections: further collections to read, with raw columns of each; "all" for all of the layout.
    """
    report = DataReport() if report is None else report
    scanned = (scanned or scan(files, layout, missing_columns=missing_columns)).raise_first()
    classes = scanned.classes
    chosen = Selection(selection) if selection else None
    selected = chosen.names if chosen else ()
    first, before, numbered = entry_start or 0, 0, scanned.is_numbered
    last = scanned.entries if entry_stop is None else min(entry_stop, scanned.entries)
    if first < 0 or last <= first:
        raise DataError(
            f"no entries between {first} and {entry_stop}",
            where=f"{scanned.entries} entries",
            mend="widen the range",
        )
    plans = reconcile(
        scanned.files,
        [str(item.source) for item in scanned.files],
        columns,
        jet_columns or (),
        essential=[*essential, *selected],
        features=finite,
        weights=weights,
        policy=missing_columns,
        report=report,
    )
    for item, plan in zip(scanned.files, plans, strict=True):
        low, high = max(first - before, 0), min(last - before, item.entries)
        first_event = before
        before += item.entries
        report.add_file(str(item.source), item.entries)
        if high <= low:
            continue
        for chunk in _chunks(item, plan, chosen, low, high, step_size, report, collections):
            reached = first_event + (int(chunk.entries[-1]) + 1 if len(chunk) else low)
            chunk = replace(plan.complete(relabel(chunk, classes)), reached=reached)
            if numbered:
                chunk = _with_events(chunk, item, first_event, [*plan.jet_columns, *selected])
            if item.events is not None:
                report.collection = item.events.chosen.jets.name
            report.read += len(chunk)
            chunk = screen(chunk, bad, report, finite)
            if chosen is not None:
                keep, undefined = chosen.decide(chunk.jets, where=chunk.file)
                report.undefined_in_selection += int(undefined.sum())
                report.removed_by_selection += int(len(keep) - keep.sum())
                chunk = chunk.take(keep)
            if max_constituents is not None:
                report.cut_to_leading += int((chunk.counts > max_constituents).sum())
                chunk = chunk.leading(max_constituents)
            report.without_constituents += int((chunk.counts == 0).sum())
            report.kept += len(chunk)
            progress.tell("entries read", min(reached, last), last)
            yield chunk
    progress.tell("entries read", last, last)


def _say_others(scanned: Scan) -> None:
    """Warns of the jet collections that were not read, where none was asked for by name."""
    for item in scanned.files:
        if item.events is not None and item.events.chosen.others and not item.events.chosen.named:
            chosen = item.events.chosen
            warnings.warn(
                f"read jet collection '{chosen.jets.name}' of {item.source}; there are also "
                f"{', '.join(chosen.others)} (choose with jets=)",
                stacklevel=3,
            )
            return


def _unbroken(chunks: Iterator[Chunk], where: str) -> Iterator[Chunk]:
    """The chunks; what a library raises on a damaged file while one is read is one line."""
    while True:
        with refusing_damage(where):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def _with_events(chunk: Chunk, item: FileScan, before: int, wanted: Sequence[str]) -> Chunk:
    """The chunk with the event of each jet, and the jet columns that are wanted for themselves. Without an
    event number an entry is an event of its own, counted over all files, of which `before` came earlier."""
    events, columns = chunk.events, item.event_columns
    if events is None:
        events = identities({n: chunk.jets[c] for n, c in columns.items() if c in chunk.jets}, len(chunk))
    elif item.events is None:  # a format that counts the events of each file
        events = events + before
    only_here = {*columns.values()} - {*wanted}
    return replace(
        chunk,
        events=np.where(events >= 0, events, chunk.entries + before),
        jets={name: column for name, column in chunk.jets.items() if name not in only_here},
    )


def _chunks(
    item: FileScan,
    plan: FilePlan,
    selection: Selection | None,
    start: int,
    stop: int,
    step: int | None,
    report: DataReport,
    collections: Wanted = None,
) -> Iterator[Chunk]:
    columns, weights = plan.columns, plan.weights
    if collections not in (None, "all") and collections and (item.flat is not None or item.source.is_npz):
        raise LayoutError(
            f"a file of this format has no collection '{next(iter(collections))}'",
            where=str(item.source),
            mend="train without model.collections",
        )
    needed = [*plan.jet_columns, *(selection.names if selection else ()), *item.event_columns.values()]
    if item.flat is not None:
        yield from _unbroken(item.flat.chunks(start, stop, step or STEP, columns, needed), str(item.source))
        return
    if item.source.is_npz:
        chunks = read_npz(item.source, start, stop, step or STEP, selection_names=needed)
        yield from _unbroken(chunks, str(item.source))
        return
    if item.events is not None:
        assert item.tree is not None
        source, file = item.source, item.events
        yield from read_event_file(
            source, item.tree, file, columns, needed, start, stop, step or STEP, report, collections, weights
        )
        return
    assert item.layout is not None
    where = f"{item.source}:{item.tree}"
    branches = branches_needed(item.layout, item.branches, columns, needed, where, weights, collections)
    definitions = item.layout.definitions
    stored = definitions.branches(branches)
    with nullcontext() if item.opened is not None else open_root(item.source) as directory:
        tree = item.opened if item.opened is not None else open_tree(directory, item.source, item.tree)[1]
        lists = [n for n in stored if not is_number(item.branches[n])]
        with refusing_damage(where):
            reader = TreeReader(tree, where, None if item.source.is_remote else item.source.path)
            ranges = list(reader.steps(lists, start, stop, step))
        for low, high in ranges:
            with refusing_damage(where):
                flat = reader.read(stored, low, high)
            if definitions:
                flat = definitions.complete(flat, branches, where)
            yield assemble(
                item.layout, flat, item.branches, columns, needed, low, where, weights, collections
            )
