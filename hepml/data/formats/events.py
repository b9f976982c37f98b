"""Event files to jets: chunks of events, each jet with its constituents, its own columns and those of its
event.

Every jet knows where it comes from: `entry` of the event in its file, run, luminosity block and event where
the file has them, and `jet_index`, its place in the event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from hepml.data.formats.beside import beside
from hepml.data.formats.event_scan import STEP, Chosen, lost_links
from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.jet_view import JetView
from hepml.data.formats.matching import matched, overlapping
from hepml.data.formats.resolve import columns_of, resolve
from hepml.data.layouts.collections import JetCollection, ObjectLink
from hepml.data.layouts.event_layout import Beside, EventLayout
from hepml.data.reading.assemble import Wanted
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.layout import missing_branch
from hepml.data.reading.links import starts_of
from hepml.data.reading.per_jet import one_hot_labels
from hepml.data.reading.report import DataReport
from hepml.data.reading.selection import Selection
from hepml.errors import LayoutError, did_you_mean


def class_names(jets: JetCollection, layout: EventLayout) -> tuple[str, ...]:
    """Classes by expression and by match, in the layout's order; the format's flavours where it says none."""
    own = (*layout.cuts, *(n for n in layout.match if n not in layout.cuts))
    return own or tuple(jets.labels)


def read_events(
    tree: EventTree,
    chosen: Chosen,
    layout: EventLayout,
    columns: Sequence[str] | None,
    jet_columns: Sequence[str],
    start: int,
    stop: int,
    report: DataReport | None = None,
    step: int = STEP,
    collections: Wanted = None,
    weights: bool = True,
) -> Iterator[Chunk]:
    """The jets of the events start:stop as chunks.

    Args:
        columns: constituent columns besides the momentum; None for all canonical ones.
        jet_columns: jet columns wanted, under any of their names.
        report: counts of links and of jets that the layout left out are noted here.
        collections: further collections wanted, with columns of each.
        weights: whether the layout's event weights are read.

    Raises:
        LayoutError: a column that is not there, or links into a collection that the file does not keep.
        DataError: branches of one collection that differ in length.
    """
    jets = chosen.jets
    tally = {"null": 0, "links": 0, "select": 0, "leading": 0, "overlap": 0, "rest": 0}
    notes: dict[str, None] = {}
    weight = layout.weight if weights else None
    first = next(c.branch for c in jets.momentum.values() if c.branch is not None)
    for low, high in tree.steps(first, start, stop, min(step, STEP)):
        view = JetView(tree, jets, layout, low, high)
        yield _chunk(view, columns, jet_columns, tally, collections, weight)
        notes |= view.notes
    if report is not None:
        _note(report, chosen, layout, tally, notes)


def _chunk(
    view: JetView,
    columns: Sequence[str] | None,
    jet_columns: Sequence[str],
    tally: dict[str, int],
    collections: Wanted,
    weight_name: str | None,
) -> Chunk:
    tree, jets, layout = view.tree, view.collection, view.layout
    start, stop = view.range
    keep = np.ones(view.jets, dtype=bool)
    if layout.select:
        keep &= _evaluate(layout.select, view)
        tally["select"] += int((~keep).sum())
    for rule in layout.overlap:
        near = overlapping(tree, jets, rule, view.offsets, view["jet_eta"], view["jet_phi"], start, stop)
        tally["overlap"] += int((near & keep).sum())
        keep &= ~near
    if layout.leading is not None:
        among = _leading(view, keep, layout.leading)
        tally["leading"] += int((keep & ~among).sum())
        keep = among
    assert jets.link is not None
    links, placed = resolve(tree, jets, view.offsets, start, stop)
    if links.lost:
        raise lost_links(
            jets, links.lost, links.total, links.towards, f"{tree.where}, entries {start} to {stop}"
        )
    tally["null"] += links.null
    tally["links"] += links.total
    candidates = columns_of(tree, jets.sources, placed, columns, start, stop)
    index = links.index
    if not keep.all():
        index = index[np.repeat(keep, links.counts)]
    counts = links.counts[keep]
    labels = _labels(view, keep, jets, layout)
    weight = view[weight_name][keep].astype(np.float32) if weight_name else None
    constituents = {name: values[index] for name, values in candidates.items()}
    still = (constituents["px"] == 0) & (constituents["py"] == 0) & (constituents["pz"] == 0)
    tally["rest"] += int(still.sum())
    chunk = Chunk(
        offsets=starts_of(counts),
        constituents=constituents,
        jets={name: view[name][keep] for name in dict.fromkeys(jet_columns)},
        momenta=None if view.momenta is None else view.momenta[keep].astype(np.float32),
        labels=labels,
        classes=class_names(jets, layout),
        weights=weight,
        entries=view.events[keep] + start,
        file=tree.where,
        events=view.identities()[keep],
        at_rest=True,
    )
    place = (view["jet_eta"], view["jet_phi"]) if layout.beside else (np.zeros(0), np.zeros(0))
    for name, asked, wanted in _wanted(layout, collections, tree.where):
        at, columns_beside = beside(tree, jets, layout, asked, view.offsets, place, wanted, keep, start, stop)
        chunk.collections[name] = Chunk(at, columns_beside, {}, chunk.entries, tree.where, at_rest=True)
    return chunk


def _wanted(
    layout: EventLayout, collections: Wanted, where: str
) -> list[tuple[str, Beside, Sequence[str] | None]]:
    """The further collections that are asked for."""
    if collections == "all":
        return [(name, asked, None) for name, asked in layout.beside.items()]
    for name in collections or {}:
        if name not in layout.beside:
            raise LayoutError(
                f"the layout has no collection '{name}'",
                where=where,
                mend=did_you_mean(name, layout.beside) if layout.beside else "name it in layout.collections",
            )
    return [(name, layout.beside[name], columns) for name, columns in (collections or {}).items()]


def _evaluate(expression: str, view: JetView) -> np.ndarray:
    if expression.isidentifier():  # a flag stands for itself
        flag = view[expression]
        return np.asarray((flag != 0) & (flag == flag))
    chosen = Selection(expression)
    for name in ("jet_mass", "jet_energy"):
        if name in chosen.names and view.momenta is None:
            raise missing_branch(name, [n for n in view if n != name], view.tree.where)
    columns = {name: view[name] for name in chosen.names}
    kept = np.asarray(chosen(columns, where=view.tree.where), dtype=bool)
    return np.broadcast_to(kept, (view.jets,)).copy()


def _leading(view: JetView, keep: np.ndarray, most: int) -> np.ndarray:
    """The `most` hardest of the kept jets of each event."""
    rows = np.nonzero(keep)[0]
    order = rows[np.lexsort((-view["jet_pt"][rows], view.events[rows]))]
    event = view.events[order]
    first = np.searchsorted(event, event, side="left")
    out = np.zeros_like(keep)
    out[order[np.arange(len(order)) - first < most]] = True
    return out


def _labels(view: JetView, keep: np.ndarray, jets: JetCollection, layout: EventLayout) -> np.ndarray | None:
    """Class of each kept jet; -1 none, -2 several."""
    names = class_names(jets, layout)
    if not names:
        return None
    cuts = layout.cuts if layout.cuts or layout.match else jets.labels
    columns = []
    for name in names:
        cut, rule = cuts.get(name), layout.match.get(name)
        flag = None if cut is None else view[cut] if cut.isidentifier() else _evaluate(cut, view)
        if rule is not None:
            place = (view["jet_eta"], view["jet_phi"])
            near = matched(view.tree, jets, rule, view.offsets, *place, *view.range)
            flag = near if flag is None else np.where(near, 1, flag)
        assert flag is not None
        columns.append(flag)
    out: np.ndarray = one_hot_labels(columns, view.jets)[keep]
    return out


def _note(
    report: DataReport,
    chosen: Chosen,
    layout: EventLayout,
    tally: Mapping[str, int],
    further: Iterable[str],
) -> None:
    """What was left out, and which other collections there are, once a file."""
    jets = chosen.jets
    notes = list(further)
    if chosen.left_out:
        notes.append(f"left out: {', '.join(chosen.left_out)} (not one number a jet of '{jets.name}')")
    if isinstance(jets.link, ObjectLink) and not jets.link.names and layout.link is None:
        into = ", ".join(dict.fromkeys(jets.link.containers.values()))
        notes.append(f"no table of collection ids: links of '{jets.name}' are taken to lead into '{into}'")
    if chosen.others and not chosen.named:
        notes.append(f"jets are '{jets.name}'; further collections with links: {', '.join(chosen.others)}")
    if tally["null"]:
        notes.append(f"{tally['null']:,} of {tally['links']:,} links of '{jets.name}' are null")
    for key, words in (
        ("select", f"jets removed by jets.select '{layout.select}'"),
        ("overlap", "jets removed for overlap"),
        ("rest", "constituents without momentum (kept)"),
        ("leading", f"jets beyond the leading {layout.leading} of their event left out"),
    ):
        if tally[key]:
            notes.append(f"{tally[key]:,} {words}")
    report.notes += [note for note in notes if note not in report.notes]
