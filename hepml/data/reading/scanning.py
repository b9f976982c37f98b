"""What files hold, found from their headers before any jet is read: tree, layout, classes, problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hepml.data.formats.event_files import EventFile, event_tree_of, scan_events
from hepml.data.formats.flat import FlatFile
from hepml.data.formats.opening import open_flat
from hepml.data.layouts.event_layout import EventLayout, with_jets
from hepml.data.reading.event_numbers import usual_branches
from hepml.data.reading.layouts import BUILT_IN, Layout, recognise
from hepml.data.reading.npz import scan_npz
from hepml.data.reading.one_jet import refuse_events
from hepml.data.reading.per_jet import number_type
from hepml.data.reading.reconcile import MissingColumns
from hepml.data.reading.sources import Files, Source, expand, open_root, open_tree, refusing_damage, trees_of
from hepml.data.reading.tree_reader import branches_of
from hepml.errors import DataError, HepmlError, LayoutError, nearest

LayoutLike = Layout | str | Mapping[str, Any] | None


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
        return [name for name, kind in self.branches.items() if is_number(kind)]

    @cached_property
    def event_columns(self) -> dict[str, str]:
        """Run, luminosity block and event number among the jet columns, where an entry is a jet."""
        if self.events is not None:
            return {}
        if self.layout is not None and self.layout.event is not None:
            return dict(self.layout.event)
        found = usual_branches(self.jet_columns)
        return found if "event" in found else {}


@dataclass(frozen=True)
class Scan:
    """`scan`'s answer: one `FileScan` a file."""

    files: tuple[FileScan, ...]

    @property
    def entries(self) -> int:
        return sum(f.entries for f in self.files)

    @property
    def is_numbered(self) -> bool:
        """Whether any of the files says which event a jet belongs to."""
        return any(f.events is not None or f.event_columns for f in self.files)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of all files: those of the layout in its order, then the others as they come."""
        names = dict.fromkeys(name for f in self.files for name in f.classes)
        known = [n for f in self.files if f.layout for n in (*f.layout.labels, *f.layout.classes)]
        return tuple(dict.fromkeys([n for n in known if n in names] + list(names)))

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
    found = [_scan_file(source, chosen, len(sources) == 1, directory, lenient) for source in sources]
    return Scan(tuple(_with_a_weight(_of_one_collection(found, sources, layout, lenient))))


def _with_a_weight(files: list[FileScan]) -> list[FileScan]:
    """The same files; the first has a problem where the layout names event weights that none has."""
    weighted = [f for f in files if f.events and f.entries and f.events.layout.weight is not None]
    if not weighted or any(f.events and f.events.has_weights for f in weighted):
        return files
    first = weighted[0]
    assert first.events is not None
    problem = first.problem or first.events.no_weight(f"{first.source}:{first.tree}")
    return [replace(f, problem=problem) if f is first else f for f in files]


def _of_one_collection(
    files: list[FileScan], sources: Sequence[Source], layout: LayoutLike, lenient: bool
) -> list[FileScan]:
    """The same files, all read from one jet collection. Where none was named, and some files would give
    another than the rest (a file of few events may have no AK8 jet at all), it is the widest that all
    have."""
    own = {f.events.chosen.jets.name: f.events.chosen.jets for f in files if f.events and f.entries}
    if len(own) < 2:
        return files
    order = sorted(own.values(), key=lambda jets: (jets.truth, -(jets.radius or 0.0)))
    common = next((j.name for j in order if all(_has(f, j.name) for f in files)), None)
    if common is None:
        each = {
            name: next(str(f.source) for f in files if f.events and f.events.chosen.jets.name == name)
            for name in own
        }
        problem = LayoutError(
            f"the files have different jet collections: {', '.join(f'{n} in {s}' for n, s in each.items())}",
            mend="leave out the files that have others, or write the rest with the same",
        )
        return [replace(files[0], problem=problem), *files[1:]]
    again = Layout.parse(with_jets(layout, common))
    return [
        f
        if f.events is None or f.events.chosen.jets.name == common
        else _unnamed(_scan_file(source, again, False, None, lenient))
        for f, source in zip(files, sources, strict=True)
    ]


def _has(file: FileScan, collection: str) -> bool:
    """Whether a file of events has this jet collection with a link; an empty one, or one that is none, has
    any."""
    if file.events is None or not file.entries:
        return True
    return collection in (file.events.chosen.jets.name, *file.events.chosen.others)


def _unnamed(file: FileScan) -> FileScan:
    """The same, as nobody asked for its collection by name."""
    if file.events is None:
        return file
    chosen = replace(file.events.chosen, named=False)
    return replace(file, events=replace(file.events, chosen=chosen))


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
                source = replace(source, tree=event_tree_of(directory, source))
            name, tree = open_tree(directory, source, layout.tree if layout else None)
            branches, entries = branches_of(tree), int(tree.num_entries)
            where = f"{source}:{name}"
            fits = layout or recognise(branches)
            if fits is None or isinstance(fits, EventLayout):
                events = scan_events(directory, tree, source, name, fits, keep, lenient)
                if events is not None:
                    return FileScan(
                        source, name, entries, events.kinds, events.layout, events.classes, events=events
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
        branches = fits.definitions.kinds(branches)
        if layout is not None and layout.name not in BUILT_IN:
            refuse_events(layout, branches, where)
    except HepmlError as problem:
        return FileScan(source, name, entries, branches, fits, problem=problem)
    return FileScan(
        source, name, entries, branches, fits, _classes_in(fits, branches), opened=tree if keep else None
    )


def _tree_with_known_layout(directory: Any, source: Source) -> Source:
    trees = trees_of(directory, str(source))
    events = event_tree_of(directory, source) if "Events" in trees else None
    if events is not None:
        return replace(source, tree=events)
    for name in trees:
        if recognise(branches_of(directory[name])):
            return replace(source, tree=name)
    return replace(source, tree=event_tree_of(directory, source))


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


def is_number(kind: str) -> bool:
    return number_type(kind) is not None
