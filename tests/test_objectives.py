"""Objectives: each loss is the negative log-likelihood of the family its activation describes."""

from __future__ import annotations

import math

import pytest
import torch

from hepml.errors import ConfigError, DataError
from hepml.objectives import OBJECTIVES, Bernoulli, Categorical, Gaussian, objective

B = 64


def logits(columns: int) -> torch.Tensor:
    return 3 * torch.randn(B, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_bernoulli_loss_is_minus_the_log_of_the_probability_of_the_class_seen() -> None:
    head, z = Bernoulli(), torch.arange(B) % 2
    x = logits(head.outputs)
    p = head.activation(x)
    assert torch.allclose(p.sum(1), torch.ones(B, dtype=p.dtype))
    assert torch.allclose(head.negative_log_likelihood(x, z), -p[torch.arange(B), z].log())


@pytest.mark.parametrize("classes", [2, 5])
def test_categorical_loss_is_minus_the_log_of_the_probability_of_the_class_seen(classes: int) -> None:
    head, z = Categorical(classes), torch.arange(B) % classes
    x = logits(head.outputs)
    p = head.activation(x)
    assert torch.allclose(head.negative_log_likelihood(x, z), -p[torch.arange(B), z].log())
    assert torch.allclose(head.activation(x + 100.0), p)  # a common shift of the logits says nothing


def test_bernoulli_is_categorical_with_one_logit_held_at_zero() -> None:
    x, z = logits(1), torch.arange(B) % 2
    pair = torch.cat((torch.zeros_like(x), x), dim=1)
    assert torch.allclose(Bernoulli().activation(x), Categorical(2).activation(pair))
    assert torch.allclose(Bernoulli().loss(x, z), Categorical(2).loss(pair, z))


@pytest.mark.parametrize("targets", [1, 3])
def test_gaussian_loss_is_minus_the_log_of_a_normal_density(targets: int) -> None:
    head = Gaussian(targets, centre=80.0, width=20.0)
    x, z = logits(head.outputs), 80 + 30 * torch.randn(B, targets, dtype=torch.float64)
    mean, sigma = head.activation(x).view(B, targets, 2).unbind(-1)
    density = torch.distributions.Normal(mean, sigma).log_prob(z).sum(1)
    # the likelihood is of the standardised target: a factor `width` a target, the same for every model
    assert torch.allclose(head.negative_log_likelihood(x, z), -density - targets * math.log(20.0))


def test_gaussian_loss_is_least_at_the_true_mean_and_spread() -> None:
    z = 5 + 2 * torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    head, free = Gaussian(), torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=60)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = head.loss(free.expand(len(z), 2), z)
        loss.backward()
        return loss

    optimizer.step(step)
    mean, sigma = head.activation(free.detach())[0].tolist()
    assert mean == pytest.approx(float(z.mean()), abs=1e-4)
    assert sigma == pytest.approx(float(z.std(correction=0)), rel=1e-4)


def test_one_wild_target_cannot_make_the_gaussian_loss_infinite() -> None:
    x = torch.tensor([[0.0, -1e6]], dtype=torch.float32, requires_grad=True)
    loss = Gaussian().loss(x, torch.tensor([1.0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("head", "target"), [(Bernoulli(), 1), (Categorical(3), 2), (Gaussian(), 1.5)])
def test_extreme_logits_give_finite_losses(head: object, target: float) -> None:
    x = torch.full((2, head.outputs), 1e4)  # type: ignore[attr-defined]
    x[1] *= -1
    z = torch.tensor([target, target])
    assert torch.isfinite(head.loss(x, z))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_weighted_loss_counts_a_jet_of_weight_two_as_two_jets(name: str) -> None:
    head = objective(name)
    x = logits(head.outputs)
    z = torch.arange(B) % 2 if head.task == "classification" else torch.randn(B, dtype=torch.float64)
    w = 1.0 + (torch.arange(B) < 10).double()
    twice = torch.cat((torch.arange(B), torch.arange(10)))
    assert torch.allclose(head.loss(x, z, w), head.loss(x[twice], z[twice]))
    assert torch.allclose(head.loss(x, z, 7 * w), head.loss(x, z, w))
    assert torch.allclose(head.loss(x, z, torch.ones(B, dtype=torch.float64)), head.loss(x, z))
    assert torch.isfinite(head.loss(x, z, torch.zeros(B, dtype=torch.float64)))


def test_label_smoothing_spreads_probability_over_all_classes() -> None:
    x, z = logits(4), torch.arange(B) % 4
    log_p = torch.log_softmax(x, 1)
    expected = -0.9 * log_p[torch.arange(B), z] - 0.1 * log_p.mean(1)
    assert torch.allclose(Categorical(4, label_smoothing=0.1).negative_log_likelihood(x, z), expected)


def test_what_does_not_fit_an_objective_is_refused_with_a_mend() -> None:
    with pytest.raises(ConfigError, match="categorical"):
        Bernoulli(classes=3)
    with pytest.raises(ConfigError, match="not positive"):
        Gaussian(width=0.0)
    with pytest.raises(DataError, match="gaussian"):
        Categorical(2).loss(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(ConfigError, match="did you mean 'gaussian'"):
        objective("gausian")
