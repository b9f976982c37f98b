"""The reader's entry to event files: whether a file is one, which tree and jet collection are meant, and
its jets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepml.data.formats.event_scan import Census, Chosen, census, choose, find, recognises
from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.events import class_names, read_events
from hepml.data.formats.jet_view import column_names, event_branches
from hepml.data.formats.podio import podio_ids
from hepml.data.formats.resolve import available
from hepml.data.layouts.event_layout import EventLayout
from hepml.data.reading.assemble import Wanted
from hepml.data.reading.branches import kinds_of
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.columns import Column
from hepml.data.reading.layout import missing_branch
from hepml.data.reading.per_jet import number_type
from hepml.data.reading.report import DataReport
from hepml.data.reading.sources import Source, open_root, open_tree, trees_of
from hepml.errors import LayoutError

_USUAL = ("events", "delphes", "collectiontree", "eventdata")


@dataclass(frozen=True)
class EventFile:
    """One event file, scanned.

    Args:
        layout: as given, or an empty one for a file that was recognised.
        chosen: the jet collection.
        kinds: branches and sub-branches of the tree, with types.
        tree: the opened tree, kept where it is the only file.
    """

    layout: EventLayout
    chosen: Chosen
    kinds: dict[str, str]
    tree: Any = None

    @property
    def name(self) -> str:
        """Name of the layout that was recognised."""
        return self.chosen.jets.layout

    @property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.chosen.jets, self.layout)

    @property
    def columns(self) -> list[str]:
        """Names of all jet columns."""
        own = [n for n, c in self.layout.columns.items() if self.branch_of(c) is not None or c.branch is None]
        return list(dict.fromkeys([*column_names(self.chosen.jets, self.layout), *own]))

    @property
    def constituent_columns(self) -> list[str]:
        """Canonical constituent columns besides the momentum."""
        return list(dict.fromkeys(n for c in self.chosen.jets.sources for n in available(c)))

    @property
    def further_columns(self) -> list[str]:
        """Constituent columns that are read only when asked for by name."""
        return list(dict.fromkeys(n for c in self.chosen.jets.sources for n in c.further))

    @property
    def has_weights(self) -> bool:
        """Whether the layout names event weights that are there."""
        return self.layout.weight is not None and self.layout.weight in self._names

    @property
    def has_momenta(self) -> bool:
        """Whether jets have a four-momentum of their own."""
        return bool({"energy", "mass"} & self.chosen.jets.momentum.keys())

    def branch_of(self, column: Column) -> str | None:
        """The branch of a column of the layout, by its full or its short name; None where it is absent."""
        short = {s: b for b, s in self.chosen.jets.columns.items()}
        branch = column.branch or ""
        return branch if branch in self.kinds else short.get(branch)

    def type_of(self, name: str) -> np.dtype[Any] | None:
        """The type of a jet column that is read as the file has it; None where hepml makes it."""
        own = self.layout.columns.get(name)
        if own is not None:
            branch = self.branch_of(own) if own.is_plain else None
            return np.dtype(np.float32) if branch is None else _number_in(self.kinds[branch])
        branch = event_branches(self.chosen.jets, self.layout).get(name)
        branch = branch or (name if name in self.chosen.jets.columns else None)
        return _number_in(self.kinds[branch]) if branch in self.kinds else None

    def check(self, where: str) -> None:
        """Whether the columns of the layout are there.

        Raises:
            LayoutError: one that is not; names the nearest.
        """
        for column in self.layout.columns.values():
            if column.branch is not None and self.branch_of(column) is None:
                raise missing_branch(column.branch, self.kinds, where)

    def no_weight(self, where: str) -> LayoutError:
        """The error for event weights that the layout names and the file lacks."""
        return missing_branch(str(self.layout.weight), self._names, where)

    @property
    def _names(self) -> list[str]:
        """All names that a weight may have."""
        return list(dict.fromkeys([*self.columns, *self.kinds, *self.chosen.jets.columns.values()]))


def _number_in(kind: str) -> np.dtype[Any] | None:
    """The type of the numbers in a branch of one, or of a list of them."""
    inner = kind.replace("std::", "").removesuffix("[]")
    if inner.startswith("vector<"):
        inner = inner.removeprefix("vector<").removesuffix(">").strip()
    return number_type(inner)


def event_tree_of(directory: Any, source: Source) -> str | None:
    """The tree of events among several, or None: that with jets in it, `Events` before others."""
    names = sorted(
        trees_of(directory, str(source)), key=lambda name: name.rsplit("/", 1)[-1].lower() not in _USUAL
    )
    for name in names:
        try:
            if recognises(kinds_of(directory[name])):
                return name
        except Exception:  # a tree that cannot be opened is not the one
            continue
    return None


def scan_events(
    directory: Any,
    tree: Any,
    source: Source,
    name: str,
    layout: EventLayout | None,
    keep: bool,
    lenient: bool = False,
) -> EventFile | None:
    """What an event tree holds, or None where it is none and no event layout was asked for.

    Args:
        lenient: whether columns of the layout may be absent.

    Raises:
        LayoutError: no usable jet collection, or not the one that was asked for; a column of the layout that
            is not there.
    """
    kinds = kinds_of(tree)
    if layout is None and not recognises(kinds):
        return None
    where = f"{source}:{name}"
    events = EventTree(tree, where, None if source.is_remote else source.path, kinds)
    asked = layout or EventLayout(name="events", constituents=())
    ids = podio_ids(directory, str(source), name)
    collections = find(events, layout, ids)
    if layout is None and not collections:
        return None
    file = EventFile(asked, choose(events, collections, asked, ids), kinds, tree if keep else None)
    if not lenient:
        file.check(where)
    return file


def collections_of(directory: Any, source: Source, name: str | None, layout: object) -> tuple[Census, ...]:
    """What each jet collection of an event tree holds, counted over the whole file; none where it is no
    event tree."""
    asked = layout if isinstance(layout, EventLayout) else None
    if name is None or (layout is not None and asked is None):
        return ()
    name, tree = open_tree(directory, source, name)
    kinds = kinds_of(tree)
    if asked is None and not recognises(kinds):
        return ()
    events = EventTree(tree, f"{source}:{name}", None if source.is_remote else source.path, kinds)
    ids = podio_ids(directory, str(source), name)
    by_name = {jets.name: jets for jets in find(events, asked, ids)}
    if asked is not None and asked.link is not None:
        chosen = choose(events, list(by_name.values()), asked, ids).jets
        by_name[chosen.name] = chosen
    return tuple(census(events, jets) for jets in by_name.values())


def read_event_file(
    source: Source,
    name: str,
    file: EventFile,
    columns: Sequence[str] | None,
    jet_columns: Sequence[str],
    start: int,
    stop: int,
    step: int,
    report: DataReport | None,
    collections: Wanted = None,
    weights: bool = True,
) -> Iterator[Chunk]:
    """The jets of the events start:stop; see `hepml.data.formats.events.read_events`."""
    with nullcontext() if file.tree is not None else open_root(source) as directory:
        tree = file.tree if file.tree is not None else open_tree(directory, source, name)[1]
        events = EventTree(tree, f"{source}:{name}", None if source.is_remote else source.path, file.kinds)
        chosen, layout, weights = file.chosen, file.layout, weights and file.has_weights
        yield from read_events(
            events, chosen, layout, columns, jet_columns, start, stop, report, step, collections, weights
        )
