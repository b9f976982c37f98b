"""Heads: the parameters of q(z|x), their activation and their negative log-likelihood, in one place.

Learning approximates p(z|x) by q(z|x; theta) under cross-entropy, so a loss is the negative log-likelihood of
a family of distributions: Bernoulli gives binary cross-entropy, Categorical softmax cross-entropy, Gaussian
(mean and log sigma) squared error with a learned width. A model returns the parameters of the family, [B,
outputs]; the objective knows the rest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.errors import ConfigError, DataError, did_you_mean

__all__ = ["OBJECTIVES", "Bernoulli", "Categorical", "Gaussian", "Objective", "objective", "weighted_mean"]


class Objective(ABC):
    """A family of distributions q(z|x).

    Examples:
        >>> issubclass(hepml.objectives.Categorical, hepml.objectives.Objective)
        True
    """

    name: ClassVar[str]
    task: ClassVar[str]  # "classification" or "regression"

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Columns that the model must return."""

    @abstractmethod
    def activation(self, parameters: Tensor) -> Tensor:
        """What a user reads: class probabilities [B, C], or (mean, sigma) a target [B, 2 T]. From model
        outputs [B, outputs]."""

    @abstractmethod
    def negative_log_likelihood(self, parameters: Tensor, target: Tensor) -> Tensor:
        """-ln q(z|x) for each jet, [B], from model outputs [B, outputs] and labels [B] or targets [B, T]."""

    def loss(
        self,
        parameters: Tensor,
        target: Tensor,
        weights: Tensor | None = None,
        mean_weight: float | None = None,
    ) -> Tensor:
        """Mean negative log-likelihood, weighted where weights [B] are given (see `weighted_mean`); a
        scalar."""
        return weighted_mean(self.negative_log_likelihood(parameters, target), weights, mean_weight)


def weighted_mean(values: Tensor, weights: Tensor | None, mean_weight: float | None = None) -> Tensor:
    """Mean of values [B], weighted where weights [B] are given.

    Negative weights are normal, so the sum of a batch's weights may be anything, zero too, and normalises
    nothing. The divisor is the batch's number of jets times the mean weight of the whole sample, which no
    batch can change; then the gradients of all batches add up to that of the sample.

    Args:
        mean_weight: mean weight of the sample that the batch was taken from; the mean |weight| of the batch
            where it is not known.

    Examples:
        >>> import torch
        >>> hepml.objectives.weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])).item()
        2.0
    """
    if weights is None:
        return values.mean()
    if mean_weight is None:
        return (values * weights).sum() / weights.abs().sum().clamp_min(torch.finfo(values.dtype).tiny)
    return (values * weights).sum() / (len(values) * mean_weight)


class Bernoulli(Objective):
    """q(z|x) = p^z (1-p)^(1-z) with p = sigmoid(logit): binary cross-entropy. One output; class 1 is the
    signal.

    Examples:
        >>> import torch
        >>> hepml.objectives.Bernoulli().activation(torch.zeros(1, 1)).tolist()
        [[0.5, 0.5]]
    """

    name, task = "bernoulli", "classification"

    def __init__(self, classes: int = 2) -> None:
        if classes != 2:
            raise ConfigError(
                f"objective bernoulli is for 2 classes, the data has {classes}",
                mend="use objective: categorical",
            )

    @property
    def outputs(self) -> int:
        return 1

    def activation(self, parameters: Tensor) -> Tensor:
        p = torch.sigmoid(parameters[:, 0])
        return torch.stack((1 - p, p), dim=-1)

    def negative_log_likelihood(self, parameters: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            parameters[:, 0], target.to(parameters.dtype), reduction="none"
        )


class Categorical(Objective):
    """q(z|x) = softmax(logits)_z: categorical cross-entropy. One output a class.

    Args:
        classes: number of classes.
        label_smoothing: share of probability spread over all classes in the target.

    Examples:
        >>> import torch
        >>> hepml.objectives.Categorical(2).activation(torch.zeros(1, 2)).tolist()
        [[0.5, 0.5]]
    """

    name, task = "categorical", "classification"

    def __init__(self, classes: int = 2, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing is {label_smoothing}",
                where="objective",
                mend="give a share from 0 to below 1, such as 0.1",
            )
        self.classes, self.label_smoothing = classes, label_smoothing

    @property
    def outputs(self) -> int:
        return self.classes

    def activation(self, parameters: Tensor) -> Tensor:
        return torch.softmax(parameters, dim=-1)

    def negative_log_likelihood(self, parameters: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            raise DataError(
                "categorical labels must be integers", mend="use objective: gaussian for a continuous target"
            )
        return F.cross_entropy(parameters, target, reduction="none", label_smoothing=self.label_smoothing)


class Gaussian(Objective):
    """q(z|x) = N(z; mean, sigma) for each target: squared error with a learned width.

    The model returns (mean, ln sigma) for each target; ln sigma is held within ±`bound` so that one outlier
    cannot blow up a step.

    Args:
        targets: number of targets T.
        centre, width: targets are standardised as (z - centre) / width before the likelihood is taken, and
            `activation` gives means and sigmas in the target's own unit.
        bound: largest |ln sigma| in standardised units.

    Examples:
        >>> import torch
        >>> hepml.objectives.Gaussian(1).activation(torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """

    name, task = "gaussian", "regression"

    def __init__(self, targets: int = 1, centre: float = 0.0, width: float = 1.0, bound: float = 7.0) -> None:
        if width <= 0:
            raise ConfigError(
                f"objective gaussian: width {width} is not positive", mend="give the spread of the target"
            )
        self.targets, self.centre, self.width, self.bound = targets, centre, width, bound

    @property
    def outputs(self) -> int:
        return 2 * self.targets

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_sigma = parameters.view(len(parameters), self.targets, 2).unbind(-1)
        return mean, self.bound * torch.tanh(log_sigma / self.bound)

    def activation(self, parameters: Tensor) -> Tensor:
        mean, log_sigma = self._split(parameters)
        pair = torch.stack((self.centre + self.width * mean, self.width * log_sigma.exp()), dim=-1)
        return pair.flatten(1)

    def negative_log_likelihood(self, parameters: Tensor, target: Tensor) -> Tensor:
        mean, log_sigma = self._split(parameters)
        z = (target.to(parameters.dtype).view(len(parameters), self.targets) - self.centre) / self.width
        per_target = 0.5 * ((z - mean) * torch.exp(-log_sigma)) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)
        return per_target.sum(dim=-1)


OBJECTIVES: dict[str, type[Objective]] = {kind.name: kind for kind in (Bernoulli, Categorical, Gaussian)}


def objective(name: str, **arguments: object) -> Objective:
    """The objective of that name.

    Raises:
        ConfigError: no such objective.

    Examples:
        >>> import torch
        >>> objective = hepml.objectives.objective('categorical', classes=2)
        >>> objective.negative_log_likelihood(torch.zeros(1, 2), torch.tensor([1])).round(decimals=3).tolist()
        [0.6930000185966492]
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective '{name}'", mend=did_you_mean(name, OBJECTIVES))
    return OBJECTIVES[name](**arguments)


def __dir__() -> list[str]:
    return sorted(__all__)
