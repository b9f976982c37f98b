"""Mass sculpting: how much a cut on a tagger's score changes the shape of the background's mass.

The measure is the Jensen-Shannon divergence in bits between the background's mass spectrum before a cut and
that of the background which passes it, at a given signal efficiency: 0 for the same shape, 1 for disjoint
ones. Few passing jets have a divergence by scatter alone; what as many random jets of the background have is
given beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepml.errors import DataError
from hepml.evaluation.checks import check_binary

_RANDOM = 200  # random selections, from which the scatter is taken


def mass_sculpting(
    labels: ArrayLike,
    scores: ArrayLike,
    masses: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    signal_efficiencies: Sequence[float] = (0.3, 0.5),
    bins: int = 40,
    seed: int = 0,
    random: int = _RANDOM,
) -> dict[str, dict[str, Any]]:
    """Jensen-Shannon divergence of the background's mass before and after cuts.

    Args:
        labels: [N], 1 is signal.
        scores: signal score [N].
        masses: [N], in any unit.
        weights: one a jet, of any sign, [N]; a bin whose weights do not add up to something positive counts
            as empty.
        signal_efficiencies: working points.
        bins: of equally many background jets each.
        seed: of the random selections.
        random: how many of these.

    Returns:
        {"0.3": {"divergence", "by_chance", "by_chance_error", "passing", "threshold"}, …}: `by_chance` is the
        mean of random selections of as many background jets; `divergence` is None where none passes.

    Raises:
        DataError: as `evaluate`; masses of another length or not finite.

    Examples:
        >>> labels, masses = [0] * 200 + [1] * 200, [*range(200)] * 2
        >>> scores = [m / 200 for m in range(200)] * 2  # a tagger that looks at the mass
        >>> sculpting = hepml.evaluation.mass_sculpting(labels, scores, masses)
        >>> sculpting['0.5']['divergence'] > sculpting['0.5']['by_chance']
        True
    """
    y, s, w = check_binary(labels, scores, weights)
    m = _masses(masses, len(y))
    w = np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64)
    background = y == 0
    edges = mass_edges(m[background], bins)
    before = _spectrum(m[background], w[background], edges)
    rng = np.random.default_rng(seed)
    out: dict[str, dict[str, Any]] = {}
    for efficiency in signal_efficiencies:
        threshold = score_threshold(s[~background], w[~background], efficiency)
        passing = background & (s >= threshold)
        count = int(passing.sum())
        divergence: dict[str, Any] = {"divergence": None, "by_chance": None, "by_chance_error": None}
        if count and (after := _spectrum(m[passing], w[passing], edges)).any():
            divergence["divergence"] = jensen_shannon(before, after)
            mb, wb = m[background], w[background]
            chance = []
            for _ in range(random):
                drawn = rng.choice(len(mb), count, replace=False)
                if (spectrum := _spectrum(mb[drawn], wb[drawn], edges)).any():
                    chance.append(jensen_shannon(before, spectrum))
            divergence["by_chance"], divergence["by_chance_error"] = (
                float(np.mean(chance)),
                float(np.std(chance)),
            )
        out[f"{efficiency:g}"] = {**divergence, "passing": count, "threshold": float(threshold)}
    return out


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence of two histograms in bits, 0 to 1."""
    p, q = p / p.sum(), q / q.sum()
    middle = 0.5 * (p + q)

    def towards(a: NDArray[np.float64]) -> float:
        here = a > 0
        return float((a[here] * np.log2(a[here] / middle[here])).sum())

    return max(0.0, 0.5 * towards(p) + 0.5 * towards(q))


def score_threshold(scores: NDArray[np.float64], weights: NDArray[np.float64], efficiency: float) -> float:
    """The score that a share `efficiency` of the weighted jets reaches."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # jets of equal scores pass together
    share = np.cumsum(weights[order])[ends] / weights.sum()
    reached = share >= efficiency * (1 - 1e-9)  # with negative weights it may fall again: the first counts
    return float(scores[ends[np.argmax(reached)] if reached.any() else -1])


def mass_edges(masses: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of bins that hold equally many jets; equal edges are merged."""
    edges = np.unique(np.quantile(masses, np.linspace(0, 1, bins + 1)))
    if len(edges) < 2:
        raise DataError("all background jets have the same mass", mend="give the masses of the jets")
    return edges


def _spectrum(
    masses: NDArray[np.float64], weights: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.clip(np.histogram(masses, edges, weights=weights)[0].astype(np.float64), 0.0, None)


def _masses(masses: ArrayLike, jets: int) -> NDArray[np.float64]:
    m = np.asarray(masses, dtype=np.float64)
    if m.shape != (jets,):
        raise DataError(f"masses have shape {m.shape} for {jets} jets", mend="give one a jet")
    if not np.isfinite(m).all():
        raise DataError(f"{int((~np.isfinite(m)).sum())} masses are not finite", mend="leave those jets out")
    return m
