"""Binary trees over the constituents of a jet, as packed columns that are computed once and travel in
`JetBatch.extras`.

A tree of n constituents has n leaves and n - 1 merges. It is kept in n rows, one a constituent, so that it is
gathered and cached as any column is: row k is the k-th merge, (left, right, level) with the harder child (by
pT) on the left; the last row is (-1, -1, -1). Nodes are numbered within their jet, leaves 0..n-1 in the order
of the constituents, merge k as n + k. The level of a merge is one more than that of its higher child, leaves
are at 0: merges of one level depend on lower levels only, whichever jet they belong to.

Orderings, by the name of the extra `tree_<ordering>` (arXiv:1702.00748 compares them):

    kt, cambridge_aachen, antikt   sequential recombination (`hepml.data.clustering`), equal to FastJet's
    descending_pt                  a chain, from the softest constituents to the hardest, which is merged last
    random                         random merges, drawn by a hash of the jet's own momenta: a jet's
                                   tree is always the same
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from hepml.data.clustering import POWERS, cluster
from hepml.data.extras import Extra, register

ORDERINGS = (*POWERS, "descending_pt", "random")


def trees(four_momenta: Tensor, offsets: Tensor, ordering: str) -> Tensor:
    """The trees of all jets.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV.
        offsets: [B + 1].
        ordering: one of `ORDERINGS`.

    Returns:
        [ΣN, 3] int32 (left, right, level), see above.
    """
    if ordering in POWERS:
        return cluster(four_momenta, offsets, POWERS[ordering])
    if ordering == "descending_pt":
        return _chains(four_momenta, offsets)
    return _random(four_momenta, offsets)


def _chains(p: Tensor, offsets: Tensor) -> Tensor:
    """Merge k joins what was merged so far with the next harder constituent."""
    counts, jet_of, local = _places(offsets)
    kt2 = p[:, 1].double() ** 2 + p[:, 2].double() ** 2
    order = torch.argsort(kt2, stable=True)
    order = order[torch.argsort(jet_of[order], stable=True)]  # softest first within each jet
    constituent, kt2 = local[order], kt2[order]
    sums = _running_sums(p.double()[order], offsets, jet_of)
    following = (torch.arange(len(order), device=p.device) + 1).clamp_max(max(len(order) - 1, 0))
    before = torch.where(local == 0, constituent, counts[jet_of] + local - 1)
    harder = sums[:, 1] ** 2 + sums[:, 2] ** 2 > kt2[following]
    left = torch.where(harder, before, constituent[following])
    right = torch.where(harder, constituent[following], before)
    out = torch.stack((left, right, local + 1), dim=1)
    last = local == counts[jet_of] - 1
    return torch.where(last[:, None], -1, out).to(torch.int32)


def _running_sums(p: Tensor, offsets: Tensor, jet_of: Tensor) -> Tensor:
    """Sum of a jet's rows up to and including each, [ΣN, 4]; in a rectangle, so that no jet's digits meet
    another's."""
    counts = offsets.diff()
    width = int(counts.max()) if len(counts) else 0
    at = jet_of * width + torch.arange(len(p), device=p.device) - offsets[jet_of]
    dense = p.new_zeros((len(counts) * width, 4)).index_copy_(0, at, p).view(len(counts), width, 4)
    return dense.cumsum(1).reshape(-1, 4)[at]


def _random(p: Tensor, offsets: Tensor) -> Tensor:
    """Each merge takes two of the nodes that are left, drawn by numbers hashed from the jet's momenta."""
    counts, jet_of, _ = _places(offsets)
    out = torch.full((len(jet_of), 3), -1, dtype=torch.int32, device=p.device)
    if not len(jet_of):
        return out
    hashes = _hash(p)
    seeds = torch.zeros_like(counts).index_add_(0, jet_of, hashes)
    jets = torch.argsort(counts, descending=True, stable=True)
    sizes = counts[jets].tolist()
    size, starts, seed = counts[jets], offsets[:-1][jets], seeds[jets]
    slot = torch.arange(sizes[0], device=p.device)
    rows = (starts[:, None] + slot).clamp_max(len(jet_of) - 1)
    # slots in the order of the hashes, so that a tree does not depend on the order in which constituents come
    keys = torch.where(slot < size[:, None], hashes[rows] >> 1, torch.iinfo(torch.int64).max)
    node = keys.argsort(dim=1, stable=True)
    momenta = p.double()[(starts[:, None] + node).clamp_max(len(jet_of) - 1)]
    level = torch.zeros_like(node)
    active = 0
    for n in range(sizes[0], 1, -1):
        while active < len(sizes) and sizes[active] >= n:
            active += 1
        b = torch.arange(active, device=p.device)
        i = _mix(seed[:active] + 2 * n) % n
        j = _mix(seed[:active] + 2 * n + 1) % (n - 1)
        j = j + (j >= i)
        pi, pj = momenta[b, i], momenta[b, j]
        swap = pj[:, 1] ** 2 + pj[:, 2] ** 2 > pi[:, 1] ** 2 + pi[:, 2] ** 2
        left, right = torch.where(swap, node[b, j], node[b, i]), torch.where(swap, node[b, i], node[b, j])
        up = torch.maximum(level[b, i], level[b, j]) + 1
        out[starts[:active] + size[:active] - n] = torch.stack((left, right, up), dim=1).to(torch.int32)
        low, high = torch.minimum(i, j), torch.maximum(i, j)
        for state in (node, level, momenta):
            state[b, high] = state[b, torch.full_like(high, n - 1)]
        node[b, low], level[b, low], momenta[b, low] = 2 * size[:active] - n, up, pi + pj
    return out


def _places(offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Constituents of each jet [B], the jet of each constituent [ΣN], and its place in it [ΣN]."""
    counts = offsets.diff()
    total = int(offsets[-1]) if len(offsets) else 0
    jets = torch.arange(len(counts), device=offsets.device)
    jet_of = torch.repeat_interleave(jets, counts, output_size=total)
    return counts, jet_of, torch.arange(total, device=offsets.device) - offsets[jet_of]


def _hash(p: Tensor) -> Tensor:
    """A 64-bit number from the bits of each four-momentum, [ΣN] int64."""
    bits = (p.double() + 0.0).view(torch.int64)  # + 0.0 makes one zero of two
    out = torch.zeros(len(p), dtype=torch.int64, device=p.device)
    for column in bits.unbind(-1):
        out = _mix(out * 31 + column)
    return out


def _mix(x: Tensor) -> Tensor:
    """A non-negative 63-bit hash of each int64 (the finaliser of splitmix64, on wrapping integers)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (x ^ ((x >> 31) & 0x1FFFFFFFF)) & 0x7FFFFFFFFFFFFFFF


for _ordering in ORDERINGS:
    register(Extra(f"tree_{_ordering}", "constituent", partial(trees, ordering=_ordering)))
