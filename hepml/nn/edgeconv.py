"""EdgeConv on packed constituents (arXiv:1801.07829, as used by ParticleNet, arXiv:1902.08570).

    out_i = ReLU( S x_i + mean_{j in N(i)} h(x_i, x_j - x_i) ),   h = three times (linear map, batch norm, ReLU)

The first linear map of h is linear in the pair, W [x_i, x_j - x_i] = (W1 - W2) x_i + W2 x_j, so it is done once for each constituent, not
for each of its k edges, and gathered. Edges exist for real constituents only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.norm import PackedBatchNorm


class EdgeConv(nn.Module):
    """One EdgeConv block with a shortcut.

    Args:
        inputs: columns of x.
        widths: units of the layers of h; the last is the width of the result.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [2 * inputs, *widths]
        self.convs = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.bns = nn.ModuleList(PackedBatchNorm(b) for b in widths)
        self.sc = nn.Linear(inputs, widths[-1], bias=False) if inputs != widths[-1] else None
        self.sc_bn = PackedBatchNorm(widths[-1]) if self.sc is not None else None

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """One step of message passing.

        Args:
            x: [M, inputs].
            neighbours: [M, k] rows of x; M stands for an absent neighbour, whose features are zero.

        Returns:
            [M, widths[-1]].
        """
        k = neighbours.shape[1]
        own, other = self.convs[0].weight.chunk(2, dim=1)
        at_i = F.linear(x, own - other)
        at_j = F.pad(F.linear(x, other), (0, 0, 0, 1))  # the row of the absent neighbour
        h = (at_i[:, None] + at_j[neighbours.flatten()].view(len(x), k, -1)).flatten(0, 1)
        h = torch.relu(self.bns[0](h))
        for conv, bn in zip(self.convs[1:], self.bns[1:], strict=True):
            h = torch.relu(bn(conv(h)))
        mean = h.view(len(x), k, -1).mean(dim=1)
        shortcut = x if self.sc is None or self.sc_bn is None else self.sc_bn(self.sc(x))
        return torch.relu(shortcut + mean)
