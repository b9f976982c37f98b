"""What a transformer makes of pairs: from the features of a pair to one attention bias a head (arXiv:2202.03772)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hepml.nn.norm import PackedBatchNorm


class PairEmbedding(nn.Module):
    """Pointwise network on pairs: batch norm, then (linear map, batch norm, GELU) for each width.

    Batch statistics are those of the pairs it is given: of real constituents, each pair once.

    Args:
        inputs: features of a pair.
        widths: units of each layer; the last is the number of heads.
        last_activation: whether the GELU of the last layer is applied.
    """

    def __init__(self, inputs: int, widths: Sequence[int], last_activation: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [PackedBatchNorm(inputs)]
        for a, b in pairwise((inputs, *widths)):
            layers += [nn.Linear(a, b), PackedBatchNorm(b), nn.GELU()]
        self.embed = nn.Sequential(*(layers if last_activation else layers[:-1]))

    def forward(self, features: Tensor) -> Tensor:
        """[T, inputs] to [T, heads]."""
        return self.embed(features)  # type: ignore[no-any-return]
