"""Permutation-equivariant linear maps of rank-2 tensors T_ij over the particles of a jet (arXiv:2211.00454).

A linear map from rank 2 to rank 2 that commutes with permutations is a combination of fifteen: with r_i =
sum_j T_ij, c_i = sum_j T_ji, t = sum_i T_ii and s = sum_ij T_ij,

    1 T_ij   2 T_ji   3 δ_ij T_ii   4 T_jj   5 T_ii   6 δ_ij c_i   7 c_j   8 c_i   9 δ_ij r_i   10 r_j
    11 r_i
    12 t   13 δ_ij t   14 s   15 δ_ij s.

All but the first two have one value a particle or a jet. So their channels are mixed there, once, and added
to pairs; for pairs there is one matrix product for T_ij + T_ji and one for T_ij - T_ji, where the definition
has fifteen tensors of pairs.

A rank-2 tensor of packed jets is [M + 2 U, C], in the layout of `Halves`: the diagonal of the M particles,
then T_ij and T_ji of the U unordered pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.packed.halves import Halves
from hepml.packed.rectangular import spread
from hepml.packed.segments import segment_sum

Normalisation = Literal["mean", "sum"]


class Scales(nn.Module):
    """The factors by which sums over particles are multiplied, one for each aggregation and channel.

    For sums over N particles, r times: (N / N̄)^alpha / N^r with trainable alpha where the normalisation
    is `mean`, so that a mean may become a sum; 1 / N̄^r where it is `sum`.

    Args:
        channels: C.
        powers: r of each aggregation.
        normalisation: `mean` or `sum`.
        nodes: N̄, a typical number of particles.
        random: alpha starts uniform between 0 and 1, not at 0.
    """

    powers: Tensor

    def __init__(
        self,
        channels: int,
        powers: tuple[int, ...],
        normalisation: Normalisation,
        nodes: float,
        *,
        random: bool,
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
    """Rank 1 to rank 2: δ_ij x_i, x_j, x_i, δ_ij <x> and <x>, mixed. [M, C] -> [M + 2 U, C']."""

    def __init__(
        self, inputs: int, outputs: int, normalisation: Normalisation = "mean", nodes: float = 49
    ) -> None:
        super().__init__()
        self.scales = Scales(inputs, (0, 0, 0, 1, 1), normalisation, nodes, random=False)
        self.weight = nn.Parameter(torch.randn(5, inputs, outputs) * (2 / (5 * inputs)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, halves: Halves) -> Tensor:
        scale = self.scales(halves.offsets.diff())
        mean = segment_sum(x, halves.offsets)
        own, column, row = (
            (x * spread(scale[:, k], halves.offsets, len(x))) @ w for k, w in enumerate(self.weight[:3])
        )
        on_diagonal = own + spread((mean * scale[:, 3]) @ self.weight[3], halves.offsets, len(x))
        of_jet = torch.addmm(self.bias, mean * scale[:, 4], self.weight[4])
        row = row + spread(of_jet, halves.offsets, len(x))
        first, second = halves.first, halves.second
        return torch.cat(
            (
                on_diagonal + row + column,
                row.index_select(0, first) + column.index_select(0, second),
                row.index_select(0, second) + column.index_select(0, first),
            )
        )


class Aggregate2to2(nn.Module):
    """The fifteen aggregations of a rank-2 tensor, their channels mixed, with a bias and one for the
    diagonal.

    Shapes: [M + 2 U, C] -> [M + 2 U, C'].

    The weight of input channel d, output channel e and aggregation b is A_db B_de + C_eb D_de, as in the
    published network: 15 (C + C') + 2 C C' numbers instead of 15 C C'.
    """

    def __init__(
        self, inputs: int, outputs: int, normalisation: Normalisation = "mean", nodes: float = 49
    ) -> None:
        super().__init__()
        self.scales = Scales(inputs, (1, 1, 1, 1, 1, 1, 1, 1, 2, 2), normalisation, nodes, random=True)
        self.input_basis = nn.Parameter(torch.randn(15, inputs) / 15**0.5)
        self.output_basis = nn.Parameter(torch.randn(15, outputs) / 15**0.5)
        self.input_mix, self.output_mix = (
            nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5) for _ in range(2)
        )
        self.bias, self.diagonal_bias = (nn.Parameter(torch.zeros(outputs)) for _ in range(2))

    @property
    def weight(self) -> Tensor:
        """[15, C, C'], in the order of the aggregations."""
        left = self.input_basis[:, :, None] * self.input_mix
        return torch.addcmul(left, self.output_basis[:, None, :], self.output_mix)

    def bases(self) -> tuple[Tensor, ...]:
        """What `weight` is made of."""
        return self.input_basis, self.output_basis, self.input_mix, self.output_mix

    def forward(self, t: Tensor, halves: Halves) -> Tensor:
        diagonal, up, down = t.split((halves.nodes, len(halves), len(halves)))
        off = t[halves.nodes :]
        weight = self.weight
        receiver, sender, own = self.of_particles(
            diagonal, halves.received(off) + diagonal, halves.sent(off) + diagonal, halves.offsets, weight
        )
        even = ((up + down) @ (weight[0] + weight[1]) + halves.sums(receiver + sender)) / 2
        odd = ((up - down) @ (weight[0] - weight[1]) + halves.differences(receiver - sender)) / 2
        return torch.cat((own, even + odd, even - odd))

    def of_particles(
        self, diagonal: Tensor, rows: Tensor, columns: Tensor, offsets: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What T_ij gets of i and of j, and the whole diagonal, without what pairs get of pairs.

        Shapes: T_ii, r and c [M, C], offsets [B + 1], `weight` -> [M, C'] three times.
        """
        w = dict(enumerate(weight, start=1))
        scale = self.scales(offsets.diff())
        s = dict(enumerate(spread(scale[:, :6], offsets, len(diagonal)).unbind(1), start=6))
        trace, total = segment_sum(diagonal, offsets), segment_sum(rows, offsets)

        def of_nodes(first: Tensor, column: int, row: int) -> Tensor:
            x = torch.cat((diagonal, columns * s[column], rows * s[row]), dim=1)
            return x @ torch.cat((first, w[column], w[row]))

        def of_jets(bias: Tensor, trace_: int, total_: int) -> Tensor:
            x = torch.cat((trace * scale[:, trace_ - 6], total * scale[:, total_ - 6]), dim=1)
            return spread(torch.addmm(bias, x, torch.cat((w[trace_], w[total_]))), offsets, len(diagonal))

        receiver = of_nodes(w[5], 8, 11) + of_jets(self.bias, 12, 14)
        sender = of_nodes(w[4], 7, 10)
        own = of_nodes(w[1] + w[2] + w[3], 6, 9) + of_jets(self.diagonal_bias, 13, 15) + receiver + sender
        return receiver, sender, own


class Aggregate2to0(nn.Module):
    """Rank 2 to one vector a jet: s and t, activated, their channels mixed. [M + 2 U, C] -> [B, C']."""

    def __init__(
        self, inputs: int, outputs: int, normalisation: Normalisation = "mean", nodes: float = 49
    ) -> None:
        super().__init__()
        self.scales = Scales(inputs, (2, 1), normalisation, nodes, random=True)
        self.weight = nn.Parameter(torch.randn(2 * inputs, outputs) * (2 / inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, t: Tensor, halves: Halves) -> Tensor:
        trace = segment_sum(t[: halves.nodes], halves.offsets)
        total = trace + halves.of_jets(t[halves.nodes :])
        x = torch.stack((total, trace), dim=1) * self.scales(halves.offsets.diff())
        return torch.addmm(self.bias, F.leaky_relu(x).flatten(1), self.weight)
