"""Jets whose constituents do not add up to them: damage that no checksum shows, and units that differ.

A jet's own momentum may rightly differ from the sum of its constituents: calibration, grooming, pile-up
weights, lists that are cut or hold tracks only. So the sums are compared with what is usual in the file, and
only counted: a jet is told where its transverse momentum or energy is off the usual ratio by more than a
factor of two, and by more than eight times the spread within which three quarters of the jets lie, or where
its direction is off in the same way by more than 1.5 in eta and phi. Where nine jets of ten agree with their
sums to 1e-4, as where a file keeps all constituents, an excess of 1 % and a loss of 10 % (cut lists) are
enough. Sums that are too small are told only where the lists of the file are whole (spread below 5 %).
"""

from __future__ import annotations

import math

import numpy as np

from hepml.data.reading.chunk import Chunk

FACTOR = 2.0
ANGLE = 1.5
SPREADS = 8.0
WHOLE = 0.05
EXACT, EXCESS, LOSS = 1e-4, 0.01, 0.1
UNITS = 100.0  # median ratios beyond it are no calibration
FEWEST = 20  # jets from which the usual is taken


def unlike_their_sums(chunk: Chunk) -> tuple[list[tuple[str, np.ndarray]], str | None]:
    """What does not add up, as (what, which jets [B]), and a sentence about units, for jets with momenta of
    their own."""
    counts = chunk.counts
    if chunk.momenta is None or not len(chunk) or not counts.any():
        return [], None
    with np.errstate(all="ignore"):
        there = counts > 0
        energy, px, py, pz = chunk.exact_sums()[there].T
        own = chunk.momenta[there].astype(np.float64)
        pt, own_pt = np.hypot(px, py), np.hypot(own[:, 1], own[:, 2])
        sizes = {"transverse momentum": np.log(pt / own_pt), "energy": np.log(energy / own[:, 0])}
        eta, phi = np.arcsinh(pz / pt) - np.arcsinh(own[:, 3] / own_pt), np.arctan2(py, px)
        phi = np.abs(phi - np.arctan2(own[:, 2], own[:, 1]))
        angle = np.hypot(eta, np.minimum(phi, 2 * math.pi - phi))
        outliers = {what: _unusual(ratio) for what, ratio in sizes.items()}
        outliers["direction"] = _far(angle)
    deviations = []
    for what, rows in outliers.items():
        if rows.any():
            jets = np.zeros(len(chunk), dtype=bool)
            jets[np.flatnonzero(there)[rows]] = True
            deviations.append((what, jets))
    return deviations, _units(sizes["transverse momentum"])


def _unusual(ratio: np.ndarray) -> np.ndarray:
    """Which logarithms of ratios are far from the others [B]."""
    known = ratio[np.isfinite(ratio)]
    if len(known) < FEWEST:
        return np.zeros(len(ratio), dtype=bool)
    usual = float(np.median(known))
    off = np.abs(known - usual)
    if float(np.quantile(off, 0.9)) < EXACT:
        return (ratio - usual > EXCESS) | (usual - ratio > LOSS)
    spread = float(np.quantile(off, 0.75))
    limit = max(math.log(FACTOR), SPREADS * spread)
    return (ratio - usual > limit) | ((usual - ratio > limit) & (spread < WHOLE))


def _far(angle: np.ndarray) -> np.ndarray:
    known = angle[np.isfinite(angle)]
    if len(known) < FEWEST:
        return np.zeros(len(angle), dtype=bool)
    return angle > max(ANGLE, SPREADS * float(np.quantile(known, 0.75)))


def _units(ratio: np.ndarray) -> str | None:
    known = ratio[np.isfinite(ratio)]
    if not len(known) or abs(usual := float(np.median(known))) < math.log(UNITS):
        return None
    return (
        f"the constituents' transverse momenta add up to {math.exp(usual):.3g} times the jets' own: "
        "are both in one unit (`unit`, `scale` in the layout)?"
    )
