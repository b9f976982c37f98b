"""EdgeConv on packed constituents (arXiv:1801.07829, as used by ParticleNet, arXiv:1902.08570).

    out_i = ReLU( S x_i + mean_{j in N(i)} h(x_i, x_j - x_i) ),
    h = three times (linear map, batch norm, ReLU)

The first linear map of h is linear in the pair, W [x_i, x_j - x_i] = (W1 - W2) x_i + W2 x_j, so it is done
once for each constituent, not for each of its k edges, and gathered. Edges exist for real constituents only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn import kernels
from hepml.nn.kernels.edge_messages import edge_messages
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.rectangular import Present

# Edges taken at a time in evaluation, for each thread.
_EDGES = 1024


class EdgeConv(nn.Module):
    """One EdgeConv block with a shortcut.

    Args:
        inputs: columns of x.
        widths: units of the layers of h; the last is the width of the result.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [2 * inputs, *widths]
        self.convs = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.bns = nn.ModuleList(PackedBatchNorm(b) for b in widths)
        self.sc = nn.Linear(inputs, widths[-1], bias=False) if inputs != widths[-1] else None
        self.sc_bn = PackedBatchNorm(widths[-1]) if self.sc is not None else None

    def forward(self, x: Tensor, neighbours: Tensor, present: Present | None = None) -> Tensor:
        """One step of message passing.

        Args:
            x: [M, inputs].
            neighbours: [M, k] rows of x; M stands for an absent neighbour, whose features are zero.
            present: which rows there are, of jets in a rectangle; others gather no messages.

        Returns:
            [M, widths[-1]].
        """
        own, other = self._layers[0][0].weight.chunk(2, dim=1)
        a, b = F.linear(x, own - other), F.linear(x, other)
        if present is not None:
            mean = present.spread(self._messages_folded(a[present.rows], b, neighbours[present.rows]))
        elif self._in_pieces(a, neighbours):
            mean = self._messages_in_pieces(a, b, neighbours)
        elif not self.training and not torch.is_grad_enabled() and kernels.allows("pieces", a, autocast=True):
            mean = self._messages_folded(a, b, neighbours)
        else:
            mean = self.messages(a, b, neighbours)
        shortcut = x if self.sc is None or self.sc_bn is None else self.sc_bn(self.sc(x))
        return torch.relu(shortcut + mean)

    @property
    def _layers(self) -> list[tuple[nn.Linear, PackedBatchNorm]]:
        return list(zip(self.convs, self.bns, strict=True))  # type: ignore[arg-type]

    def messages(self, a: Tensor, b: Tensor, neighbours: Tensor) -> Tensor:
        """mean_{j in N(i)} h, [M, widths[-1]], from the first linear map at i and at j, each [M, widths[0]]:
        the plain definition."""
        k = neighbours.shape[1]
        b = F.pad(b, (0, 0, 0, 1))  # the row of the absent neighbour
        h = (a[:, None] + b[neighbours.flatten()].view(a.shape[0], k, b.shape[1])).flatten(0, 1)
        h = torch.relu(self._layers[0][1](h))
        for conv, bn in self._layers[1:]:
            h = torch.relu(bn(conv(h)))
        return h.view(a.shape[0], k, h.shape[1]).mean(dim=1)

    def _in_pieces(self, a: Tensor, neighbours: Tensor) -> bool:
        """Whether the cache-sized training path applies: training on a CPU, eager, with norms that all learn
        from this rank's edges or are all held fixed."""
        half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16
        return (
            self.training
            and torch.is_grad_enabled()
            and kernels.allows("edge_messages", a, autocast=True)
            and self._layers[0][0].weight.dtype in (torch.float32, torch.float64)
            and not half
            and len(self.convs) > 1
            and len({bn.training for _, bn in self._layers}) == 1
            and not any(bn.synchronised and bn.training for _, bn in self._layers)
            and neighbours.numel() > 1
        )

    def _messages_in_pieces(self, a: Tensor, b: Tensor, neighbours: Tensor) -> Tensor:
        exact = a.dtype if a.dtype == torch.float64 else torch.float32
        learning = self._layers[0][1].training
        known = [(bn.running_mean, bn.running_var) for _, bn in self._layers]
        mean, statistics = edge_messages(
            a.to(exact),
            b.to(exact),
            neighbours,
            [conv.weight for conv, _ in self._layers[1:]],
            [(bn.weight, bn.bias) for _, bn in self._layers],
            self._layers[0][1].eps,
            None if learning else known,  # type: ignore[arg-type]
        )
        if not learning:
            return mean
        for (_, bn), (average, variance) in zip(self._layers, statistics, strict=True):
            bn.remember(average, variance, neighbours.numel())
        return mean

    def _messages_folded(self, a: Tensor, b: Tensor, neighbours: Tensor) -> Tensor:
        """`messages` in evaluation: norms folded into the linear maps, few constituents at a time so that
        their edges stay in the cache."""
        k = neighbours.shape[1]
        gain, bias = self._layers[0][1].gain_and_bias()
        own = torch.addcmul(bias, a, gain).to(a.dtype)
        other = F.pad((b * gain).to(b.dtype), (0, 0, 0, 1))
        maps = []
        for conv, bn in self._layers[1:]:
            gain, bias = bn.gain_and_bias()
            maps.append((gain[:, None] * conv.weight, bias))

        def mean(own: Tensor, near: Tensor) -> Tensor:
            rows = own.shape[0]
            h = other[near.flatten()].view(rows, k, other.shape[1]).add_(own[:, None]).flatten(0, 1).relu_()
            for weight, bias in maps:
                h = F.linear(h, weight, bias).relu_()
            return h.view(rows, k, h.shape[1]).mean(dim=1)

        if torch.compiler.is_compiling():
            return mean(own, neighbours)
        step = max(1, _EDGES * torch.get_num_threads() // k)
        parts = [mean(own[n : n + step], neighbours[n : n + step]) for n in range(0, a.shape[0], step)]
        return torch.cat(parts) if parts else a.new_zeros((0, self._layers[-1][0].out_features))
