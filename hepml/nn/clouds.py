"""Several collections of a jet as one cloud of points: the features of each embedded to a common width,
then concatenated (CMS's ParticleNet-AK4 and weaver's taggers do it so with candidates and secondary
vertices)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.errors import ConfigError, LayoutError, did_you_mean

Given = Mapping[str, Sequence[str] | str] | None


def named(collections: Given) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The `collections` of a model's constructor as `Inputs` have them.

    Raises:
        ConfigError: a collection without features.
    """
    out = tuple((str(name), feature_table.resolve(wanted)) for name, wanted in (collections or {}).items())
    for name, wanted in out:
        if not wanted:
            raise ConfigError(f"no features of collection '{name}'", mend="name some")
    return out


class Clouds(nn.Module):
    """Embeds the constituents and each further collection, and joins them jet by jet.

    Args:
        features: of the constituents.
        collections: further collections with the features of each.
        embed: makes the embedding of so many columns; all of the same width.
    """

    def __init__(
        self,
        features: Sequence[str],
        collections: Sequence[tuple[str, Sequence[str]]],
        embed: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.names = tuple((name, tuple(wanted)) for name, wanted in collections)
        self.main = embed(len(self.features))
        self.others = nn.ModuleDict({f"of_{name}": embed(len(wanted)) for name, wanted in self.names})

    def forward(self, batch: JetBatch) -> JetBatch:
        """A batch whose constituents are those of all collections, and whose features are the embedded ones,
        without names; a jet's constituents stand before its further collections."""
        others = [collection_of(batch, name) for name, _ in self.names]
        rows = [self.main(batch.select(self.features))]
        for (name, wanted), other in zip(self.names, others, strict=True):
            rows.append(self.others[f"of_{name}"](other.select(wanted)))
        order, offsets = joined_order([batch.offsets, *(other.offsets for other in others)])
        four = torch.cat([batch.four_momenta, *(other.four_momenta for other in others)])[order]
        return replace(
            batch, four_momenta=four, offsets=offsets, features=torch.cat(rows)[order], feature_names=(),
            jet_momenta=batch.jets, extras={}, raw={}, collections={},
        )  # fmt: skip

    def columns(self, batch: JetBatch, names: Sequence[str]) -> Tensor:
        """Features that all collections have (coordinates), in the order of the joined cloud."""
        others = [collection_of(batch, name) for name, _ in self.names]
        order, _ = joined_order([batch.offsets, *(other.offsets for other in others)])
        return torch.cat([batch.select(names), *(other.select(names) for other in others)])[order]


def collection_of(batch: JetBatch, name: str) -> JetBatch:
    """A further collection of these jets.

    Raises:
        LayoutError: they have none of that name; names the nearest.
    """
    if name not in batch.collections:
        raise LayoutError(
            f"these jets have no collection '{name}'",
            mend=did_you_mean(name, batch.collections, noun="collections at hand")
            if batch.collections
            else "name it in the layout (collections)",
        )
    return batch.collections[name]


def joined_order(offsets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """How rows of several packed collections, one behind the other, are ordered so that each jet's stand
    together, and the offsets of those.

    Args:
        offsets: [B + 1] of each collection.

    Returns:
        [ΣN] positions among the rows behind each other, and [B + 1].
    """
    total = offsets[0].clone()
    for other in offsets[1:]:
        total = total + other
    places, before = [], torch.zeros_like(offsets[0][1:])
    for own in offsets:
        counts = own.diff()
        rows = int(own[-1])
        shift = torch.repeat_interleave(total[:-1] + before - own[:-1], counts, output_size=rows)
        places.append(torch.arange(rows, device=own.device) + shift)
        before = before + counts
    at = torch.cat(places)
    order = torch.empty_like(at)
    order[at] = torch.arange(len(at), device=at.device)
    return order, total
