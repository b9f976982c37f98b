"""The reader's entry to event files: whether a file is one, which tree and jet collection are meant, and
its jets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from hepml.data.formats.event_scan import Census, Chosen, census, choose, find, podio_ids, recognises
from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.events import class_names, column_names, read_events
from hepml.data.layouts.event_layout import EventLayout
from hepml.data.reading.assemble import Wanted
from hepml.data.reading.branches import kinds_of
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.report import DataReport
from hepml.data.reading.sources import Source, open_root, open_tree, trees_of

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
        return column_names(self.chosen.jets, self.layout)


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
    directory: Any, tree: Any, source: Source, name: str, layout: EventLayout | None, keep: bool
) -> EventFile | None:
    """What an event tree holds, or None where it is none and no event layout was asked for.

    Raises:
        LayoutError: no usable jet collection, or not the one that was asked for.
    """
    kinds = kinds_of(tree)
    if layout is None and not recognises(kinds):
        return None
    where = f"{source}:{name}"
    events = EventTree(tree, where, None if source.is_remote else source.path, kinds)
    asked = layout or EventLayout(name="events", constituents=())
    collections = find(events, layout, podio_ids(directory))
    if layout is None and not collections:
        return None
    return EventFile(asked, choose(events, collections, asked), kinds, tree if keep else None)


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
    by_name = {jets.name: jets for jets in find(events, asked, podio_ids(directory))}
    if asked is not None and asked.link is not None:
        chosen = choose(events, list(by_name.values()), asked).jets
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
) -> Iterator[Chunk]:
    """The jets of the events start:stop; see `hepml.data.formats.events.read_events`."""
    with nullcontext() if file.tree is not None else open_root(source) as directory:
        tree = file.tree if file.tree is not None else open_tree(directory, source, name)[1]
        events = EventTree(tree, f"{source}:{name}", None if source.is_remote else source.path, file.kinds)
        yield from read_events(
            events, file.chosen, file.layout, columns, jet_columns, start, stop, report, step, collections
        )
