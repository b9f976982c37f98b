"""Functions of rows taken for a few jets at a time on a CPU, so that what they make stays in the cache."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from hepml.nn.kernels.gate import allows
from hepml.packed.segments import segment_sum

# Rows taken at a time.
_ROWS = 4096


def sum_of(function: Callable[[Tensor], Tensor], values: Tensor, offsets: Tensor) -> Tensor:
    """sum_{i in jet b} function(values_i): `segment_sum(function(values), offsets)`, on a CPU taken for a few
    jets at a time.

    What the function makes of a few thousand rows stays in the cache while it is multiplied, summed and
    differentiated.

    Args:
        function: from rows [M, C] to rows [M, C'], each row for itself.
        values: [ΣN, C].
        offsets: [B + 1].

    Returns:
        [B, C'].
    """
    if not allows("pieces", values, autocast=True) or values.shape[0] <= _ROWS:
        return segment_sum(function(values), offsets)
    rows, jets = values.shape[0], len(offsets) - 1
    pieces = -(-rows // _ROWS)
    ends = torch.searchsorted(offsets, torch.arange(1, pieces) * (rows // pieces)).unique().tolist()
    parts = []
    for low, high in pairwise([0, *(e for e in ends if 0 < e < jets), jets]):
        own = offsets[low : high + 1]
        first, last = int(own[0]), int(own[-1])
        parts.append(segment_sum(function(values[first:last]), own - first))
    return torch.cat(parts)
