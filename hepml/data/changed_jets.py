"""Jets with other momenta or other constituents, without what followed from those they had: what
augmentations and perturbations make."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from hepml.data import features
from hepml.data.batch import JetBatch


def without_momentum_features(batch: JetBatch) -> JetBatch:
    """The batch without the stored features that follow from momenta, which are recomputed from those it
    is given."""
    momentum = set(features.MOMENTUM_COLUMNS)
    names = batch.feature_names
    kept = [i for i, name in enumerate(names) if not set(features.lookup(name).needs) & momentum]
    columns = batch.features[:, kept] if kept and batch.features is not None else None
    return replace(batch, features=columns, feature_names=tuple(names[i] for i in kept))


def with_constituents(
    batch: JetBatch, momenta: Tensor, offsets: Tensor | None = None, rows: Tensor | None = None
) -> JetBatch:
    """The batch with other constituents, and without what followed from those it had: stored features
    and extras are recomputed when they are asked for.

    Args:
        momenta: [M, 4].
        offsets: [B + 1], where jets have other numbers of them.
        rows: [M] the constituent of the batch that each comes from, whose other columns it takes.
    """
    plain = without_momentum_features(batch)
    columns, raw = plain.features, plain.raw
    if rows is not None:
        columns = None if columns is None else columns[rows]
        raw = {name: column[rows] for name, column in raw.items()}
    at = batch.offsets if offsets is None else offsets
    return replace(plain, four_momenta=momenta, offsets=at, features=columns, raw=raw, extras={})
