"""The Lund plane of a jet as a graph (arXiv:2012.08526): the declusterings of its Cambridge/Aachen tree, each
with its Lund coordinates, tied to the declusterings it comes from and leads to.

A declustering of a pseudojet into j1 and j2, pT1 > pT2, has

    ln Δ,  Δ² = (y1 - y2)² + (φ1 - φ2)²      ln kt, kt = pT2 Δ      ln z, z = pT2 / (pT1 + pT2)
    ln m,  m the mass of the pair            ψ = arctan((y1 - y2) / (φ1 - φ2)).

Constituents themselves are no nodes. A jet of fewer than two constituents has one node of zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.clustering import coordinates
from hepml.representations.trees import forest

COORDINATES = ("ln_z", "ln_delta", "psi", "ln_m", "ln_kt")
_CLOSEST = 1e-6  # the published floor of Δ
_TINY = 1e-30


@dataclass(frozen=True)
class LundGraph:
    """The declusterings of B jets.

    Args:
        values: [M, C] coordinates, in the dtype of the batch.
        edges: [2, E] int64 (sender, receiver): each tie in both directions.
        jet_of: [M] int64.
    """

    values: Tensor
    edges: Tensor
    jet_of: Tensor


def lund_graph(
    batch: JetBatch,
    names: tuple[str, ...] = COORDINATES,
    *,
    wrapped: bool = True,
    tree: str = "cambridge_aachen",
) -> LundGraph:
    """The Lund planes of a batch.

    Args:
        batch: B jets.
        names: coordinates, of `COORDINATES`.
        wrapped: whether φ1 - φ2 in ψ is the short way round; otherwise that of azimuths from 0 to 2π, which
            is another where a pair lies on both sides of φ = 0.
        tree: the clustering.
    """
    trees = forest(batch, tree)
    leaves = trees.leaves
    with torch.autocast(batch.device.type, enabled=False):
        sums = trees.sums(batch.four_momenta.double())
        harder, softer = (sums[c] for c in trees.children.unbind(1))
        table = _coordinates(harder, softer, wrapped)
        values = torch.stack([table[name] for name in names], dim=1).to(batch.dtype)
    parents = torch.arange(len(trees.children), device=batch.device)[:, None].expand(-1, 2)
    ties = torch.stack((parents, trees.children - leaves), dim=-1)[trees.children >= leaves].T
    lone = (trees.roots < leaves).nonzero()[:, 0]  # jets without a declustering
    return LundGraph(
        torch.cat((values, values.new_zeros((len(lone), len(names))))),
        torch.cat((ties, ties.flip(0)), dim=1),
        torch.cat((trees.jet_of[leaves:], lone)),
    )


def _coordinates(harder: Tensor, softer: Tensor, wrapped: bool) -> dict[str, Tensor]:
    (y1, phi1, _), (y2, phi2, _) = coordinates(harder), coordinates(softer)
    dy, short = y1 - y2, kinematics.signed_angle(*harder[:, 1:3].T, *softer[:, 1:3].T)
    delta = kinematics.length(dy, short).clamp_min(_CLOSEST)
    pt1, pt2 = kinematics.pt(harder), kinematics.pt(softer)
    across = short
    if not wrapped:
        full = (torch.remainder(phi, 2 * math.pi) for phi in (phi1.detach(), phi2.detach()))
        apart = next(full) - next(full)
        across = short + 2 * math.pi * torch.round((apart - short.detach()) / (2 * math.pi))
    e, px, py, pz = (harder + softer).unbind(-1)
    mass2 = ((e + pz) * (e - pz) - px * px - py * py).abs()
    return {
        "ln_delta": delta.log(),
        "ln_kt": (pt2 * delta).clamp_min(_TINY).log(),
        "ln_z": (pt2 / (pt1 + pt2).clamp_min(_TINY)).clamp_min(_TINY).log(),
        "ln_m": 0.5 * mass2.clamp_min(_TINY).log(),
        "psi": torch.where(across == 0, 0.0, torch.atan(dy / torch.where(across == 0, 1.0, across))),
    }
