"""A moving average of weights over the steps of a training, which is measured, saved and kept as the model.

The average of a step-size-dependent random walk around a minimum lies nearer to it than any point of the walk
(Polyak and Juditsky 1992; for networks arXiv:1803.05407). Weights and the running statistics of batch norms
are averaged; whatever else a model keeps (standardisations that are fixed once) is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hepml.training.sharding import shared_out, whole


class WeightAverage:
    """Exponential moving average of a model's weights: after n steps the decay is min(decay, (1 + n) / (10 +
    n)), so that the first steps are soon forgotten.

    Args:
        decay: share of the average that a step keeps, near one.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after an optimizer step."""
        live = averaged_tensors(model)
        if not self.values:
            self.values = {name: tensor.detach().clone() for name, tensor in live.items()}
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in live.items():
            self.values[name].lerp_(tensor.detach().to(self.values[name]), 1 - keep)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Inside the block the model has the averaged weights, behind it its own again."""
        own = self.exchange(model, self.values)
        try:
            yield
        finally:
            self.exchange(model, own)

    @torch.no_grad()
    def exchange(self, model: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gives the model these values and returns those that it had."""
        live = averaged_tensors(model)
        before = {name: live[name].detach().clone() for name in values}
        for name, value in values.items():
            live[name].copy_(value)
        return before

    def put_into(self, weights: dict[str, Tensor], prefix: str, sharded: bool = False) -> dict[str, Any]:
        """Puts the average in the place of own weights in a state dict, whole where the ranks share it out;
        returns what `take_from` needs."""
        own = {name: weights[prefix + name].detach().clone() for name in self.values}
        averaged = whole(self.values) if sharded else self.values
        weights |= {prefix + name: value.clone() for name, value in averaged.items()}
        return {"steps": self.steps, "values": own}

    def take_from(
        self, weights: dict[str, Tensor], prefix: str, own: dict[str, Any], model: nn.Module
    ) -> dict[str, Tensor]:
        """Takes the average of a model from a state dict, as the ranks hold its weights; returns the dict
        with the own weights in its place."""
        live = averaged_tensors(model)
        values = {name: weights[prefix + name].clone().to(live[name].device) for name in own["values"]}
        self.steps, self.values = own["steps"], shared_out(values, live)
        return weights | {prefix + name: value for name, value in own["values"].items()}


def averaged_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What is averaged: trained parameters and the running statistics of batch norms, by name."""
    tensors: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for name in ("running_mean", "running_var"):
                statistic = getattr(module, name)
                if statistic is not None:
                    tensors[f"{prefix}.{name}" if prefix else name] = statistic
    return tensors
