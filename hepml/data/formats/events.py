"""Event files to jets: chunks of events, each jet with its constituents, its own columns and those of its
event.

Every jet knows where it comes from: `entry` of the event in its file, run, luminosity block and event where
the file has them, and `jet_index`, its place in the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hepml.data.collider import momentum_of
from hepml.data.formats.beside import beside
from hepml.data.formats.event_scan import STEP, Chosen, lost_links
from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.matching import matched, overlapping
from hepml.data.formats.resolve import columns_of, resolve
from hepml.data.layouts.collections import JetCollection
from hepml.data.layouts.event_layout import Beside, EventLayout
from hepml.data.reading.assemble import Wanted
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.layout import missing_branch
from hepml.data.reading.links import events_of, starts_of
from hepml.data.reading.report import DataReport
from hepml.data.reading.selection import Selection
from hepml.errors import LayoutError, did_you_mean

MOMENTUM = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_mass")
INDEX = "jet_index"


def column_names(jets: JetCollection, layout: EventLayout) -> list[str]:
    """Jet columns at hand: the event's, the jet's place and momentum, and the collection's own branches."""
    raw = ["jet_raw_pt", "jet_raw_mass"] if jets.raw else []
    return [*event_branches(jets, layout), INDEX, *MOMENTUM, *raw, *jets.columns]


def event_branches(jets: JetCollection, layout: EventLayout) -> dict[str, str]:
    """Event columns: name -> branch; the layout's own, or those that the format has by default."""
    return dict(layout.event or jets.event)


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
) -> Iterator[Chunk]:
    """The jets of the events start:stop as chunks.

    Args:
        columns: constituent columns besides the momentum; None for all canonical ones.
        jet_columns: jet columns wanted, under any of their names.
        report: counts of links and of jets that the layout left out are noted here.
        collections: further collections wanted, with columns of each.

    Raises:
        LayoutError: a column that is not there, or links into a collection that the file does not keep.
        DataError: branches of one collection that differ in length.
    """
    jets = chosen.jets
    tally = {"null": 0, "links": 0, "select": 0, "leading": 0, "overlap": 0, "rest": 0}
    first = next(c.branch for c in jets.momentum.values() if c.branch is not None)
    for low, high in tree.steps(first, start, stop, min(step, STEP)):
        yield _chunk(tree, jets, layout, columns, jet_columns, low, high, tally, collections)
    if report is not None:
        _note(report, chosen, layout, tally)


def _chunk(
    tree: EventTree,
    jets: JetCollection,
    layout: EventLayout,
    columns: Sequence[str] | None,
    jet_columns: Sequence[str],
    start: int,
    stop: int,
    tally: dict[str, int],
    collections: Wanted = None,
) -> Chunk:
    view = JetView(tree, jets, layout, start, stop)
    keep = np.ones(view.jets, dtype=bool)
    if layout.select:
        keep &= _evaluate(layout.select, view)
        tally["select"] += int((~keep).sum())
    for rule in layout.overlap:
        near = overlapping(tree, rule, view.offsets, view["jet_eta"], view["jet_phi"], start, stop)
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
    candidates = columns_of(tree, placed, columns, start, stop)
    index = links.index
    if not keep.all():
        index = index[np.repeat(keep, links.counts)]
    counts = links.counts[keep]
    labels = _labels(view, keep, jets, layout)
    weight = view[layout.weight][keep].astype(np.float32) if layout.weight else None
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


class JetView(Mapping[str, np.ndarray]):
    """The jet columns of some events, read when asked for: by the branch's name, by its short name, by the
    canonical `jet_pt` …, or an event column repeated for each jet."""

    def __init__(
        self, tree: EventTree, jets: JetCollection, layout: EventLayout, start: int, stop: int
    ) -> None:
        self.tree, self.collection, self.layout = tree, jets, layout
        self._range = (start, stop)
        self._read: dict[str, np.ndarray] = {}
        flat = tree.lists([c.branch for c in jets.momentum.values() if c.branch is not None], start, stop)
        first = next(iter(flat.values()))
        assert first.offsets is not None
        self.offsets = first.offsets
        self.events = events_of(self.offsets)
        self.jets = int(self.offsets[-1])
        own = {
            name: np.asarray(column(flat[column.branch].content), dtype=np.float64)
            for name, column in jets.momentum.items()
            if column.branch is not None
        }
        self._momentum(own)
        self._short = {short: branch for branch, short in jets.columns.items()}
        self._events = event_branches(jets, layout)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            self._read[name] = self._find(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*column_names(self.collection, self.layout), *self._short])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return (
            name in self._read
            or name in self._short
            or name in self.collection.columns
            or name in self._events
            or name in self.layout.columns
            or name in (INDEX, "jet_raw_pt", "jet_raw_mass")
            or self._is_event_number(str(name))
        )

    def _find(self, name: str) -> np.ndarray:
        own = self.layout.columns.get(name)
        if own is not None:
            return (
                np.full(self.jets, own.constant, dtype=np.float32)
                if own.branch is None
                else own(self._branch(own.branch))
            )
        if name == INDEX:
            out: np.ndarray = (np.arange(self.jets) - self.offsets[self.events]).astype(np.int32)
            return out
        if name in ("jet_raw_pt", "jet_raw_mass") and self.collection.raw:
            scale = 1 - self._branch(self.collection.raw)
            out = (self[name.replace("raw_", "")] * scale).astype(np.float32)
            return out
        if name in self._events:
            return self._event(self._events[name])
        if name in self.collection.columns:
            return self._branch(name)
        if name in self._short:
            return self._branch(self._short[name])
        if self._is_event_number(name):
            return self._event(name)
        raise missing_branch(name, [*self], self.tree.where)

    def _branch(self, name: str) -> np.ndarray:
        flat = self.tree.lists([name], *self._range)[name]
        if flat.offsets is None:
            out: np.ndarray = flat.content[self.events]
            return out
        if not np.array_equal(flat.offsets, self.offsets):
            raise missing_branch(name, self.collection.columns, self.tree.where)
        return flat.content

    def _event(self, branch: str) -> np.ndarray:
        if branch not in self.tree.kinds:
            raise missing_branch(branch, self.tree.kinds, self.tree.where)
        flat = self.tree.lists([branch], *self._range)[branch]
        if flat.offsets is None:
            out: np.ndarray = flat.content[self.events]
            return out
        # one header an event in a list of one; of several weights the first is the nominal one
        counts = np.diff(flat.offsets)
        first = np.zeros(len(counts), dtype=flat.content.dtype)
        first[counts > 0] = flat.content[flat.offsets[:-1][counts > 0]]
        out = first[self.events]
        return out

    def _is_event_number(self, name: str) -> bool:
        kind = self.tree.kinds.get(name)
        return kind is not None and "[" not in kind and "vector" not in kind and "<" not in kind

    def _momentum(self, own: dict[str, np.ndarray]) -> None:
        if {"px", "py", "pz"} <= own.keys():
            px, py, pz = own["px"], own["py"], own["pz"]
            pt = np.hypot(px, py)
            eta, phi = np.arcsinh(pz / np.maximum(pt, 1e-20)), np.arctan2(py, px)
        else:
            pt, eta, phi = own["pt"], own["eta"], own["phi"]
            px, py, pz = momentum_of(pt, eta, phi)
        columns = {"jet_pt": pt, "jet_eta": eta, "jet_phi": phi}
        self.momenta: np.ndarray | None = None
        if "energy" in own or "mass" in own:
            with np.errstate(over="ignore", invalid="ignore"):
                squared = px**2 + py**2 + pz**2
                energy = own["energy"] if "energy" in own else np.sqrt(squared + own["mass"] ** 2)
                mass = own["mass"] if "mass" in own else np.sqrt(np.maximum(energy**2 - squared, 0))
            columns |= {"jet_energy": energy, "jet_mass": mass}
            self.momenta = np.stack([energy, px, py, pz], axis=1)
        self._read |= {n: c.astype(np.float32) for n, c in columns.items()}
        if self.momenta is None:
            nothing = np.full(self.jets, np.nan, dtype=np.float32)
            self._read |= {"jet_energy": nothing, "jet_mass": nothing}


def _evaluate(expression: str, view: JetView) -> np.ndarray:
    if expression.isidentifier():  # a flag stands for itself
        return np.asarray(view[expression] != 0)
    chosen = Selection(expression)
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
    total = np.zeros(view.jets, dtype=np.int64)
    index = np.zeros(view.jets, dtype=np.int64)
    for i, name in enumerate(names):
        belongs = np.zeros(view.jets, dtype=bool)
        if name in cuts:
            belongs |= _evaluate(cuts[name], view)
        if name in layout.match:
            rule = layout.match[name]
            belongs |= matched(view.tree, rule, view.offsets, view["jet_eta"], view["jet_phi"], *view._range)
        total += belongs
        index += i * belongs
    index[total > 1] = -2
    index[total == 0] = -1
    out: np.ndarray | None = index[keep]
    return out


def _note(report: DataReport, chosen: Chosen, layout: EventLayout, tally: Mapping[str, int]) -> None:
    """What was left out, and which other collections there are, once a file."""
    jets = chosen.jets
    notes = []
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
