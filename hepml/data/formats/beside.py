"""Further collections of the jets of an event file, inputs of their own beside the constituents: secondary
vertices, lost tracks.

They hang on jets by a link, as constituents do, or by distance: every object within `dr` of a jet belongs to
it, also where it is near two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hepml.data.formats.event_scan import lost_links, with_targets
from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.matching import component, pairs_within
from hepml.data.formats.resolve import columns_of, resolve
from hepml.data.layouts import own
from hepml.data.layouts.collections import Candidates, JetCollection, ObjectLink
from hepml.data.layouts.event_layout import Beside, EventLayout, OwnLink
from hepml.data.reading.chunk import MOMENTUM
from hepml.data.reading.links import starts_of


def beside(
    tree: EventTree,
    jets: JetCollection,
    layout: EventLayout,
    asked: Beside,
    offsets: np.ndarray,
    place: tuple[np.ndarray, np.ndarray],
    columns: Sequence[str] | None,
    keep: np.ndarray,
    start: int,
    stop: int,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Offsets and columns of one collection for the jets that are kept, of the events start:stop.

    Args:
        jets: their collection.
        asked: what the layout says of the further one.
        offsets: [E + 1] of the jets.
        place: eta and phi of the jets, [J] each.
        columns: besides the momentum; None for all.
        keep: [J] which jets are wanted.

    Raises:
        LayoutError: a collection that is not there, or links into one that the file does not keep.
    """
    link = asked.link if asked.link is not None else OwnLink(asked.collection, "", columns=asked.columns)
    if asked.dr is None:
        linked = own.complete(jets, replace(layout, link=link, jet={}), tree.kinds, tree.where)
        if isinstance(linked.link, ObjectLink):
            linked = with_targets(tree, linked, linked.link.names)
        links, placed = resolve(tree, linked, offsets, start, stop)
        if links.lost:
            where = f"{tree.where}, entries {start} to {stop}"
            raise lost_links(linked, links.lost, links.total, links.towards, where)
        sources: Sequence[Candidates] = linked.sources
        index, counts = links.index, links.counts
    else:
        candidates = own.candidates_of(link, jets, tree.kinds, tree.where)
        branch = next(c.branch for c in candidates.columns.values() if c.branch is not None)
        at = tree.lists([branch], start, stop)[branch].offsets
        assert at is not None
        placed, sources = [(candidates, 0, at)], [candidates]
        momenta = columns_of(tree, sources, placed, [], start, stop)
        eta, phi = component(momenta, "eta"), component(momenta, "phi")
        jet, index = pairs_within(offsets, *place, at, eta, phi, asked.dr)
        counts = np.bincount(jet, minlength=len(keep))
    values = columns_of(tree, sources, placed, columns, start, stop)
    if not keep.all():
        index, counts = index[np.repeat(keep, counts)], counts[keep]
    ordered = {n: values[n][index] for n in (*MOMENTUM, *(n for n in values if n not in MOMENTUM))}
    return starts_of(counts), ordered
