"""Several taggers as one: the mean of their logits, trained together or put together from trained ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import create, register
from hepml.models.identity import Tagger, inputs_of

MEMBERS: tuple[Mapping[str, Any], ...] = ({"name": "efp_mlp"}, {"name": "pfn"})


@register("ensemble", paper="arXiv:1612.01474", symmetries=("permutation", "azimuthal-rotation"))
class Ensemble(Tagger):
    """Ensemble of registered taggers: the mean of their logits, a product of their probabilities.

    Trained together, members share the loss and complete each other; put together from trained runs
    (`hepml.training.ensembles`), they average what the random start of each has left.

    Symmetry: what all members respect; declared for those that are taken by default. Inputs: what the members
        read together.

    Args:
        outputs: columns of the result.
        members: each a name, or a mapping of `name` and hyperparameters.

    Raises:
        ConfigError: no members, a member without a name, or members that keep different numbers of
            constituents.
    """

    def __init__(self, outputs: int = 2, members: Sequence[str | dict[str, Any]] = MEMBERS) -> None:  # type: ignore[assignment]
        super().__init__()
        built = []
        for member in members:
            arguments = {"name": member} if isinstance(member, str) else dict(member)
            name = arguments.pop("name", None)
            if name is None:
                raise ConfigError("a member of the ensemble has no name", mend="members: [{name: …}, …]")
            built.append(create(str(name), outputs=outputs, **arguments))
        if not built:
            raise ConfigError("the ensemble has no members", mend="members: [{name: …}, …]")
        self.members = nn.ModuleList(built)
        self.inputs = joined_inputs([inputs_of(member) for member in built])

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        return torch.stack([member(batch) for member in self.members]).mean(dim=0)


def joined_inputs(inputs: Sequence[Inputs]) -> Inputs:
    """What several models read together.

    Raises:
        ConfigError: they keep different numbers of constituents.
    """
    kept = {each.max_constituents for each in inputs}
    if len(kept) > 1:
        numbers = ", ".join("all" if n is None else str(n) for n in kept)
        raise ConfigError(
            f"members of the ensemble keep different numbers of constituents: {numbers}",
            mend="give them the same, or leave one out",
        )

    def union(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for each in inputs for word in getattr(each, name)))

    return Inputs(
        features=union("features"),
        jet_features=union("jet_features"),
        four_momenta=any(each.four_momenta for each in inputs),
        max_constituents=next(iter(kept)),
        extras=union("extras"),
        collections=joined_collections(inputs),
    )


def joined_collections(inputs: Sequence[Inputs]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The further collections that several models read, each with the features that any of them asks for."""
    collections: dict[str, dict[str, None]] = {}
    for each in inputs:
        for name, features in each.collections:
            collections.setdefault(name, {}).update(dict.fromkeys(features))
    return tuple((name, tuple(features)) for name, features in collections.items())
