"""LLoCa: any registered model becomes invariant, short jets too; features that momenta do not tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError, ModelError
from hepml.models import create
from hepml.testing import assert_invariant, measure, sample_jets

BACKBONES: dict[str, dict[str, Any]] = {
    "transformer": {"width": 16, "heads": 2, "blocks": 2},
    "pfn": {"phi": (8, 8), "f": (8,)},
    "particlenet_lite": {"widths": ((8, 8), (8, 8)), "neighbours": 4, "head": (8,)},
    "mlp": {},
}


def small(backbone: str = "transformer", **arguments: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    own = {**BACKBONES[backbone], **arguments.pop("backbone_arguments", {})}
    return create("lloca", backbone=backbone, backbone_arguments=own, hidden=8, **arguments).double().eval()


def scores(model: torch.nn.Module, batch: JetBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize("frame", ["constituent", "jet"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_any_model_becomes_invariant(backbone: str, frame: str) -> None:
    assert float(measure(create(backbone, **BACKBONES[backbone]), "rotation", repeats=1)) > 1e-4
    assert_invariant(small(backbone, frame=frame), "lorentz", tolerance=1e-9, gammas=(10, 4000), repeats=2)
    assert_invariant(
        small(backbone, frame=frame), "lorentz", dtype=torch.float32, tolerance=1e-2, gammas=(10,), repeats=2
    )


def test_jets_of_one_or_two_constituents_are_invariant_too() -> None:
    batch = JetBatch.from_arrays(sample_jets(3).four_momenta[:8], torch.tensor([0, 1, 3, 5, 8]))
    assert_invariant(small(), "lorentz", batch, tolerance=1e-9, gammas=(10, 4000))


def test_features_that_do_not_follow_from_momenta_are_given_on() -> None:
    model = small(backbone_arguments={"features": ("log_pt", "charge", "delta_eta")})
    assert model.inputs.features == ("charge",)
    jets = sample_jets()
    charge = torch.randn(len(jets.four_momenta), 1, dtype=torch.float64)
    batch = JetBatch.from_arrays(jets.four_momenta, jets.offsets, charge, feature_names=("charge",))
    seen = model.canonical(batch)
    assert torch.equal(seen.select(("charge",)), charge)
    assert not torch.allclose(seen.select(("log_pt",)), jets.select(("log_pt",)))
    assert_invariant(model, "lorentz", batch, tolerance=1e-9, gammas=(10,))


def test_mistakes_are_named() -> None:
    with pytest.raises(ModelError, match="did you mean 'particlenet'"):
        create("lloca", backbone="particlnet")
    with pytest.raises(ConfigError, match="give outputs to lloca"):
        create("lloca", backbone_arguments={"outputs": 3})
