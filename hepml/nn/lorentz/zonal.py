"""Messages of irreps between the particles of a jet, weighted by zonal functions of the difference of their
momenta (arXiv:2006.04780).

    message_i = sum_j [R0(n_ij) F_j  +  R1(n_ij) (p_i - p_j) (x) F_j],   n_ij = ±|(p_i - p_j)²|^½

with learnt complex functions R0, R1 of the invariant distance for each channel. Since R1 is a number, (p_i -
p_j) (x) F_j splits into p_i (x) sum_j R1 F_j - sum_j R1 (p_j (x) F_j): products are made for particles, never
for pairs, and what remains for pairs is a matrix product. Pairs i, j and j, i share R. Jets of similar size
are taken together, so that next to nothing is padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.kinematics import root
from hepml.nn.lorentz.clebsch_gordan import decomposition, products
from hepml.nn.lorentz.irreps import Irrep, dimension
from hepml.nn.lorentz.products import gram_matrix
from hepml.packed.rectangle import rows_in_dense, to_dense

VECTOR: Irrep = (1, 1)
Features = dict[Irrep, Tensor]  # [C, M, d] complex each

# Pairs of the jets that are taken together.
_PAIRS = {"cpu": 2**16}
_PAIRS_ELSEWHERE = 2**22


def groups_of_similar_size(counts: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of jets to take together, from counts [B] in ascending order: within a quarter of the same size,
    and not too many pairs."""
    if not len(counts):
        return
    share = torch.div(
        counts.square().cumsum(0), _PAIRS.get(counts.device.type, _PAIRS_ELSEWHERE), rounding_mode="floor"
    )
    size = (counts.clamp_min(4).log() / math.log(1.25)).floor().long()
    cuts = torch.nonzero((share.diff() > 0) | (size.diff() > 0))[:, 0] + 1
    yield from pairwise([0, *cuts.tolist(), len(counts)])


@dataclass(frozen=True, eq=False)
class Distances:
    """The invariant distances of all pairs of a few jets.

    Args:
        rows: [M] where each node stands in the jets' rectangle [B · W].
        jets, width: B and W.
        values: [B, T] n_ij of the T = W (W - 1) / 2 pairs i < j; of no meaning where a node is absent.
        pair: [W, W] the column of `values` of each pair, T on the diagonal.
        linked: [B, T + 1] the pairs whose weight depends on their distance, where others (with a particle
            that is absent or at distance 0, and that of each particle with itself, the last column) have
            a constant one; None where each particle receives from all others and all are linked. `values`
            then have a last column too.
        copies: [M] how many senders each node stands for; None for 1.
    """

    rows: Tensor
    jets: int
    width: int
    values: Tensor
    pair: Tensor
    linked: Tensor | None = None
    copies: Tensor | None = None

    @classmethod
    def of(
        cls,
        x: Tensor,
        offsets: Tensor,
        width: int,
        exact: Tensor | None,
        scale: float,
        dtype: torch.dtype,
        copies: Tensor | None = None,
    ) -> Distances:
        """From momenta [M, 4] packed by `offsets`, times `scale`; the largest jet has `width` of them, and
        `exact` [M] marks vectors that were never rounded. With `copies`, nodes at zero momentum are absent
        particles, which take part."""
        dense = to_dense(x, offsets, width)
        if exact is not None:
            exact = to_dense(exact[:, None], offsets, width, fill=False)[..., 0]
        gram = gram_matrix(dense, exact)
        i, j = torch.triu_indices(width, width, 1, device=x.device)
        own = gram.diagonal(dim1=-2, dim2=-1)
        square = own[:, i] + own[:, j] - 2 * gram[:, i, j]
        pair = torch.full((width, width), len(i), device=x.device)
        pair[i, j] = pair[j, i] = torch.arange(len(i), device=x.device)
        values = square.sign() * root(square.abs()) * scale
        values, linked = values.to(dtype), None
        if copies is not None:
            present = dense[..., 0] != 0
            linked = F.pad(present[:, i] & present[:, j] & (square != 0), (0, 1))
            values = F.pad(values, (0, 1))
        return cls(
            rows_in_dense(offsets, width, len(x)), len(offsets) - 1, width, values, pair, linked, copies
        )

    def matrices(self, values: Tensor) -> Tensor:
        """[B, W, W] matrices from values of pairs [B, K, T] (zero diagonal, but where there is a last column
        for it) -> [K, B, W, W]."""
        values = values.transpose(0, 1)
        if self.linked is None:
            values = F.pad(values, (0, 1))
        out: Tensor = values.index_select(-1, self.pair.flatten()).unflatten(-1, self.pair.shape)
        return out

    def sums(self, weights: Tensor, features: Tensor) -> Tensor:
        """sum_j weights_ij features_j. Shapes: [C, B, W, W], [C, M, D] -> [C, M, D]."""
        channels, size = features.shape[0], features.shape[-1]
        if self.copies is not None:
            features = features * self.copies[:, None]
        dense = features.new_zeros((channels, self.jets * self.width, size)).index_copy(
            1, self.rows, features
        )
        dense = weights @ dense.view(channels, self.jets, self.width, size)
        return dense.flatten(1, 2).index_select(1, self.rows)


class RadialFunctions(nn.Module):
    """R0 and R1 of every channel: complex linear maps of 2 · basis bells b / (1 + (c n)²) + a.

    Args:
        channels: C.
        basis: half the number of bells.
    """

    def __init__(self, channels: int, basis: int) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.randn(2 * basis)) for _ in range(3))
        self.zeroth, self.first = (nn.Linear(2 * basis, 2 * channels) for _ in range(2))

    def forward(self, norms: Tensor, linked: Tensor | None = None) -> Tensor:
        """Shapes: [B, T], [B, T] bool -> [B, 2 C, T] complex, R0 of all channels, then R1; the constants
        alone where pairs are not linked."""
        bells = torch.addcdiv(self.a, self.b, 1 + (self.c * norms[..., None]).square())
        if linked is not None:
            bells = bells * linked[..., None]
        weight = torch.cat((self.zeroth.weight, self.first.weight))
        bias = torch.cat((self.zeroth.bias, self.first.bias))
        values = F.linear(bells, weight, bias).unflatten(-1, (-1, 2))
        return torch.view_as_complex(values).transpose(1, 2)


def message_types(irreps: list[Irrep], largest: int) -> dict[Irrep, int]:
    """How many messages of each irrep `zonal_messages` makes."""
    types = dict.fromkeys(irreps, 1)
    for irrep in irreps:
        for result in decomposition(VECTOR, irrep, largest):
            types[result] = types.get(result, 0) + 1
    return types


def zonal_messages(
    features: Features, vectors: Tensor, weights: Tensor, distances: Distances, largest: int
) -> dict[Irrep, list[Tensor]]:
    """The messages that every node receives, by irrep, those with R0 first.

    Args:
        features: F of M nodes, [C, M, d] complex.
        vectors: [M, 4] complex, the momenta as vectors of (1, 1).
        weights: [B, 2 C, T] complex, from `RadialFunctions`.
        distances: the distances of the pairs.
        largest: irreps with m or n above it are left out.
    """
    irreps = list(features)
    zeroth, first = distances.matrices(weights).chunk(2)
    everything = torch.cat(list(features.values()), dim=-1)
    results = {irrep: tuple(decomposition(VECTOR, irrep, largest)) for irrep in irreps}
    messages = [products(vectors, features[irrep], VECTOR, irrep, results[irrep]) for irrep in irreps]
    carried = [part for parts in messages for part in parts]
    plain = distances.sums(zeroth, everything)
    moved = distances.sums(first, torch.cat((everything, *carried), dim=-1))
    sizes = [dimension(irrep) for irrep in irreps]
    out = {irrep: [part] for irrep, part in zip(irreps, plain.split(sizes, dim=-1), strict=True)}
    own, others = moved.split((sum(sizes), moved.shape[-1] - sum(sizes)), dim=-1)
    subtrahends = iter(others.split([part.shape[-1] for part in carried], dim=-1))
    for irrep, part in zip(irreps, own.split(sizes, dim=-1), strict=True):
        for result, here in zip(
            results[irrep], products(vectors, part, VECTOR, irrep, results[irrep]), strict=True
        ):
            out.setdefault(result, []).append(here - next(subtrahends))
    return out
