"""Files to jets: `read_jets` for all at once, `iterate_jets` and `iterate_chunks` in bounded memory, `scan`
before anything runs.

A jet that cannot be used is never dropped silently: what happens to it is the caller's stated policy, and it
is counted in a `DataReport`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import awkward as ak

from hepml.data.formats.event_files import EventFile, event_tree_of, read_event_file, scan_events
from hepml.data.formats.flat import FlatFile, open_flat
from hepml.data.layouts.event_layout import EventLayout, with_jets
from hepml.data.reading.assemble import assemble, branches_needed
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.classes import Classes, ClassMap, relabel
from hepml.data.reading.layouts import BUILT_IN, Layout, recognise
from hepml.data.reading.npz import read_npz, scan_npz
from hepml.data.reading.per_jet import number_type
from hepml.data.reading.reconcile import FilePlan, MissingColumns, common_columns, reconcile
from hepml.data.reading.report import DataReport
from hepml.data.reading.screen import BadJets, screen
from hepml.data.reading.selection import Selection
from hepml.data.reading.sources import Files, Source, expand, open_root, open_tree, refusing_damage, trees_of
from hepml.data.reading.tree_reader import TreeReader, branches_of
from hepml.errors import DataError, HepmlError, LayoutError, nearest

LayoutLike = Layout | str | Mapping[str, Any] | None
STEP = 20_000


@dataclass(frozen=True)
class FileScan:
    """What one file holds, found without reading its jets.

    Args:
        source: the file.
        tree: the tree that would be read.
        entries: its entries.
        branches: branch -> type.
        layout: the layout that fits, or None.
        classes: class names in the file's order.
        problem: why it cannot be read, or None.
        opened: the uproot tree, kept where there is only one file, so that it need not be opened again.
        events: the jet collection of an event file; `entries` are events then.
        flat: the reader of a file that is no tree (HDF5, EnergyFlow).
    """

    source: Source
    tree: str | None = None
    entries: int = 0
    branches: Mapping[str, str] = field(default_factory=dict)
    layout: Layout | None = None
    classes: tuple[str, ...] = ()
    problem: HepmlError | None = None
    opened: Any = field(default=None, compare=False, repr=False)
    events: EventFile | None = field(default=None, repr=False)
    flat: FlatFile | None = field(default=None, repr=False)

    @property
    def jet_columns(self) -> list[str]:
        """Names of the jet columns: one number a jet."""
        if self.events is not None:
            return self.events.columns
        if self.flat is not None:
            return self.flat.columns
        return [name for name, kind in self.branches.items() if _is_number(kind)]


@dataclass(frozen=True)
class Scan:
    """`scan`'s answer: one `FileScan` a file."""

    files: tuple[FileScan, ...]

    @property
    def entries(self) -> int:
        return sum(f.entries for f in self.files)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of all files: those of the layout in its order, then the others as they come."""
        found = dict.fromkeys(name for f in self.files for name in f.classes)
        known = [n for f in self.files if f.layout for n in (*f.layout.labels, *f.layout.classes)]
        return tuple(dict.fromkeys([n for n in known if n in found] + list(found)))

    @property
    def problems(self) -> list[HepmlError]:
        return [f.problem for f in self.files if f.problem is not None]

    def raise_first(self) -> Scan:
        """Itself, or the first problem as an error.

        Raises:
            HepmlError: a file that cannot be read as jets.
            DataError: no entry in any file.
        """
        for problem in self.problems:
            raise problem
        if not self.entries:
            raise DataError(
                "no jets: the tree has no entries"
                if len(self.files) == 1
                else f"no jets in any of {len(self.files)} files",
                where=str(self.files[0].source) + (f":{self.files[0].tree}" if self.files[0].tree else ""),
                mend="give a file with jets",
            )
        return self


def scan(
    files: Files | Sequence[Source],
    layout: LayoutLike = None,
    jets: str | None = None,
    directory: Any = None,
    missing_columns: MissingColumns | None = None,
) -> Scan:
    """What the files hold and what is wrong with them, from their headers alone. Raises only for paths that
    do not exist.

    Args:
        files: path, glob, folder, `file.root:tree`, npz, or a list of those.
        layout: name, mapping, YAML file or `Layout`; recognised from the branches where left out.
        jets: the jet collection of event files.
        directory: the only file, where it is open already; it is left open.
        missing_columns: `fill` and `drop` let a file lack columns of the layout that others have.
    """
    layout = with_jets(layout, jets)
    chosen = None if layout is None else Layout.parse(layout)
    sources = expand(files)
    lenient = len(sources) > 1 and missing_columns in ("fill", "drop")
    return Scan(
        tuple(_scan_file(source, chosen, len(sources) == 1, directory, lenient) for source in sources)
    )


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

    Returns:
        `constituents` with px, py, pz, energy (GeV) and raw columns under a `vector` momentum behaviour; jet
        columns under the file's names; `label` (index into `classes_of(jets)`, -1 for none) and `weight`
        where the file has them. `jets.attrs["report"]` says in words what was read and dropped.

    Example:
        >>> jets = hepml.read_jets("data/toptag/test.root", classes=["QCD", "Tbqq"], entry_stop=6)
        >>> jets.label.tolist()
        [1, 0, 1, 1, 1, 1]

    Raises:
        HepmlError: see `hepml.data.reading.sources`, `hepml.data.reading.layouts` and, for bad jets,
            `DataError` with file and entry.
    """
    report = DataReport()
    layout = with_jets(layout, jets)
    found = scan(files, layout, missing_columns=missing_columns)
    parts = list(
        iterate_chunks(
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
            step_size=200_000,
            scanned=found,
            missing_columns=missing_columns,
        )
    )
    _say_others(found)
    if classes is not None:
        to_classes = ClassMap(found, classes)
        parts = [to_classes.relabelled(chunk, report) for chunk in parts]
        if not any(len(chunk) for chunk in parts):
            raise DataError(f"no jets of these classes: {report}", where=str(files), mend="choose others")
    if len(parts) > 1:
        parts = common_columns(parts, report)
    momentum = any(c.has_hidden_momenta() for c in parts)
    pieces = [c.to_awkward(momentum) for c in parts]
    out = ak.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    out.attrs["classes"] = list(parts[0].classes)
    out.attrs["report"] = str(report)
    return out


def iterate_jets(
    files: Files | Sequence[Source], layout: LayoutLike = None, *, step_size: int = STEP, **selection: Any
) -> Iterator[ak.Array]:
    """`read_jets` in pieces of at most `step_size` entries, in bounded memory; arguments as there."""
    for chunk in iterate_chunks(files, layout, step_size=step_size, jet_columns="all", **selection):
        jets = chunk.to_awkward()
        jets.attrs["classes"] = list(chunk.classes)
        yield jets


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
    step_size: int = STEP,
    scanned: Scan | None = None,
    finite: Sequence[str] = (),
    weights: bool = True,
    missing_columns: MissingColumns | None = None,
    essential: Sequence[str] = (),
) -> Iterator[Chunk]:
    """Jets as flat chunks in bounded memory; the rest as in `read_jets`.

    Args:
        jet_columns: names of jet-level branches to read besides those that the layout and the selection need;
            "all" for every number.
        report: filled in while chunks are taken.
        step_size: entries a chunk.
        scanned: the answer of an earlier `scan` of the same files.
        finite: jet columns that are used as numbers: a jet is bad where one is NaN or infinite.
        weights: whether to read the layout's event weights.
        missing_columns: as in `read_jets`.
        essential: those of `finite` that nothing can stand in for where a file lacks them.
    """
    report = DataReport() if report is None else report
    found = (scanned or scan(files, layout, missing_columns=missing_columns)).raise_first()
    classes = found.classes
    chosen = Selection(selection) if selection else None
    first, before = entry_start or 0, 0
    last = found.entries if entry_stop is None else min(entry_stop, found.entries)
    if first < 0 or last <= first:
        raise DataError(
            f"no entries between {first} and {entry_stop}",
            where=f"{found.entries} entries",
            mend="widen the range",
        )
    plans = reconcile(
        found.files,
        [str(item.source) for item in found.files],
        columns,
        jet_columns or (),
        essential=[*essential, *(chosen.names if chosen else ())],
        features=finite,
        weights=weights,
        policy=missing_columns,
        report=report,
    )
    for item, plan in zip(found.files, plans, strict=True):
        low, high = max(first - before, 0), min(last - before, item.entries)
        first_event = before
        before += item.entries
        report.add_file(str(item.source), item.entries)
        if high <= low:
            continue
        for chunk in _chunks(item, plan, chosen, low, high, step_size, report):
            chunk = plan.complete(relabel(chunk, classes))
            if item.events is not None:
                chunk = replace(chunk, events=chunk.entries + first_event)
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
            yield chunk


def _say_others(found: Scan) -> None:
    """Warns of the jet collections that were not read, where none was asked for by name."""
    for item in found.files:
        if item.events is not None and item.events.chosen.others and not item.events.chosen.named:
            chosen = item.events.chosen
            warnings.warn(
                f"read jet collection '{chosen.jets.name}' of {item.source}; there are also "
                f"{', '.join(chosen.others)} (choose with jets=)",
                stacklevel=3,
            )
            return


def _chunks(
    item: FileScan,
    plan: FilePlan,
    selection: Selection | None,
    start: int,
    stop: int,
    step: int,
    report: DataReport,
) -> Iterator[Chunk]:
    columns, weights = plan.columns, plan.weights
    needed = [*plan.jet_columns, *(selection.names if selection else ())]
    if item.flat is not None:
        yield from item.flat.chunks(start, stop, step, columns, needed)
        return
    if item.source.is_npz:
        yield from read_npz(item.source, start, stop, step, selection_names=needed)
        return
    if item.events is not None:
        assert item.tree is not None
        source, file = item.source, item.events
        yield from read_event_file(source, item.tree, file, columns, needed, start, stop, step, report)
        return
    assert item.layout is not None
    where = f"{item.source}:{item.tree}"
    branches = branches_needed(item.layout, item.branches, columns, needed, where, weights)
    with nullcontext() if item.opened is not None else open_root(item.source) as directory:
        tree = item.opened if item.opened is not None else open_tree(directory, item.source, item.tree)[1]
        lists = [n for n in branches if not _is_number(item.branches[n])]
        with refusing_damage(where):
            reader = TreeReader(tree, where, None if item.source.is_remote else item.source.path)
            ranges = list(reader.steps(lists, start, stop, step))
        for low, high in ranges:
            with refusing_damage(where):
                flat = reader.read(branches, low, high)
            yield assemble(item.layout, flat, item.branches, columns, needed, low, where, weights)


def _scan_file(
    source: Source, layout: Layout | None, keep: bool, opened: Any = None, lenient: bool = False
) -> FileScan:
    directory: Any = opened
    keep = keep and opened is None
    name: str | None = None
    entries, branches = 0, {}
    try:
        flat = None if source.is_remote else open_flat(source.path)
        if flat is not None:
            if isinstance(layout, EventLayout):
                raise LayoutError(
                    f"a '{flat.name}' file has no jet collections to choose from",
                    where=str(source),
                    mend="leave out jets and layout",
                )
            return FileScan(source, None, flat.jets, flat.kinds, None, flat.classes, flat=flat)
        if source.is_npz:
            entries, classes, keys = scan_npz(source)
            return FileScan(source, None, entries, keys, None, classes)
        directory = open_root(source) if opened is None else opened
        with refusing_damage(str(source)):
            if source.tree is None and layout is None and len(trees_of(directory, str(source))) > 1:
                source = _tree_with_known_layout(directory, source)
            if isinstance(layout, EventLayout) and source.tree is None and layout.tree is None:
                source = Source(source.path, event_tree_of(directory, source))
            name, tree = open_tree(directory, source, layout.tree if layout else None)
            branches, entries = branches_of(tree), int(tree.num_entries)
            where = f"{source}:{name}"
            fits = layout or recognise(branches)
            if fits is None or isinstance(fits, EventLayout):
                found = scan_events(directory, tree, source, name, fits, keep)
                if found is not None:
                    return FileScan(
                        source, name, entries, found.kinds, found.layout, found.classes, events=found
                    )
    except HepmlError as problem:
        return FileScan(source, name, entries, branches, layout, problem=problem)
    finally:
        if directory is not None and opened is None and not keep:
            directory.close()
    if fits is None:
        return FileScan(source, name, entries, branches, problem=_not_recognised(branches, where))
    try:
        fits.check(branches, where, momenta_only=lenient)
    except HepmlError as problem:
        return FileScan(source, name, entries, branches, fits, problem=problem)
    return FileScan(
        source, name, entries, branches, fits, _classes_in(fits, branches), opened=tree if keep else None
    )


def _tree_with_known_layout(directory: Any, source: Source) -> Source:
    trees = trees_of(directory, str(source))
    events = event_tree_of(directory, source) if "Events" in trees else None
    if events is not None:
        return Source(source.path, events)
    for name in trees:
        if recognise(branches_of(directory[name])):
            return Source(source.path, name)
    return Source(source.path, event_tree_of(directory, source))


def _classes_in(layout: Layout, branches: Mapping[str, str]) -> tuple[str, ...]:
    one_hot = layout.label_branches(branches)
    if one_hot:
        return tuple(one_hot)
    return layout.classes if layout.label in branches else ()


def _not_recognised(branches: Mapping[str, str], where: str) -> LayoutError:
    best: tuple[str, str, str] | None = None
    for layout in BUILT_IN.values():
        needed = [c.branch for g in layout.constituents for n, c in g.columns.items() if n not in g.optional]
        absent = [b for b in needed if b not in branches]
        if len(absent) < len(needed) and absent[0] is not None:
            close = nearest(absent[0], branches)
            best = (layout.name, absent[0], f"; nearest: {', '.join(close)}" if close else "")
    what = "no layout recognised from the branches"
    if best:
        what = f"almost a '{best[0]}' layout, but branch '{best[1]}' not found{best[2]}"
    return LayoutError(what, where=where, mend="map the branches with data.layout (docs/data-layouts.md)")


def _is_number(kind: str) -> bool:
    return number_type(kind) is not None
