"""Jets near other objects of their event: truth matches and overlaps, by distance in eta and phi."""

from __future__ import annotations

import numpy as np

from hepml.data.formats.event_tree import EventTree
from hepml.data.layouts.event_layout import Match, Overlap
from hepml.data.layouts.own import group, spelt
from hepml.data.reading.links import events_of
from hepml.data.reading.selection import Selection
from hepml.errors import LayoutError, did_you_mean


def matched(
    tree: EventTree,
    rule: Match,
    jet_offsets: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    start: int,
    stop: int,
) -> np.ndarray:
    """Which jets [J] have at least `rule.inside` of the particles within `rule.dr`."""
    return (
        _near(tree, rule.particles, rule.select, rule.dr, jet_offsets, eta, phi, start, stop) >= rule.inside
    )


def overlapping(
    tree: EventTree,
    rule: Overlap,
    jet_offsets: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    start: int,
    stop: int,
) -> np.ndarray:
    """Which jets [J] have an object of the other collection within `rule.dr`."""
    return _near(tree, rule.collection, rule.select, rule.dr, jet_offsets, eta, phi, start, stop) > 0


def _near(
    tree: EventTree,
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
    columns = group(collection, tree.kinds)
    named = {k: c.branch for k, c in spelt(columns).items()}
    chosen = Selection(select) if select else None
    wanted = {n: columns.get(n, named.get(n)) for n in (chosen.names if chosen else ())}
    place = _place(columns, named)
    if place is None:
        raise LayoutError(
            f"collection '{collection}' has no eta and phi",
            where=tree.where,
            mend=did_you_mean(
                collection, {n.split("_")[0].split(".")[0] for n in tree.kinds}, noun="collections"
            ),
        )
    for name, branch in wanted.items():
        if branch is None:
            raise LayoutError(
                f"'{collection}' has no column '{name}'", where=tree.where, mend=did_you_mean(name, columns)
            )
    flat = tree.lists([*place, *(b for b in wanted.values() if b)], start, stop)
    offsets = flat[place[0]].offsets
    assert offsets is not None
    parts = [flat[b].content.astype(np.float64) for b in place]
    if len(parts) == 3:
        pt = np.hypot(parts[0], parts[1])
        other_eta, other_phi = np.arcsinh(parts[2] / np.maximum(pt, 1e-20)), np.arctan2(parts[1], parts[0])
    else:
        other_eta, other_phi = parts
    keep = np.ones(len(other_eta), dtype=bool)
    if chosen is not None:
        keep &= chosen({n: flat[b].content for n, b in wanted.items() if b}, where=tree.where)
    event = events_of(offsets)[keep]
    kept = np.concatenate([[0], np.cumsum(np.bincount(event, minlength=len(offsets) - 1))])
    jet, _ = pairs_within(jet_offsets, eta, phi, kept, other_eta[keep], other_phi[keep], dr)
    return np.bincount(jet, minlength=int(jet_offsets[-1]))


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


def _place(columns: dict[str, str], named: dict[str, str | None]) -> list[str] | None:
    for form in (("eta", "phi"), ("px", "py", "pz")):
        branches = [named.get(n) for n in form]
        if all(branches):
            return [b for b in branches if b]
    return None
