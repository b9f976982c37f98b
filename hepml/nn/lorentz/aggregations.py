"""Permutation-equivariant linear maps of rank-2 tensors T_ij over the particles of a jet (arXiv:2211.00454).

A linear map from rank 2 to rank 2 that commutes with permutations is a combination of fifteen: with r_i = sum_j T_ij, c_i = sum_j T_ji,
t = sum_i T_ii and s = sum_ij T_ij,

    1 T_ij   2 T_ji   3 δ_ij T_ii   4 T_jj   5 T_ii   6 δ_ij c_i   7 c_j   8 c_i   9 δ_ij r_i   10 r_j   11 r_i
    12 t   13 δ_ij t   14 s   15 δ_ij s.

All but the first two have one value a particle or a jet. So their channels are mixed there, once, and added to pairs; for pairs there is
one matrix product, with T_ij and T_ji side by side, where the definition has fifteen tensors of pairs.

A rank-2 tensor of packed jets is [M + P, C]: the diagonal of the M particles first, then the P pairs i ≠ j in the order of `Pairs`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.lorentz.pairs import Pairs
from hepml.nn.segments import segment_sum

Normalisation = Literal["mean", "sum"]


class Scales(nn.Module):
    """The factors by which sums over particles are multiplied, one for each aggregation and channel.

    For sums over N particles, r times: (N / N̄)^alpha / N^r with trainable alpha where the normalisation is `mean`, so that a mean may
    become a sum; 1 / N̄^r where it is `sum`.

    Args:
        channels: C.
        powers: r of each aggregation.
        normalisation: `mean` or `sum`.
        nodes: N̄, a typical number of particles.
        random: alpha starts uniform between 0 and 1, not at 0.
    """

    powers: Tensor

    def __init__(
        self, channels: int, powers: tuple[int, ...], normalisation: Normalisation, nodes: float, *, random: bool
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.register_buffer("powers", torch.tensor(powers, dtype=torch.float32)[:, None], persistent=False)
        start = torch.rand if random else torch.zeros
        size = (len(powers), channels)
        self.alphas = nn.Parameter(start(size)) if normalisation == "mean" else None

    def forward(self, counts: Tensor) -> Tensor:
        """Shapes: [B] -> [B, aggregations, C] (or 1 for C)."""
        if self.alphas is None:
            return (self.nodes**-self.powers).expand(len(counts), -1, -1)
        n = counts.clamp_min(1).to(self.alphas.dtype)[:, None, None]
        return (n / self.nodes) ** self.alphas / n**self.powers


class Aggregate1to2(nn.Module):
    """Rank 1 to rank 2: δ_ij x_i, x_j, x_i, δ_ij <x> and <x>, mixed. [M, C] -> [M + P, C']."""

    def __init__(self, inputs: int, outputs: int, normalisation: Normalisation = "mean", nodes: float = 49) -> None:
        super().__init__()
        self.scales = Scales(inputs, (0, 0, 0, 1, 1), normalisation, nodes, random=False)
        self.weight = nn.Parameter(torch.randn(5, inputs, outputs) * (2 / (5 * inputs)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, pairs: Pairs) -> Tensor:
        scale = self.scales(pairs.jets.diff())
        mean = segment_sum(x, pairs.jets)
        own, column, row = ((x * _spread(scale[:, k], pairs)) @ w for k, w in enumerate(self.weight[:3]))
        on_diagonal = own + _spread((mean * scale[:, 3]) @ self.weight[3], pairs)
        row = row + _spread(torch.addmm(self.bias, mean * scale[:, 4], self.weight[4]), pairs)
        return torch.cat((on_diagonal + row + column, row[pairs.receiver] + column[pairs.sender]))


class Aggregate2to2(nn.Module):
    """The fifteen aggregations of a rank-2 tensor, their channels mixed, with a bias and one for the diagonal. [M + P, C] -> [M + P, C'].

    The weight of input channel d, output channel e and aggregation b is A_db B_de + C_eb D_de, as in the published network: 15 (C + C') +
    2 C C' numbers instead of 15 C C'.
    """

    def __init__(self, inputs: int, outputs: int, normalisation: Normalisation = "mean", nodes: float = 49) -> None:
        super().__init__()
        self.scales = Scales(inputs, (1, 1, 1, 1, 1, 1, 1, 1, 2, 2), normalisation, nodes, random=True)
        self.input_basis = nn.Parameter(torch.randn(15, inputs) / 15**0.5)
        self.output_basis = nn.Parameter(torch.randn(15, outputs) / 15**0.5)
        self.input_mix, self.output_mix = (nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5) for _ in range(2))
        self.bias, self.diagonal_bias = (nn.Parameter(torch.zeros(outputs)) for _ in range(2))

    @property
    def weight(self) -> Tensor:
        """[15, C, C'], in the order of the aggregations."""
        left = self.input_basis[:, :, None] * self.input_mix
        return torch.addcmul(left, self.output_basis[:, None, :], self.output_mix)

    def forward(self, t: Tensor, pairs: Pairs) -> Tensor:
        w = dict(enumerate(self.weight, start=1))
        scale = self.scales(pairs.jets.diff())
        s = dict(enumerate(_spread(scale[:, :6], pairs).unbind(1), start=6))
        diagonal = t[: len(pairs.degree)]
        both = _with_reverse(t[len(diagonal) :], pairs)
        rows, columns = (x + diagonal for x in segment_sum(both, pairs.offsets).chunk(2, dim=1))
        trace, total = segment_sum(diagonal, pairs.jets), segment_sum(rows, pairs.jets)

        def of_nodes(first: Tensor, column: int, row: int) -> Tensor:
            x = torch.cat((diagonal, columns * s[column], rows * s[row]), dim=1)
            return x @ torch.cat((first, w[column], w[row]))

        def of_jets(bias: Tensor, trace_: int, total_: int) -> Tensor:
            x = torch.cat((trace * scale[:, trace_ - 6], total * scale[:, total_ - 6]), dim=1)
            return _spread(torch.addmm(bias, x, torch.cat((w[trace_], w[total_]))), pairs)

        receiver = of_nodes(w[5], 8, 11) + of_jets(self.bias, 12, 14)
        sender = of_nodes(w[4], 7, 10)
        on_diagonal = of_nodes(w[1] + w[2] + w[3], 6, 9) + of_jets(self.diagonal_bias, 13, 15) + receiver + sender
        return _mixed(both, torch.cat((w[1], w[2])), receiver, sender, on_diagonal, pairs)


class Aggregate2to0(nn.Module):
    """Rank 2 to one vector a jet: s and t, activated, their channels mixed. [M + P, C] -> [B, C']."""

    def __init__(self, inputs: int, outputs: int, normalisation: Normalisation = "mean", nodes: float = 49) -> None:
        super().__init__()
        self.scales = Scales(inputs, (2, 1), normalisation, nodes, random=True)
        self.weight = nn.Parameter(torch.randn(2 * inputs, outputs) * (2 / inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, t: Tensor, pairs: Pairs) -> Tensor:
        nodes = len(pairs.degree)
        trace = segment_sum(t[:nodes], pairs.jets)
        total = trace + segment_sum(t[nodes:], pairs.offsets[pairs.jets])
        x = torch.stack((total, trace), dim=1) * self.scales(pairs.jets.diff())
        return torch.addmm(self.bias, F.leaky_relu(x).flatten(1), self.weight)


def _spread(values: Tensor, pairs: Pairs) -> Tensor:
    """The value of its jet for each node. Shapes: [B, ...] -> [M, ...]."""
    return torch.repeat_interleave(values, pairs.jets.diff(), dim=0, output_size=len(pairs.degree))


def _with_reverse(off: Tensor, pairs: Pairs) -> Tensor:
    """T_ij and T_ji side by side. Shapes: [P, C] -> [P, 2 C]."""
    return _WithReverse.apply(off, pairs.reverse)  # type: ignore[no-any-return]


class _WithReverse(torch.autograd.Function):
    """Reversing twice is doing nothing: the backward pass is a gather too."""

    @staticmethod
    def forward(ctx: Any, off: Tensor, reverse: Tensor) -> Tensor:
        ctx.save_for_backward(reverse)
        return torch.cat((off, off.index_select(0, reverse)), dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (reverse,) = ctx.saved_tensors
        own, other = gradients[0].chunk(2, dim=1)
        return own + other.index_select(0, reverse), None


def _mixed(both: Tensor, weight: Tensor, receiver: Tensor, sender: Tensor, diagonal: Tensor, pairs: Pairs) -> Tensor:
    """[diagonal; both W + receiver_i + sender_j]. Shapes: [P, 2 C], [2 C, C'], [M, C'] three times -> [M + P, C']."""
    device = both.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else both.dtype
    given = (x.to(dtype) for x in (both, weight, receiver, sender, diagonal))
    with torch.autocast(device, enabled=False):
        return _Mixed.apply(*given, pairs)  # type: ignore[no-any-return]


class _Mixed(torch.autograd.Function):
    """One pass over pairs each way; sums over the pairs of a node are sums over contiguous rows, or over those of the reversed pairs."""

    @staticmethod
    def forward(
        ctx: Any, both: Tensor, weight: Tensor, receiver: Tensor, sender: Tensor, diagonal: Tensor, pairs: Pairs
    ) -> Tensor:
        ctx.save_for_backward(both, weight)
        ctx.pairs = pairs
        out = torch.empty((len(diagonal) + len(both), weight.shape[1]), dtype=both.dtype, device=both.device)
        out[: len(diagonal)] = diagonal
        off = out[len(diagonal) :]
        torch.index_select(receiver, 0, pairs.receiver, out=off)
        off.add_(sender.index_select(0, pairs.sender)).addmm_(both, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        both, weight = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        diagonal, off = gradients[0].split((len(pairs.degree), len(both)))
        receiver = segment_sum(off, pairs.offsets)
        sender = torch.zeros_like(receiver)
        if len(off):
            sender = F.embedding_bag(pairs.reverse, off, pairs.offsets, mode="sum", include_last_offset=True)
        return off @ weight.T, both.T @ off, receiver, sender, diagonal, None
