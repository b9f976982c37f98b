"""Scores of every registered model have finite gradients with respect to momenta, also where lengths and
angles have none.

Saliency maps differentiate scores so. Jets here have one constituent, several on the jet axis, two at the
same place, and constituents along the beam or at rest.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_taggers import NAMES, SMALL
from torch import Tensor

from hepml import kinematics
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.models import create


def massless(*vectors: tuple[float, float, float]) -> Tensor:
    p = torch.tensor(vectors, dtype=torch.float64)
    return torch.cat((p.norm(dim=1, keepdim=True), p), dim=1)


# On the axis: alone; two the same way; three of which one is exactly in the middle of the others; twins.
ALONE = massless((300.0, 0.0, 0.0))
OBLIQUE = massless((120.0, 35.0, -80.0))
PARALLEL = massless((200.0, 0.0, 50.0), (100.0, 0.0, 25.0))
MIDDLE = massless((300.0, 0.0, 0.0), (100.0, 20.0, 10.0), (100.0, -20.0, -10.0))
TWINS = massless((90.0, 10.0, 5.0), (90.0, 10.0, 5.0), (50.0, -30.0, 20.0), (10.0, 4.0, -3.0))
JETS = (ALONE, OBLIQUE, PARALLEL, MIDDLE, TWINS)


def jets_of(dtype: torch.dtype) -> JetBatch:
    counts = torch.tensor([len(j) for j in JETS])
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    return JetBatch.from_arrays(torch.cat(JETS).to(dtype), offsets)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_scores_have_finite_gradients_on_and_off_the_jet_axis(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    arguments: dict[str, Any] = SMALL.get(name, {})
    model = create(name, **arguments).to(dtype).eval()
    jets = jets_of(dtype)
    moved = jets.with_four_momenta(jets.four_momenta.clone().requires_grad_())
    scores = model(moved)
    assert torch.isfinite(scores).all()
    (gradient,) = torch.autograd.grad(scores.sum(), moved.four_momenta, allow_unused=True)
    assert gradient is None or torch.isfinite(gradient).all()


def test_momentum_features_have_finite_gradients_at_the_axis_and_for_null_vectors() -> None:
    p = torch.cat(
        (*JETS, torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0]]).double())
    )
    p.requires_grad_()
    jet = torch.tensor([[300.0, 300.0, 0.0, 0.0]], dtype=torch.float64)
    columns = feature_table.momentum_columns(p, torch.zeros(len(p), dtype=torch.int64), jet)
    for name in (*feature_table.KINEMATIC, "pt_fraction"):
        (value,) = feature_table.compute_columns([name], columns)
        (gradient,) = torch.autograd.grad(value.sum(), p, retain_graph=True)
        assert torch.isfinite(value).all(), name
        assert torch.isfinite(gradient).all(), name


@pytest.mark.parametrize("quantity", [kinematics.pt, kinematics.phi, kinematics.eta, kinematics.mass])
def test_kinematics_have_zero_gradients_where_they_have_none(quantity: Any) -> None:
    p = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    value = quantity(p)
    (gradient,) = torch.autograd.grad(value.sum(), p)
    assert value.item() == 0
    assert torch.isfinite(gradient).all()
    if quantity is not kinematics.eta:  # which is steep there, but has a slope
        assert not gradient.any()


def test_a_safe_length_is_the_plain_one_elsewhere() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 50, dtype=torch.float64).requires_grad_().unbind(0)
    safe, plain = kinematics.length(x, y), torch.hypot(x, y)
    assert torch.equal(safe, plain)
    for a, b in zip(
        torch.autograd.grad(safe.sum(), (x, y)), torch.autograd.grad(plain.sum(), (x, y)), strict=True
    ):
        assert torch.equal(a, b)
