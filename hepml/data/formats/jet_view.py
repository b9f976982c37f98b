"""The jet columns of some events of an event file, by any of the names that a layout may call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hepml.data.collider import momentum_of
from hepml.data.formats.event_tree import EventTree
from hepml.data.layouts.collections import JetCollection
from hepml.data.layouts.event_layout import EventLayout
from hepml.data.reading.columns import Column
from hepml.data.reading.event_numbers import identities, numbers_of
from hepml.data.reading.layout import missing_branch
from hepml.data.reading.links import events_of, starts_of
from hepml.data.reading.per_jet import a_list, element
from hepml.errors import DataError, LayoutError

MOMENTUM = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_mass")
RAW = ("jet_raw_pt", "jet_raw_mass")
INDEX = "jet_index"
_FORMS = ({"pt", "eta", "phi"}, {"px", "py", "pz"})


def column_names(jets: JetCollection, layout: EventLayout) -> list[str]:
    """Jet columns at hand: the event's, the jet's place and momentum, and the collection's own branches."""
    return [*event_branches(jets, layout), INDEX, *MOMENTUM, *(RAW if jets.raw else ()), *jets.columns]


def event_branches(jets: JetCollection, layout: EventLayout) -> dict[str, str]:
    """Event columns: name -> branch; the layout's own, or those that the format has by default."""
    return dict(layout.event or jets.event)


class JetView(Mapping[str, np.ndarray]):
    """The jet columns of some events, read when asked for: by the branch's name, by its short name, by the
    canonical `jet_pt` …, or an event column repeated for each jet.

    Full names stand for what the file has. The short names `pt`, `eta`, `phi`, `mass` and `energy`, and
    others of the same branches (`m`), are in GeV, as `jet_pt` and the like.

    Raises:
        LayoutError: branches of the momentum that are no lists of one number a jet.
    """

    def __init__(
        self, tree: EventTree, jets: JetCollection, layout: EventLayout, start: int, stop: int
    ) -> None:
        self.tree, self.collection, self.layout = tree, jets, layout
        self.range = (start, stop)
        self.notes: dict[str, None] = {}  # sentences for the report
        self._read: dict[str, np.ndarray] = {}
        first = next(c.branch for c in jets.momentum.values() if c.branch is not None)
        offsets = tree.lists([first], start, stop)[first].offsets
        if offsets is None:
            raise LayoutError(
                f"branch '{first}' has one number an event, and so is no jet collection", where=tree.where
            )
        self.offsets = offsets
        self.events = events_of(self.offsets)
        self.jets = int(self.offsets[-1])
        self._short = {short: branch for branch, short in jets.columns.items()}
        self._events = event_branches(jets, layout)
        self._momentum({n: self._column(c).astype(np.float64) for n, c in jets.momentum.items()})

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
            or name in (INDEX, *RAW)
            or f"jet_{name}" in MOMENTUM
            or self._is_event_number(str(name))
        )

    def identities(self) -> np.ndarray:
        """The event of each jet, [J] int64; see `hepml.data.reading.event_numbers`."""
        names = numbers_of({**self.collection.event, **self.layout.event})
        at_hand = {part: name for part, name in names.items() if name in self.tree.kinds}
        return identities({part: self._event(name) for part, name in at_hand.items()}, self.jets)

    def _find(self, name: str) -> np.ndarray:
        own = self.layout.columns.get(name)
        if own is not None:
            return self._column(own)
        if name == INDEX:
            out: np.ndarray = (np.arange(self.jets) - self.offsets[self.events]).astype(np.int32)
            return out
        if name in RAW and self.collection.raw:
            scale = 1 - self._branch(self.collection.raw)
            out = (self[name.replace("raw_", "")] * scale).astype(np.float32)
            return out
        if name in self._events:
            return self._event(self._events[name])
        if name in self.collection.columns:
            return self._branch(name)
        momenta = self.collection.momentum
        if f"jet_{name}" in MOMENTUM and (name in momenta or name not in self._short):
            if name in ("mass", "energy") and self.momenta is None:
                raise missing_branch(name, [*self], self.tree.where)
            return self[f"jet_{name}"]
        if name in self._short:
            branch = self._short[name]
            unit = next((c for c in momenta.values() if c.branch == branch), Column(branch))
            return unit(self._branch(branch))
        if self._is_event_number(name):
            return self._event(name)
        if name in self.tree.kinds:
            return self._branch(name)
        raise missing_branch(name, [*self], self.tree.where)

    def _column(self, column: Column) -> np.ndarray:
        """A column of the layout, [J]."""
        if column.branch is None:
            return np.full(self.jets, column.constant, dtype=np.float32)
        name = column.branch if column.branch in self.tree.kinds else self._short.get(column.branch)
        if name is None:
            raise missing_branch(column.branch, [*self, *self.tree.kinds], self.tree.where)
        return column(self._branch(name) if column.element is None else self._element(name, column.element))

    def _branch(self, name: str) -> np.ndarray:
        if name not in self.tree.kinds:
            raise missing_branch(name, self.tree.kinds, self.tree.where)
        if _depth(self.tree.kinds[name]) > 1:
            raise a_list(name, "branch", self.tree.where)
        flat = self.tree.lists([name], *self.range)[name]
        if flat.offsets is None:
            out: np.ndarray = flat.content[self.events]
            return out
        self._check_lengths(name, flat.offsets)
        return flat.content

    def _element(self, name: str, index: int) -> np.ndarray:
        """One element of a list that each jet has, or of one that each event has."""
        if _depth(self.tree.kinds[name]) > 1:
            nested = self.tree.nested(name, *self.range)
            self._check_lengths(name, nested.objects)
            return element(np.asarray(nested.content), starts_of(nested.counts), index)
        flat = self.tree.lists([name], *self.range)[name]
        if flat.offsets is None:
            raise LayoutError(
                f"branch '{name}' has one number an event",
                where=self.tree.where,
                mend="leave out `element`, which takes one of a list",
            )
        out: np.ndarray = element(flat.content, flat.offsets, index)[self.events]
        return out

    def _check_lengths(self, name: str, offsets: np.ndarray) -> None:
        if np.array_equal(offsets, self.offsets):
            return
        counts, jets = np.diff(offsets), np.diff(self.offsets)
        bad = int(np.nonzero(counts != jets)[0][0])
        raise DataError(
            f"'{name}' has {counts[bad]} numbers for {jets[bad]} jets of '{self.collection.name}'",
            where=f"{self.tree.where}, entry {self.range[0] + bad}",
            mend="name a branch with one number a jet, or one of a list an event, as layout.columns: "
            f"{{NAME: {{branch: {name}, element: 0}}}}",
        )

    def _event(self, branch: str) -> np.ndarray:
        if branch not in self.tree.kinds:
            raise missing_branch(branch, self.tree.kinds, self.tree.where)
        flat = self.tree.lists([branch], *self.range)[branch]
        if flat.offsets is None:
            out: np.ndarray = flat.content[self.events]
            return out
        # one header an event in a list of one; of several weights the first is the nominal one
        counts = np.diff(flat.offsets)
        nothing = np.nan if flat.content.dtype.kind == "f" else 0
        first = np.full(len(counts), nothing, dtype=flat.content.dtype)
        first[counts > 0] = flat.content[flat.offsets[:-1][counts > 0]]
        if (counts > 1).any():
            self.notes[f"'{branch}' has several numbers an event, of which the first is taken"] = None
        if (counts == 0).any():
            self.notes[f"'{branch}' is empty in some events, which have {nothing} there"] = None
        out = first[self.events]
        return out

    def _is_event_number(self, name: str) -> bool:
        kind = self.tree.kinds.get(name)
        return kind is not None and "[" not in kind and "vector" not in kind and "<" not in kind

    def _momentum(self, own: dict[str, np.ndarray]) -> None:
        if not any(form <= own.keys() for form in _FORMS):
            raise LayoutError(
                f"'{self.collection.name}' has no momentum", where=self.tree.where, mend="give layout.jet"
            )
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


def _depth(kind: str) -> int:
    """How many lists lie within each other."""
    return kind.count("[") + kind.count("vector<")
