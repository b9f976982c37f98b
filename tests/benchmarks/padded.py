"""Padded features as the peers' networks take them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.packed.rectangle import mask_of, to_dense


def dense_features(batch: JetBatch, names: Sequence[str], width: int | None = None) -> tuple[Tensor, Tensor]:
    """Named constituent features as [B, P, F] with their mask [B, P], zero-padded to the largest jet or to
    `width`."""
    width = batch.max_count if width is None else width
    return to_dense(batch.select(names), batch.offsets, width), mask_of(batch.offsets, width)
