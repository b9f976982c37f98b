"""TreeNiN: a recursive network with small networks at its nodes (Macaluso and Cranmer,
doi:10.5281/zenodo.2582216; in arXiv:1902.09914).

Written from its description: the simple recursive network of arXiv:1702.00748 on kT trees, with two fully
connected layers on top of every node before it is handed on, and weights of their own for leaves, merges, and
the two children of the root. With 50 units that is the published 33,901 parameters exactly: input maps of
leaves and merges 2 · 400, W_h 7,550, four networks of two layers 4 · 5,100, head 5,151.
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
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.models.recnn import at_roots
from hepml.nn.feedforward import NarrowLinear, feedforward
from hepml.nn.recursive import fold, networked_cell
from hepml.representations.trees import NODE_INPUTS, Frame, forest, node_inputs


@register(
    "treenin",
    paper="arXiv:1902.09914",
    symmetries=("permutation", "azimuthal-rotation"),
    published={"outputs": 1},
    parameters=33901,
)
class TreeNetworkInNetwork(Tagger):
    """TreeNiN: a recursive network with two more layers at every node, different for leaves, merges and the
    root's children.

    u = relu(W x + b) of a node's inputs, W of leaves or of merges; a leaf has h = u, a merge h = relu(W_h
    [h_L, h_R, u] + b_h), the harder child left; what a parent reads of a child is its h behind two layers
    with ReLU: those of leaves, of merges, or, under the root, of the left and the right child. The root's h
    goes through a fully connected head.

    Symmetry and inputs as for `recnn`. A jet of one constituent is its leaf; a jet of none has the head's
    answer to zeros.

    Args:
        outputs: columns of the result; the published network has one.
        tree: kt, cambridge_aachen, antikt, descending_pt or random (see `hepml.data.trees`).
        hidden: units of the embedding.
        head: units of the hidden layers of the head.
        frame: `jet` takes node inputs where the jet stands at rapidity and azimuth 0; `lab` as they are, with
            the scaling of the published weights, which know no symmetry but permutations.
        max_constituents: keep only so many leading constituents; None keeps all.

    Raises:
        ConfigError: an unknown tree; names the nearest.
    """

    def __init__(
        self,
        outputs: int = 2,
        tree: str = "kt",
        hidden: int = 50,
        head: Sequence[int] = (50, 50),
        frame: Frame = "jet",
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        if tree not in ORDERINGS:
            raise ConfigError(f"unknown tree '{tree}'", mend=did_you_mean(tree, ORDERINGS, noun="trees"))
        self.tree, self.hidden, self.frame = tree, hidden, frame
        self.inputs = Inputs(extras=(f"tree_{tree}",), max_constituents=max_constituents)
        self.u_leaf, self.u_merge = (NarrowLinear(len(NODE_INPUTS), hidden) for _ in range(2))
        self.w_h = nn.Linear(3 * hidden, hidden)
        self.on_leaf, self.on_merge, self.on_left, self.on_right = (
            feedforward(hidden, (hidden, hidden), initialise=_orthogonal) for _ in range(4)
        )
        self.head = feedforward(hidden, head, outputs)
        _orthogonal(self.w_h)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        logits: Tensor = self.head(self.embed(batch))
        return logits

    def embed(self, batch: JetBatch) -> Tensor:
        """The embedding of each jet, [B, hidden]; zeros for a jet without constituents."""
        trees, n = forest(batch, self.tree), batch.four_momenta.shape[0]
        x = node_inputs(trees, batch, self.frame)
        leaves = torch.relu_(self.u_leaf(x[:n]))
        if not len(trees.children):
            return at_roots(leaves, trees.roots)
        u = torch.relu_(self.u_merge(x[n:]))
        pair, own = self.w_h.weight[:, : 2 * self.hidden], self.w_h.weight[:, 2 * self.hidden :]
        given = F.linear(u, own, self.w_h.bias)
        layers = [
            p for layer in self.on_merge if isinstance(layer, nn.Linear) for p in (layer.weight, layer.bias)
        ]
        read = fold(
            networked_cell, self.on_leaf(leaves), given, trees.children, trees.levels, (pair, *layers)
        )

        # The root and its children once more: the fold has given the children the layers of any other merge.
        def bare(node: Tensor) -> Tensor:
            """h [K, H] of these nodes, before the layers on top of them."""
            merge = (node - n).clamp_min(0)
            both = read[trees.children[merge].flatten()].view(len(node), -1)
            merged = torch.relu(given[merge] + F.linear(both, pair))
            return torch.where((node < n)[:, None], leaves[node.clamp_max(n - 1)], merged)

        roots = trees.roots[trees.roots >= n]
        left, right = trees.children[roots - n].unbind(1)
        both = torch.cat((self.on_left(bare(left)), self.on_right(bare(right))), dim=1)
        top = torch.relu(given[roots - n] + F.linear(both, pair))
        single = at_roots(leaves, torch.where(trees.roots < n, trees.roots, -1))
        return single.to(top.dtype).index_copy(0, (trees.roots >= n).nonzero()[:, 0], top)


def _orthogonal(layer: nn.Linear) -> None:
    """Orthogonal weights for ReLU and zero biases."""
    nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("relu"))
    nn.init.zeros_(layer.bias)
