"""The maps of rank-2 tensors of `hepml.nn.lorentz.aggregations` on plain matrices [B, N, N, C] with a mask:
what is left when no length may depend on the data, as in an exported graph.

The weights are those of the modules; only the layout differs. Nothing of an absent particle enters a sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.nn.lorentz.aggregations import Aggregate1to2, Aggregate2to0, Aggregate2to2
from hepml.nn.norm import PackedBatchNorm


def pairs_of(mask: Tensor) -> Tensor:
    """Which pairs are there. Shapes: [B, N] -> [B, N, N, 1]."""
    return (mask[:, :, None] & mask[:, None, :])[..., None]


def one_to_two(layer: Aggregate1to2, x: Tensor, mask: Tensor) -> Tensor:
    """Shapes: [B, N, C], [B, N] -> [B, N, N, C']."""
    scale = layer.scales(mask.sum(1))
    whole = x.masked_fill(~mask[..., None], 0.0).sum(1)
    own, column, row = ((x * scale[:, None, k]) @ w for k, w in enumerate(layer.weight[:3]))
    diagonal = own + ((whole * scale[:, 3]) @ layer.weight[3])[:, None]
    row = row + ((whole * scale[:, 4]) @ layer.weight[4] + layer.bias)[:, None]
    out: Tensor = row[:, :, None] + column[:, None, :] + _on_diagonal(diagonal)
    return out


def two_to_two(layer: Aggregate2to2, t: Tensor, mask: Tensor) -> Tensor:
    """Shapes: [B, N, N, C], [B, N] -> [B, N, N, C']."""
    scale = layer.scales(mask.sum(1))
    w, s = dict(enumerate(layer.weight, start=1)), dict(enumerate(scale.unbind(1), start=6))
    t = t.masked_fill(~pairs_of(mask), 0.0)
    own, rows, columns = diagonal_of(t), t.sum(2), t.sum(1)
    trace, total = own.sum(1), rows.sum(1)

    def of_particles(first: Tensor, column: int, row: int) -> Tensor:
        out: Tensor = (
            own @ first + (columns * s[column][:, None]) @ w[column] + (rows * s[row][:, None]) @ w[row]
        )
        return out

    def of_jets(bias: Tensor, trace_: int, total_: int) -> Tensor:
        out: Tensor = ((trace * s[trace_]) @ w[trace_] + (total * s[total_]) @ w[total_] + bias)[:, None]
        return out

    receiver = of_particles(w[5], 8, 11) + of_jets(layer.bias, 12, 14)
    sender = of_particles(w[4], 7, 10)
    diagonal = of_particles(w[3], 6, 9) + of_jets(layer.diagonal_bias, 13, 15)
    pairs = t @ w[1] + t.transpose(1, 2) @ w[2]
    out: Tensor = pairs + receiver[:, :, None] + sender[:, None, :] + _on_diagonal(diagonal)
    return out


def two_to_zero(layer: Aggregate2to0, t: Tensor, mask: Tensor) -> Tensor:
    """Shapes: [B, N, N, C], [B, N] -> [B, C']."""
    t = t.masked_fill(~pairs_of(mask), 0.0)
    trace, total = diagonal_of(t).sum(1), t.sum((1, 2))
    x = torch.stack((total, trace), dim=1) * layer.scales(mask.sum(1))
    return torch.addmm(layer.bias, F.leaky_relu(x).flatten(1), layer.weight)


def normalised(norm: PackedBatchNorm, t: Tensor) -> Tensor:
    """Batch normalisation as in evaluation. Shapes: [B, N, N, C], kept."""
    gain, bias = norm.gain_and_bias()
    return t * gain + bias


def diagonal_of(t: Tensor) -> Tensor:
    """T_ii. Shapes: [B, N, N, C] -> [B, N, C]."""
    one = torch.eye(t.shape[1], dtype=t.dtype, device=t.device)[..., None]
    return (t * one).sum(2)


def _on_diagonal(x: Tensor) -> Tensor:
    """δ_ij x_i. Shapes: [B, N, C] -> [B, N, N, C]."""
    return x[:, :, None] * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[..., None]
