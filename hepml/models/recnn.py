"""Recursive networks that follow the clustering history of a jet (arXiv:1702.00748).

Each node of a binary tree over the constituents has seven inputs made of its four-momentum; an embedding of
the jet is folded from the leaves to the root, and a small head classifies it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.trees import ORDERINGS
from hepml.errors import ConfigError, did_you_mean
from hepml.models.catalogue import register, variant
from hepml.models.identity import Tagger
from hepml.nn.feedforward import NarrowLinear, feedforward
from hepml.nn.recursive import fold, gated_cell, simple_cell
from hepml.representations.trees import NODE_INPUTS, forest, node_inputs

SYMMETRIES = ("permutation", "azimuthal-rotation")


@register(
    "recnn",
    head_scale=0.1,
    paper="arXiv:1702.00748",
    symmetries=SYMMETRIES,
    published={"outputs": 1},
    parameters=8481,
)
class RecursiveNetwork(Tagger):
    """QCD-aware recursive network: a jet embedding folded along its clustering tree.

    The network is the paper's; its preprocessing is not done here. The authors first boost and rotate each
    jet to the leading kT subjet (R = 0.3), align the second, reflect by the third and cluster again; jets
    come here as they are, so that figures are not comparable with the published ones to the last digit.

    Every node has u = relu(W_u x + b_u) of its inputs x; a leaf's embedding is its u, a merge's is relu(W_h
    [h_L, h_R, u] + b_h), the harder child left, or the gated unit (`hepml.nn.recursive.gated_cell`). The
    root's embedding goes through a fully connected head.

    Symmetry: permutations of the constituents and rotations about the beam, since trees and inputs know
    the jet's axis only (a random tree is drawn by a hash of the momenta and does not turn with the jet).
    Inputs: four-momenta and the tree, which is built on demand where the batch has none. A jet of one
    constituent is its leaf; a jet of none has the head's answer to zeros.

    Args:
        outputs: columns of the result; the published network has one.
        tree: kt, cambridge_aachen, antikt, descending_pt or random (see `hepml.data.trees`).
        gated: the gated unit instead of the simple one.
        hidden: units of the embedding.
        head: units of the hidden layers of the head.
        max_constituents: keep only so many leading constituents; None keeps all.

    Raises:
        ConfigError: an unknown tree; names the nearest.
    """

    def __init__(
        self,
        outputs: int = 2,
        tree: str = "kt",
        gated: bool = False,
        hidden: int = 40,
        head: Sequence[int] = (40, 40),
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        if tree not in ORDERINGS:
            raise ConfigError(f"unknown tree '{tree}'", mend=did_you_mean(tree, ORDERINGS, noun="trees"))
        self.tree, self.hidden = tree, hidden
        self.inputs = Inputs(extras=(f"tree_{tree}",), max_constituents=max_constituents)
        self.w_u = NarrowLinear(len(NODE_INPUTS), hidden)
        self.w_h = nn.Linear(3 * hidden, hidden)
        self.w_r = nn.Linear(3 * hidden, 3 * hidden) if gated else None
        self.w_z = nn.Linear(4 * hidden, 4 * hidden) if gated else None
        self.head = feedforward(hidden, head, outputs)
        for layer in (self.w_u, self.w_h):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("relu"))
            nn.init.zeros_(layer.bias)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        logits: Tensor = self.head(self.embed(batch))
        return logits

    def embed(self, batch: JetBatch) -> Tensor:
        """The embedding of each jet, [B, hidden]; zeros for a jet without constituents."""
        trees = forest(batch, self.tree)
        u = torch.relu_(self.w_u(node_inputs(trees, batch)))
        leaves, merges = u[: trees.leaves], u[trees.leaves :]
        if self.w_r is None or self.w_z is None:
            pair, own = self.w_h.weight[:, : 2 * self.hidden], self.w_h.weight[:, 2 * self.hidden :]
            given = F.linear(merges, own, self.w_h.bias)
            h = fold(simple_cell, leaves, given, trees.children, trees.levels, (pair,))
        else:
            weights = [w for layer in (self.w_r, self.w_h, self.w_z) for w in (layer.weight, layer.bias)]
            h = fold(gated_cell, leaves, merges, trees.children, trees.levels, weights)
        return at_roots(h, trees.roots)


recnn_gated = variant(
    "recnn_gated",
    RecursiveNetwork,
    "Gated QCD-aware recursive network, whose units choose what to keep of each child; on Cambridge/Aachen "
    "trees, its best published.",
    published={"outputs": 1},
    parameters=48761,
    tree="cambridge_aachen",
    gated=True,
)


def at_roots(h: Tensor, roots: Tensor) -> Tensor:
    """Rows of h [T, H] at the roots [B]; zeros where there is none (-1)."""
    if not len(h):
        return h.new_zeros((len(roots), h.shape[1]))
    return torch.where((roots >= 0)[:, None], h[roots.clamp_min(0)], 0.0)
