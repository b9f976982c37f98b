"""A model that standardises columns itself, by shifts and scales measured on its training jets.

The numbers belong to the model's identity, and so to its checkpoint; the step happens whenever the model is
called, in training, prediction and inside an exported graph, so that a jet has one score through whichever
door it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.features import resolve
from hepml.models.identity import identify, identity_of, inputs_of

Table = Mapping[str, Mapping[str, Mapping[str, float]]]  # place -> column -> shift, scale, clip
_MODULE = "input_standards"


class Standards(nn.Module):
    """clip((x - shift) * scale) of some columns among several.

    Args:
        names: all columns, in their order.
        table: column -> shift, scale, clip; others stay as they are.
    """

    shift: Tensor
    scale: Tensor
    bound: Tensor

    def __init__(self, names: tuple[str, ...], table: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__()
        of = [table.get(name, {}) for name in names]
        for name, default in (("shift", 0.0), ("scale", 1.0), ("clip", float("inf"))):
            values = torch.tensor([float(each.get(name, default)) for each in of])
            self.register_buffer("bound" if name == "clip" else name, values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, columns] to the same."""
        return torch.clamp((x - self.shift) * self.scale, -self.bound, self.bound)


def standardise(model: nn.Module, table: Table) -> nn.Module:
    """Makes a model standardise its inputs so whenever it is called; returns the model.

    Args:
        model: with `inputs`; one that standardises already does so by the new table only.
        table: place ("" for the constituents, "jet", or the name of a collection) -> column -> shift, scale,
            clip.
    """
    plain = {p: {n: dict(v) for n, v in columns.items()} for p, columns in table.items() if columns}
    first = _MODULE not in dict(model.named_children())
    identify(model, standards=plain)
    inputs = inputs_of(model)
    names = {"": resolve(inputs.features), "jet": tuple(inputs.jet_features), **dict(inputs.collections)}
    steps = {place or "constituents": Standards(tuple(names[place]), plain[place]) for place in plain}
    model.add_module(_MODULE, nn.ModuleDict(steps))
    if first:
        model.register_forward_pre_hook(_before)
    return model


def standards_of(model: Any) -> Table:
    """What a model standardises by; empty where it does not."""
    return identity_of(model).standards


def _before(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    steps: Any = getattr(model, _MODULE)
    inputs = inputs_of(model)
    batch: JetBatch = arguments[0]
    for place, step in steps.items():
        if place == "jet":
            names = tuple(inputs.jet_features)
            batch = _with(batch, jet_features=step(batch.select_jets(names)), jet_feature_names=names)
        elif place == "constituents":
            names = resolve(inputs.features)
            batch = _with(batch, features=step(batch.select(names)), feature_names=names)
        else:
            inner = batch.collections[place]
            names = dict(inputs.collections)[place]
            inner = _with(inner, features=step(inner.select(names)), feature_names=names)
            batch = _with(batch, collections={**batch.collections, place: inner})
    return (batch, *arguments[1:])


def _with(batch: JetBatch, **changes: Any) -> JetBatch:
    """The same jets with other features; what is known of their sizes and momenta stays known."""
    same = replace(batch, **changes)
    for name in ("sizes", "counts", "jet_of", "jets", "columns"):
        if name in batch.__dict__:
            same.__dict__[name] = batch.__dict__[name]
    return same
