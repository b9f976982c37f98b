"""The tree view: the binary trees of a batch as one forest whose merges are grouped by level, and the inputs
of its nodes.

A network that folds a tree from its leaves to its root needs as many steps as the highest tree of the batch
has levels, whatever the number of jets. Trees come from `JetBatch.extra("tree_<ordering>")`, made at loading
or on demand (`hepml.data.trees`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.packed.segments import segment_sum

Frame = Literal["jet", "lab"]

# Node inputs of arXiv:1702.00748 and their robust scaling (x - median) / (third - first quartile):
# medians and quartile ranges over all nodes of the kT trees of 4,000 jets of 550-650 GeV from `hepml
# generate toptag`, rounded. They are constants, so that a model needs no pass over the data; jets of
# other energies are only scaled less snugly.
NODE_INPUTS = ("p", "eta", "phi", "energy", "energy_fraction", "pt", "theta")
_MEDIAN = (9.0, 0.0, 0.0, 9.0, 0.015, 9.0, 1.5708)
_RANGE = (29.0, 0.25, 0.25, 29.0, 0.05, 29.0, 0.25)
# Those of the published TreeNiN, of momenta as they are: over the nodes of the top-tagging reference's jets.
_LAB_MEDIAN = (11.680418, -0.000879195, 0.000769436, 11.68894, 0.01386037, 8.3503086, 1.5716755)
_LAB_RANGE = (43.887254, 1.4226937, 3.1453394, 43.925718, 0.051638115, 31.269593, 1.3159617)


@dataclass(frozen=True)
class Forest:
    """The trees of B jets with N constituents in all and M merges. Nodes: leaf i is constituent i, merge k is
    node N + k.

    Args:
        children: [M, 2] int64, the nodes that each merge joins, the harder one first; merges in the order of
            their levels.
        levels: merges on each level, from the lowest; they sum to M.
        roots: [B] int64, the top node of each jet; -1 for a jet without constituents.
        jet_of: [N + M] int64, the jet of every node.
    """

    children: Tensor
    levels: tuple[int, ...]
    roots: Tensor
    jet_of: Tensor

    @property
    def leaves(self) -> int:
        """N."""
        return int(self.jet_of.shape[0] - self.children.shape[0])

    def sums(self, values: Tensor) -> Tensor:
        """Of each node the sum over its leaves: [N, C] to [N + M, C], level by level."""
        out = values.new_empty((len(self.jet_of), values.shape[1]))
        out[: len(values)] = values
        left, right = (column.contiguous().split(self.levels) for column in self.children.unbind(1))
        start = len(values)
        for a, b in zip(left, right, strict=True):
            out[start : start + len(a)] = out.index_select(0, a) + out.index_select(0, b)
            start += len(a)
        return out


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
    top = place[(offsets[1:] - 2).clamp(0, n - 1)] if n else torch.full_like(counts, -1)
    roots = torch.where(counts == 0, -1, torch.where(counts == 1, offsets[:-1], top))
    return Forest(children, tuple(torch.bincount(level).tolist()[1:]), roots, torch.cat((batch.jet_of, jet)))


def node_inputs(trees: Forest, batch: JetBatch, frame: Frame = "jet") -> Tensor:
    """The seven inputs of each node, robust-scaled, [N + M, 7].

    |p|, eta, phi, E, E / E_jet, pT and theta in the frame where the jet stands at rapidity 0 and azimuth 0,
    which is where the published
    preprocessing puts it: boosted along the beam and rotated about it; or, with `lab`, of momenta as they
    are, scaled as for the published TreeNiN. GeV and radians before scaling.
    """
    with torch.autocast(batch.device.type, enabled=False):
        momenta, whole = _in_jet_frame(batch) if frame == "jet" else _as_they_are(batch)
        energy, px, py, pz = trees.sums(momenta).unbind(-1)
        tiny = 1e-12
        pt = torch.sqrt(px * px + py * py + tiny**2)
        size = torch.sqrt(pt * pt + pz * pz)
        eta = torch.asinh(pz / pt).clamp(-10, 10)
        fraction = energy / whole.clamp_min(tiny)[trees.jet_of]
        columns = torch.stack(
            (size, eta, torch.atan2(py, px), energy, fraction, pt, torch.atan2(pt, pz)), dim=-1
        )
        median, width = (_MEDIAN, _RANGE) if frame == "jet" else (_LAB_MEDIAN, _LAB_RANGE)
        return (columns - columns.new_tensor(median)) / columns.new_tensor(width)


def _as_they_are(batch: JetBatch) -> tuple[Tensor, Tensor]:
    """Constituents, and the energy of their sum."""
    energy = segment_sum(batch.four_momenta[:, :1].double(), batch.offsets)[:, 0]
    return batch.four_momenta, energy.to(batch.dtype)


def _in_jet_frame(batch: JetBatch) -> tuple[Tensor, Tensor]:
    """Constituents boosted along the beam and rotated about it to where their jet has rapidity and azimuth 0,
    and the jet's energy there.

    In double precision: the boost of a forward jet cancels digits that float32 does not have.
    """
    p, jets = batch.four_momenta.double(), batch.jets.double()
    e, px, py, pz = jets.unbind(-1)
    # at least pT, whatever rounding or a groomed mass has left of E
    mt = torch.sqrt(torch.maximum(e * e - pz * pz, px * px + py * py).clamp_min(1e-24))
    y = pz.sign() * torch.log((e + pz.abs()).clamp_min(1e-12) / mt)
    phi = torch.atan2(py, px)
    columns = torch.stack((y.cosh(), y.sinh(), phi.cos(), phi.sin()), dim=-1)[batch.jet_of]
    grow, shift, cos, sin = columns.unbind(-1)
    e, px, py, pz = p.unbind(-1)
    moved = (e * grow - pz * shift, px * cos + py * sin, py * cos - px * sin, pz * grow - e * shift)
    return torch.stack(moved, dim=-1).to(batch.dtype), mt.to(batch.dtype)
