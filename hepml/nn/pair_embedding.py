"""What a transformer makes of pairs: from the features of a pair to one attention bias a head
(arXiv:2202.03772)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn import kernels
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.pairs import SymmetricPairs
from hepml.packed.rectangle import masking_value

# Pairs taken at a time in evaluation on a CPU: 1 MB of 64 columns in float32.
PIECE = 4096


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
        self.last_activation = last_activation

    def forward(self, features: Tensor) -> Tensor:
        """[T, inputs] to [T, heads]."""
        evaluation = not self._norms[0].training
        if evaluation and torch.compiler.is_compiling():
            return self._mapped(features, self._folded)
        if evaluation and not torch.is_grad_enabled() and kernels.allows("pieces", features, autocast=True):
            maps, starts = self._folded, range(0, max(1, len(features)), PIECE)
            return torch.cat([self._mapped(features[n : n + PIECE], maps) for n in starts])
        out: Tensor = self.embed(features)
        return out

    @property
    def _norms(self) -> list[PackedBatchNorm]:
        return [m for m in self.embed if isinstance(m, PackedBatchNorm)]

    @property
    def _maps(self) -> list[nn.Linear]:
        return [m for m in self.embed if isinstance(m, nn.Linear)]

    @property
    def _folded(self) -> list[tuple[Tensor, Tensor]]:
        """In evaluation: the linear maps with the norms folded into them."""
        gain, bias = self._norms[0].gain_and_bias()
        maps = []
        for layer, norm in zip(self._maps, self._norms[1:], strict=True):
            scale, shift = norm.gain_and_bias()
            weight = scale[:, None] * layer.weight
            maps.append((weight * gain, weight @ bias + scale * layer.bias + shift))
            gain, bias = torch.ones_like(shift), torch.zeros_like(shift)
        return maps

    def _mapped(self, h: Tensor, maps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for i, (weight, offset) in enumerate(maps):
            h = F.linear(h, weight, offset)
            if i + 1 < len(maps) or self.last_activation:
                h = F.gelu(h)
        return h


def pair_bias(table: Tensor, offsets: Tensor, width: int) -> Tensor:
    """A number a pair and head as an additive attention bias, very negative where the key is padding.

    Args:
        table: [T, H] of the pairs of these jets alone, as `hepml.packed.pairs.SymmetricPairs` orders them.
        offsets: [B + 1] of these jets.
        width: P, constituents of the rectangle.

    Returns:
        [B, H, P, P].
    """
    cells = SymmetricPairs.in_squares(offsets, width, table.shape[0])
    padded = F.pad(table, (0, 0, 0, 1), value=masking_value(table.dtype))
    square = padded.index_select(0, cells.flatten()).view(*cells.shape, table.shape[1])
    return square.permute(0, 3, 1, 2).contiguous()
