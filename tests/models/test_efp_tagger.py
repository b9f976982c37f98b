"""The linear classifier on energy-flow polynomials: its linearity, and a whitening that is fixed early."""

from __future__ import annotations

import pytest
import torch
from cloud import cloud
from sklearn.linear_model import LogisticRegression
from torch import nn

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create
from hepml.nn.whitening import Whiten


def built(dtype: torch.dtype = torch.float64, **hyperparameters: object) -> nn.Module:
    torch.manual_seed(3)
    model = create("efp", **{"degree": 4, **hyperparameters}).to(dtype)
    model.whiten.rows = 40
    model.train()
    with torch.no_grad():
        for seed in range(6):
            model(cloud(seed=seed, dtype=dtype))
    assert model.whiten.fixed
    return model.eval()


def test_scores_are_linear_in_the_polynomials() -> None:
    """A jet made of three others' polynomials has their scores' sum with the same weights."""
    model = built()
    values = torch.stack(
        [b.extra(model.inputs.extras[0]) for b in (cloud(seed=s).take([0]) for s in range(3))]
    )[:, 0]
    weights = torch.tensor([0.5, 0.7, -0.2], dtype=torch.float64)
    mixed = torch.cat((values, (weights @ values)[None]))
    p, offsets = torch.zeros(0, 4, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    with torch.no_grad():
        scores = model(JetBatch(p, offsets, extras={model.inputs.extras[0]: mixed}))
    torch.testing.assert_close(scores[3], weights @ scores[:3], rtol=1e-8, atol=1e-8)


def test_mixed_precision_changes_nothing() -> None:
    model, batch = built(torch.float32), cloud(dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(batch)
    with torch.no_grad():
        torch.testing.assert_close(mixed, model(batch))


def test_whitened_columns_are_uncorrelated_and_stay_so_for_good() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) * 1e-3 + 5
    whiten = Whiten(6, rows=2000, floor=1e-9).double()
    for part in x.split(250):
        last = whiten(part)
    assert whiten.fixed
    assert int(whiten.seen) == 2000
    torch.testing.assert_close(torch.cov(whiten(x).T), torch.eye(6, dtype=torch.float64), rtol=0, atol=0.15)
    torch.testing.assert_close(whiten.eval()(x[-250:]), last)
    torch.testing.assert_close(whiten.mean, x[:2000].mean(0))


def test_whitening_brings_a_linear_classifier_to_what_an_exact_solution_finds() -> None:
    """The side that matters is a direction of a thousandth of the variance, as in energy-flow polynomials."""
    torch.manual_seed(1)
    y = torch.arange(2000) % 2
    common = torch.randn(2000, 1)
    x = common + 0.03 * (torch.randn(2000, 4) + torch.tensor([1.0, -1.0, 0.5, 0.0]) * (2 * y[:, None] - 1))
    exact = LogisticRegression(C=1e6, max_iter=2000).fit(x, y).score(x, y)
    whiten, weights = Whiten(4, rows=500), nn.Linear(4, 1)
    optimizer = torch.optim.Adam(weights.parameters(), lr=1e-2)
    for _ in range(6):
        for i in torch.randperm(2000).split(100):
            loss = nn.functional.binary_cross_entropy_with_logits(weights(whiten(x[i]))[:, 0], y[i].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    whiten.eval()
    found = ((weights(whiten(x))[:, 0] > 0) == y).double().mean()
    assert exact > 0.9
    assert float(found) > exact - 0.01


def test_a_degree_without_multigraphs_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 7 edges"):
        create("efp", degree=8)
    with pytest.raises(ConfigError, match="positive"):
        create("efp", beta=0.0)
