"""The maximum over the constituents of each jet, on packed tensors; sums and means are in
`hepml.packed.segments`."""

from __future__ import annotations

import torch
from torch import Tensor

from hepml.packed.rectangular import mask_behind
from hepml.packed.segments import jet_of_rows


def segment_max(values: Tensor, offsets: Tensor) -> Tensor:
    """Largest value of each jet's rows and each column, [B, C]; zeros for jets without rows. Equal rows share
    the gradient.

    Args:
        values: [ΣN, C].
        offsets: [B + 1] int64.
    """
    mask = mask_behind(offsets)
    if mask is not None:
        rows = values.view(*mask.shape, values.shape[1]).masked_fill(~mask[..., None], -torch.inf)
        return rows.amax(1).masked_fill(~mask.any(1)[:, None], 0.0)
    jets = len(offsets) - 1
    out = values.new_zeros((jets, values.shape[1]))
    jet_of = jet_of_rows(offsets, values.shape[0])
    return out.scatter_reduce(0, jet_of[:, None].expand_as(values), values, "amax", include_self=False)
