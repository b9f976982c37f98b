"""Several batches concatenated to one: `JetBatch.concatenate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from hepml.data.packed_jets import PackedJets
from hepml.errors import DataError

Jets = TypeVar("Jets", bound=PackedJets)


def concatenate(parts: Sequence[Jets]) -> Jets:
    """The jets of all parts, in their order.

    Raises:
        DataError: see `JetBatch.concatenate`.
    """
    if not parts:
        raise DataError("no batches to concatenate", mend="give at least one")
    first = parts[0]
    for part in parts[1:]:
        _check_alike(first, part)
    starts = np.cumsum([0, *(len(p.four_momenta) for p in parts)]).tolist()
    offsets = [first.offsets[:1], *(p.offsets[1:] + n for p, n in zip(parts, starts, strict=False))]

    def joined(name: str) -> Tensor | None:
        tensors = [t for p in parts if (t := getattr(p, name)) is not None]
        return torch.cat(tensors) if len(tensors) == len(parts) else None

    def completed(name: str, default: Callable[[Jets], Tensor]) -> Tensor | None:
        if all(getattr(p, name) is None for p in parts):
            return None
        return torch.cat([default(p) if (t := getattr(p, name)) is None else t for p in parts])

    def shared(mappings: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        names = [n for n in mappings[0] if all(n in m for m in mappings)]
        return {n: torch.cat([m[n] for m in mappings]) for n in names}

    return replace(
        first,
        four_momenta=torch.cat([p.four_momenta for p in parts]),
        offsets=torch.cat(offsets),
        features=joined("features"),
        jet_features=joined("jet_features"),
        labels=joined("labels"),
        weights=completed("weights", lambda p: p.four_momenta.new_ones(len(p))),
        index=joined("index"),
        jet_momenta=completed("jet_momenta", lambda p: p.jets),
        extras=shared([p.extras for p in parts]),
        raw=shared([p.raw for p in parts]),
        collections={
            name: concatenate([p.collections[name] for p in parts])
            for name in first.collections
            if all(name in p.collections for p in parts)
        },
    )


def _check_alike(first: PackedJets, other: PackedJets) -> None:
    for name, names in (("features", "feature_names"), ("jet_features", "jet_feature_names"), ("labels", "")):
        one, two = _told(first, name, names), _told(other, name, names)
        if one != two:
            raise DataError(
                f"batches with different {name}: {one} and {two}", mend="give batches that were packed alike"
            )


def _told(batch: PackedJets, name: str, names: str) -> str:
    columns = getattr(batch, name)
    if columns is None:
        return "none"
    own = getattr(batch, names) if names else ()
    return ", ".join(own) or f"rows of shape {list(columns.shape[1:])}"
