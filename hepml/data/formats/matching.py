"""Jets near other objects of their event: truth matches and overlaps, by distance in eta and phi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hepml.data.formats.event_tree import EventTree
from hepml.data.formats.resolve import FORMS, columns_of
from hepml.data.layouts import own
from hepml.data.layouts.collections import Candidates, JetCollection
from hepml.data.layouts.derived import made_by
from hepml.data.layouts.event_layout import Match, Overlap
from hepml.data.reading.links import events_of
from hepml.data.reading.selection import Selection
from hepml.errors import LayoutError, did_you_mean


def matched(
    tree: EventTree,
    jets: JetCollection,
    rule: Match,
    jet_offsets: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    start: int,
    stop: int,
) -> np.ndarray:
    """Which jets [J] have at least `rule.inside` of the particles within `rule.dr`."""
    near = _near(tree, jets, rule.particles, rule.select, rule.dr, jet_offsets, eta, phi, start, stop)
    return near >= rule.inside


def overlapping(
    tree: EventTree,
    jets: JetCollection,
    rule: Overlap,
    jet_offsets: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    start: int,
    stop: int,
) -> np.ndarray:
    """Which jets [J] have an object of the other collection within `rule.dr`."""
    return _near(tree, jets, rule.collection, rule.select, rule.dr, jet_offsets, eta, phi, start, stop) > 0


def _near(
    tree: EventTree,
    jets: JetCollection,
    collection: str,
    select: str | None,
    dr: float,
    jet_offsets: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    start: int,
    stop: int,
) -> np.ndarray:
    """How many selected objects lie within `dr` of each jet, [J]."""
    chosen = Selection(select) if select else None
    names = chosen.names if chosen else ()
    offsets, columns = objects_of(tree, jets, collection, names, start, stop)
    keep = np.ones(int(offsets[-1]), dtype=bool)
    if chosen is not None:
        keep &= chosen(columns, where=tree.where)
    event = events_of(offsets)[keep]
    kept = np.concatenate([[0], np.cumsum(np.bincount(event, minlength=len(offsets) - 1))])
    jet, _ = pairs_within(jet_offsets, eta, phi, kept, columns["eta"][keep], columns["phi"][keep], dr)
    return np.bincount(jet, minlength=int(jet_offsets[-1]))


def objects_of(
    tree: EventTree, jets: JetCollection, collection: str, names: Sequence[str], start: int, stop: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Offsets [E + 1] of the objects of a collection, their eta and phi, and the columns by these names:
    those of the momentum in GeV, whatever the file has, others as in the file.

    Args:
        jets: a jet collection of the same file, whose conventions are those of the others.

    Raises:
        LayoutError: no such collection or column.
    """
    found = own.collection_named(collection, jets, tree.kinds)
    if found is None or not any({*form} <= {*found.columns, *_made(found)} for form in FORMS):
        stems = {n.split("_")[0].split(".")[0] for n in tree.kinds} - {""}
        raise LayoutError(
            f"collection '{collection}' has no eta and phi",
            where=tree.where,
            mend=did_you_mean(collection, stems, noun="collections"),
        )
    branch = next(c.branch for c in found.columns.values() if c.branch is not None)
    offsets = tree.lists([branch], start, stop)[branch].offsets
    if offsets is None:
        raise LayoutError(f"collection '{collection}' has one number an event", where=tree.where)
    short = own.group(collection, tree.kinds)
    momenta: dict[str, np.ndarray] = {}
    columns: dict[str, np.ndarray] = {}
    for name in dict.fromkeys((*names, "eta", "phi")):
        if name in found.columns and name in COMPONENTS:
            column = found.columns[name]
            if column.branch is None:
                columns[name] = np.full(int(offsets[-1]), column.constant)
            else:
                columns[name] = np.asarray(column(tree.lists([column.branch], start, stop)[column.branch][0]))
        elif name in COMPONENTS and (name not in ("mass", "energy") or {"mass", "energy"} & {*found.columns}):
            momenta = momenta or columns_of(tree, [found], [(found, 0, offsets)], [], start, stop)
            columns[name] = component(momenta, name)
        elif name in short or (name in found.columns and found.columns[name].branch is not None):
            at = short.get(name) or str(found.columns[name].branch)
            scale = next((c for k, c in found.columns.items() if c.branch == at and k in COMPONENTS), None)
            values = tree.lists([at], start, stop)[at].content
            columns[name] = values if scale is None else scale(values)
        else:
            known = [*short, *COMPONENTS]
            raise LayoutError(
                f"'{collection}' has no column '{name}'", where=tree.where, mend=did_you_mean(name, known)
            )
    for name, values in columns.items():
        if len(values) != offsets[-1]:
            raise LayoutError(
                f"'{collection}' has {int(offsets[-1])} objects and {len(values)} of '{name}'",
                where=f"{tree.where}, entries {start} to {stop}",
                mend="name columns of one collection",
            )
    return offsets, columns


COMPONENTS = ("pt", "eta", "phi", "mass", "energy", "px", "py", "pz")


def component(momenta: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """pt, eta, phi or mass of flat px, py, pz and energy, float64; each of those by its own name."""
    if name in momenta:
        return momenta[name]
    px, py, pz, energy = (momenta[n].astype(np.float64) for n in ("px", "py", "pz", "energy"))
    pt = np.hypot(px, py)
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "pt": lambda: pt,
            "eta": lambda: np.arcsinh(pz / np.maximum(pt, 1e-20)),
            "phi": lambda: np.arctan2(py, px),
            "mass": lambda: np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0)),
        }[name]()


def _made(found: Candidates) -> dict[str, str]:
    return made_by(found.derive, set(found.columns))


def pairs_within(
    jet_offsets: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    other_offsets: np.ndarray,
    other_eta: np.ndarray,
    other_phi: np.ndarray,
    dr: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a jet and an object of its event within `dr`: (jet, object), by rising jet.

    Args:
        jet_offsets: offsets [E + 1] of the jets; `eta` and `phi` are theirs, [J] each.
        other_offsets: offsets [E + 1] of the objects; `other_eta` and `other_phi` are theirs.
    """
    per_event, first = np.diff(other_offsets), other_offsets[:-1]
    jet_event = events_of(jet_offsets)
    # every pair of a jet and an object of its event
    pairs = per_event[jet_event]
    jet = np.repeat(np.arange(len(jet_event)), pairs)
    within = np.arange(int(pairs.sum())) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    other = first[jet_event[jet]] + within
    turn = np.abs(phi[jet].astype(np.float64) - other_phi[other]) % (2 * np.pi)
    turn = np.minimum(turn, 2 * np.pi - turn)
    close = np.hypot(eta[jet].astype(np.float64) - other_eta[other], turn) < dr
    return jet[close], other[close]
