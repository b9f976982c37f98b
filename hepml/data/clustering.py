"""Sequential recombination of many jets at once: kT, Cambridge/Aachen and anti-kT trees by one batched
nearest-neighbour algorithm.

Each step merges one pair in every jet, in a few tensor operations on whichever device the momenta are; jets
are sorted by length and join when as many pseudojets are left as they have constituents, so that no step
computes padding. The pair is the one that FastJet (arXiv:1111.6097) merges without a beam, that is with a
radius far beyond the jet: the smallest

    d_ij = min(kt_i^2p, kt_j^2p) (delta_y^2 + delta_phi^2),   p = 1 kT, 0 Cambridge/Aachen, -1 anti-kT,

found among geometric nearest neighbours (hep-ph/0512210), by rapidities and azimuths in float64, four-momenta
added (E scheme).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hepml import progress

POWERS = {"kt": 1, "cambridge_aachen": 0, "antikt": -1}
_JETS = 1024  # jets clustered together
_PAIRS = 1 << 19  # entries of the distance matrices worked on at a time
_SMALL = 1e-300


def cluster(four_momenta: Tensor, offsets: Tensor, power: int) -> Tensor:
    """The merges of every jet until one pseudojet is left.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV.
        offsets: [B + 1].
        power: p of the distance, one of `POWERS`.

    Returns:
        [ΣN, 3] int32, rows as in `hepml.data.trees`: row k of a jet is its k-th merge as (left, right,
        level), the harder child left; the last row of a jet is (-1, -1, -1).
    """
    counts = offsets.diff()
    out = torch.full((four_momenta.shape[0], 3), -1, dtype=torch.int32, device=four_momenta.device)
    order = torch.argsort(counts, descending=True, stable=True)
    sizes = counts[order].tolist()
    first = 0
    while first < len(sizes) and sizes[first] > 1:
        last = min(len(sizes), first + _JETS)
        while sizes[last - 1] < 2:
            last -= 1
        which = order[first:last]
        _cluster_sorted(four_momenta, offsets[:-1][which], sizes[first:last], power, out)
        first = last
        progress.tell("jets clustered", first, len(sizes))
    progress.tell("jets clustered", len(sizes), len(sizes))
    return out


def _cluster_sorted(p: Tensor, starts: Tensor, sizes: list[int], power: int, out: Tensor) -> None:
    """Clusters jets that begin at rows `starts`, longest first, into `out`."""
    jets, most, device = len(sizes), sizes[0], p.device
    count = torch.tensor(sizes, device=device)
    slot = torch.arange(most, device=device)
    rows = (starts[:, None] + slot).clamp_max(p.shape[0] - 1)
    momenta = p[rows].double()  # [B, N, 4]; slots behind a jet's own count are never read
    y, phi, kt2 = coordinates(momenta)
    weight = _weight(kt2, power)
    node = slot.expand(jets, most).contiguous()
    level = torch.zeros_like(node)
    distance = torch.full_like(y, math.inf)
    nearest = torch.zeros_like(node)
    every = torch.arange(jets, device=device)
    active = 0
    for n in range(most, 1, -1):
        joined = active
        while active < jets and sizes[active] == n:
            active += 1
        step = max(1, _PAIRS // n**2)
        for start in range(joined, active, step):
            new = slice(start, min(start + step, active))
            d = _squared(y[new, :n, None] - y[new, None, :n], phi[new, :n, None] - phi[new, None, :n])
            d.diagonal(dim1=1, dim2=2).fill_(math.inf)
            distance[new, :n], nearest[new, :n] = d.min(dim=2)
        b = every[:active]
        d, near, w = distance[:active, :n], nearest[:active, :n], weight[:active, :n]
        i = (d if power == 0 else d * torch.minimum(w, w.gather(1, near))).argmin(dim=1)
        j = near[b, i]
        # record the merge
        pi, pj, ti, tj = momenta[b, i], momenta[b, j], kt2[b, i], kt2[b, j]
        ni, nj = node[b, i], node[b, j]
        up = torch.maximum(level[b, i], level[b, j]) + 1
        swap = tj > ti
        left, right = torch.where(swap, nj, ni), torch.where(swap, ni, nj)
        size = count[:active]
        out[starts[:active] + size - n] = torch.stack((left, right, up), dim=1).to(torch.int32)
        # the new pseudojet takes the place of one, the last that of the other
        low, high = torch.minimum(i, j), torch.maximum(i, j)
        lost = (near == i[:, None]) | (near == j[:, None])
        merged = pi + pj
        new_y, new_phi, new_kt2 = coordinates(merged)
        for state in (y, phi, kt2, weight, node, level, distance, nearest):
            state[b, high] = state[b, torch.full_like(high, n - 1)]
        momenta[b, high] = momenta[b, torch.full_like(high, n - 1)]
        lost[b, high] = lost[:, n - 1].clone()
        momenta[b, low], y[b, low], phi[b, low], kt2[b, low] = merged, new_y, new_phi, new_kt2
        weight[b, low], node[b, low], level[b, low] = _weight(new_kt2, power), 2 * size - n, up
        if n == 2:
            continue
        m = n - 1
        d, near, lost = distance[:active, :m], nearest[:active, :m], lost[:, :m]
        near.copy_(torch.where(near == m, high[:, None], near))
        fresh = _squared(y[:active, :m] - new_y[:, None], phi[:active, :m] - new_phi[:, None])
        fresh[b, low] = math.inf
        closer = fresh < d
        d.copy_(torch.where(closer, fresh, d))
        near.copy_(torch.where(closer, low[:, None], near))
        lost[b, low] = False
        distance[b, low], nearest[b, low] = fresh.min(dim=1)
        # those whose neighbour is gone look again
        jet, at = (lost & ~closer).nonzero(as_tuple=True)
        again = _squared(y[jet, :m] - y[jet, at][:, None], phi[jet, :m] - phi[jet, at][:, None])
        again.scatter_(1, at[:, None], math.inf)
        if len(jet):
            distance[jet, at], nearest[jet, at] = again.min(dim=1)


def _squared(dy: Tensor, dphi: Tensor) -> Tensor:
    dphi = dphi.abs()
    dphi = torch.minimum(dphi, 2 * math.pi - dphi)
    return dy * dy + dphi * dphi


def coordinates(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rapidity, azimuth and kt² as FastJet computes them: ½ ln((kt² + m²) / (E + |pz|)²), which keeps its
    digits far forward."""
    e, px, py, pz = p.unbind(-1)
    kt2 = px * px + py * py
    mass2 = ((e + pz) * (e - pz) - kt2).clamp_min(0)
    size = 0.5 * torch.log(((kt2 + mass2).clamp_min(_SMALL)) / (e + pz.abs()).clamp_min(1e-150) ** 2)
    return torch.where(pz > 0, -size, size), torch.atan2(py, px), kt2


def _weight(kt2: Tensor, power: int) -> Tensor:
    if power == 0:
        return torch.ones_like(kt2)
    return kt2 if power == 1 else 1 / kt2.clamp_min(_SMALL)
