"""The tree view: the binary trees of a batch as one forest whose merges are grouped by level, with the four-momentum of every node.

A network that folds a tree from its leaves to its root needs as many steps as the highest tree of the batch has levels, whatever the number
of jets. Trees come from `JetBatch.extra("tree_<ordering>")`, made at loading or on demand (`hepml.data.trees`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepml.data.batch import JetBatch

# Node inputs of arXiv:1702.00748 and their robust scaling (x - median) / (third - first quartile): medians and quartile ranges over all
# nodes of the kT trees of 4,000 jets of 550-650 GeV from `hepml generate toptag`, rounded. They are constants, so that a model needs no
# pass over the data; jets of other energies are only scaled less snugly.
NODE_INPUTS = ("p", "eta", "phi", "energy", "energy_fraction", "pt", "theta")
_MEDIAN = (9.0, 0.0, 0.0, 9.0, 0.015, 9.0, 1.5708)
_RANGE = (29.0, 0.25, 0.25, 29.0, 0.05, 29.0, 0.25)


@dataclass(frozen=True)
class Forest:
    """The trees of B jets with N constituents in all and M merges. Nodes: leaf i is constituent i, merge k is node N + k.

    Args:
        children: [M, 2] int64, the nodes that each merge joins, the harder one first; merges in the order of their levels.
        levels: merges on each level, from the lowest; they sum to M.
        roots: [B] int64, the top node of each jet; -1 for a jet without constituents.
        momenta: [N + M, 4] (E, px, py, pz) in GeV of every node.
        jet_of: [N + M] int64, the jet of every node.
    """

    children: Tensor
    levels: tuple[int, ...]
    roots: Tensor
    momenta: Tensor
    jet_of: Tensor

    @property
    def leaves(self) -> int:
        """N."""
        return int(self.momenta.shape[0] - self.children.shape[0])


def forest(batch: JetBatch, ordering: str) -> Forest:
    """The trees of a batch, of an ordering that `hepml.data.trees` names."""
    tree = batch.extra(f"tree_{ordering}").to(torch.int64)
    n, offsets, counts = tree.shape[0], batch.offsets, batch.counts
    rows = (tree[:, 2] > 0).nonzero()[:, 0]
    level = tree[rows, 2]
    rows = rows[torch.argsort(level, stable=True)]
    place = torch.empty(n, dtype=torch.int64, device=tree.device)  # node of the merge in each row
    place[rows] = torch.arange(n, n + len(rows), device=tree.device)
    jet = batch.jet_of[rows]
    own, first = counts[jet][:, None], offsets[jet][:, None]
    local = tree[rows, :2]
    merged = place[(first + local - own).clamp(0, max(n - 1, 0))] if n else local
    children = torch.where(local < own, first + local, merged)
    levels = torch.bincount(level).tolist()[1:]
    single, empty = counts == 1, counts == 0
    top = place[(offsets[1:] - 2).clamp(0, n - 1)] if n else torch.full_like(counts, -1)
    roots = torch.where(empty, -1, torch.where(single, offsets[:-1], top))
    momenta = batch.four_momenta.new_empty((n + len(rows), 4))
    momenta[:n] = batch.four_momenta
    start = 0
    for size in levels:
        pair = children[start : start + size]
        momenta[n + start : n + start + size] = momenta[pair[:, 0]] + momenta[pair[:, 1]]
        start += size
    return Forest(children, tuple(levels), roots, momenta, torch.cat((batch.jet_of, jet)))


def node_inputs(trees: Forest, batch: JetBatch) -> Tensor:
    """The seven inputs of each node, robust-scaled, [N + M, 7].

    |p|, eta, phi, E, E / E_jet, pT and theta in the frame where the jet stands at rapidity 0 and azimuth 0, which is where the published
    preprocessing puts it: boosted along the beam and rotated about it. GeV and radians before scaling. E_jet is the sum's energy.
    """
    with torch.autocast(batch.device.type, enabled=False):
        p, jets = (
            trees.momenta.double(),
            batch.jets.double(),
        )  # a boost along the beam cancels digits that float32 does not have
        tiny = 1e-12
        sign = jets[:, 3].sign()
        mt2 = (jets[:, 0].square() - jets[:, 3].square()).clamp_min(tiny)
        grow = (
            sign * 0.5 * torch.log((jets[:, 0] + jets[:, 3].abs()).clamp_min(tiny).square() / mt2)
        )  # rapidity of the jet
        at = grow[trees.jet_of]
        e, px, py, pz = p.unbind(-1)
        energy = e * at.cosh() - pz * at.sinh()
        along = pz * at.cosh() - e * at.sinh()
        pt = torch.sqrt(px * px + py * py + tiny**2)
        phi = torch.atan2(py, px) - torch.atan2(jets[:, 2], jets[:, 1])[trees.jet_of]
        phi = torch.remainder(phi + torch.pi, 2 * torch.pi) - torch.pi
        eta = torch.asinh(along / pt.clamp_min(tiny)).clamp(-10, 10)
        whole = mt2.sqrt()[trees.jet_of]
        size = torch.sqrt(pt * pt + along * along)
        theta = torch.atan2(pt, along)
        columns = torch.stack((size, eta, phi, energy, energy / whole, pt, theta), dim=-1)
        scaled = (columns - columns.new_tensor(_MEDIAN)) / columns.new_tensor(_RANGE)
        return scaled.to(batch.dtype)
