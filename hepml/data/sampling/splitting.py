"""Random parts of a data set that share no event.

Jets of one event are not independent: one of them in the training jets and another in the test jets would
leak. So events are drawn, not jets, and each part takes whole events until it has its share of the jets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def parts_by_share(
    jets: int, shares: Mapping[str, float], seed: int, events: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Disjoint positions of the named shares and of the rest, `""`, each in rising order.

    Args:
        jets: how many there are.
        shares: name -> share of the jets.
        seed: of the permutation.
        events: [jets] event of each jet; None where each is an event of its own.
    """
    rng = np.random.default_rng(seed)
    if events is None:
        order, ends = rng.permutation(jets), np.arange(1, jets + 1)
    else:
        unique, event = np.unique(events, return_inverse=True)
        rank = rng.permutation(len(unique))[event]
        order = np.argsort(rank, kind="stable")
        ends = np.cumsum(np.bincount(rank, minlength=len(unique)))
    parts, begin = {}, 0
    for name, share in shares.items():
        # the whole events whose jets come nearest to the share
        wanted = begin + round(share * jets)
        at = int(np.searchsorted(ends, wanted))
        near = [int(ends[i]) for i in (at - 1, at) if 0 <= i < len(ends) and ends[i] >= begin]
        end = min(near, key=lambda e: abs(e - wanted), default=begin)
        if wanted == begin:
            end = begin
        parts[name] = np.sort(order[begin:end])
        begin = end
    parts[""] = np.sort(order[begin:])
    return parts
