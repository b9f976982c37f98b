"""A batch from padded arrays: the body of `JetBatch.from_padded`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from hepml.data import jet_columns
from hepml.data.arrays import as_tensor, check_rows, checked_mask, packed
from hepml.data.packed_jets import PackedJets

Jets = TypeVar("Jets", bound=PackedJets)


def batch_of_padded(
    kind: type[Jets],
    four_momenta: Any,
    mask: Any,
    *,
    columns: Mapping[str, Any] | None,
    features: Any,
    labels: Any,
    jet_momenta: Any,
    **jets: Any,
) -> Jets:
    """See `JetBatch.from_padded`; `kind` is that class."""
    inside = checked_mask(mask)
    batch = kind.from_arrays(
        packed(four_momenta, inside),
        F.pad(inside.sum(dim=1).cumsum(0), (1, 0)),
        None if features is None else packed(features, inside),
        labels,
        **jets,
    )
    raw = {name: packed(c, inside).to(batch.dtype) for name, c in (columns or {}).items()}
    own = None if jet_momenta is None else as_tensor(jet_momenta).to(batch.dtype)
    if own is not None:
        check_rows("jet_momenta", own, len(batch))
        own = torch.from_numpy(jet_columns.settle(own.numpy(), batch.jets.numpy()))
    return replace(batch, raw=raw, jet_momenta=own)
