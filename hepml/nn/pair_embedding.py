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
from hepml.packed.rectangle import masking_value
from hepml.packed.rectangular import mask_behind

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
        evaluation = not torch.is_grad_enabled() and not self._norms[0].training
        if evaluation and kernels.allows("pieces", features, autocast=True):
            return self._folded(features)
        return self.embed(features)

    @property
    def _norms(self) -> list[PackedBatchNorm]:
        return [m for m in self.embed if isinstance(m, PackedBatchNorm)]

    @property
    def _maps(self) -> list[nn.Linear]:
        return [m for m in self.embed if isinstance(m, nn.Linear)]

    def _folded(self, features: Tensor) -> Tensor:
        """In evaluation: norms folded into the linear maps, few pairs at a time on a CPU."""
        gain, bias = self._norms[0].gain_and_bias()
        maps = []
        for layer, norm in zip(self._maps, self._norms[1:], strict=True):
            scale, shift = norm.gain_and_bias()
            weight = scale[:, None] * layer.weight
            maps.append((weight * gain, weight @ bias + scale * layer.bias + shift))
            gain, bias = torch.ones_like(shift), torch.zeros_like(shift)
        parts = []
        for start in range(0, max(1, len(features)), PIECE):
            h = features[start : start + PIECE]
            for i, (weight, offset) in enumerate(maps):
                h = F.linear(h, weight, offset)
                if i + 1 < len(maps) or self.last_activation:
                    h = F.gelu(h)
            parts.append(h)
        return torch.cat(parts)


def pair_bias(table: Tensor, offsets: Tensor, width: int) -> Tensor:
    """A number a pair and head as an additive attention bias, very negative where the key is padding.

    Args:
        table: [T, H] of the pairs of these jets alone, as `hepml.packed.pairs.SymmetricPairs` orders them.
        offsets: [B + 1] of these jets.
        width: P, constituents of the rectangle.

    Returns:
        [B, H, P, P].
    """
    mask = mask_behind(offsets)
    if mask is not None:
        square = table.view(mask.shape[0], width, width, table.shape[1]).permute(0, 3, 1, 2)
        return square.masked_fill(~mask[:, None, None], masking_value(table.dtype))
    counts = offsets.diff()
    at = torch.arange(width, device=table.device)
    low, high = torch.minimum(at[:, None], at), torch.maximum(at[:, None], at)
    per_jet = counts * (counts + 1) // 2
    cells = (per_jet.cumsum(0) - per_jet)[:, None, None] + high * (high + 1) // 2 + low
    cells = torch.where(high < counts[:, None, None], cells, len(table))
    padded = F.pad(table, (0, 0, 0, 1), value=masking_value(table.dtype))
    return padded.index_select(0, cells.flatten()).view(*cells.shape, -1).permute(0, 3, 1, 2).contiguous()
