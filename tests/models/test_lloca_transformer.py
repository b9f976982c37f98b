"""The LLoCa-Transformer: outputs of the authors' network with the same weights, size, symmetry and what
breaks it, jets at the edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.catalogue import count_parameters
from hepml.models.lloca_transformer import LLoCaTransformer
from hepml.nn.lorentz.tensorial import FrameMaps
from hepml.packed.rectangle import Rectangle
from hepml.testing import assert_invariant, measure, sample_jets

# Made by the `lloca` package 2.0.0 (`tests/benchmarks/bench_lloca_transformer.py --golden`): its
# transformer with random weights, features and frames, weights under hepml's names.
GOLDEN = Path(__file__).parent / "golden_lloca.npz"
SMALL: dict[str, Any] = {"width": 24, "heads": 2, "vectors": 2, "blocks": 2, "hidden": 8}
SHORT = (0, 1, 2, 2, 3, 1, 5)


def small(**arguments: Any) -> LLoCaTransformer:
    torch.manual_seed(0)
    model = create("lloca_transformer", **{**SMALL, **arguments})
    assert isinstance(model, LLoCaTransformer)
    return model.double().eval()


def scores(model: torch.nn.Module, batch: JetBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


def short_jets() -> JetBatch:
    p = sample_jets(3).four_momenta[: sum(SHORT)]
    return JetBatch.from_arrays(p, torch.tensor((0, *SHORT)).cumsum(0))


@pytest.mark.parametrize("balanced", [False, True])
def test_outputs_are_those_of_the_authors_network_with_the_same_weights(balanced: bool) -> None:
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}
    model = small(width=22, expansion=2, balanced=balanced)
    state = {
        key.removeprefix("weights/"): value for key, value in golden.items() if key.startswith("weights/")
    }
    left = model.load_state_dict(state, strict=False)
    assert all(name.startswith("predict.") for name in left.missing_keys)
    assert not left.unexpected_keys
    where = Rectangle.of(golden["offsets"], int(golden["offsets"].diff().max()))
    maps = FrameMaps.of(golden["frames"], torch.float64, balanced=balanced)
    with torch.no_grad():
        out = model.fc(model.pooled(golden["features"], maps, where))
    assert torch.allclose(out, golden["balanced" if balanced else "plain"], rtol=1e-10, atol=1e-12)


def test_transformer_has_the_size_of_the_packages_with_these_arguments() -> None:
    model = create("lloca_transformer")
    assert isinstance(model, LLoCaTransformer)
    assert count_parameters(model) - count_parameters(model.predict) == 1_978_882


@pytest.mark.parametrize("balanced", [False, True])
def test_at_full_size_a_boost_of_gamma_4000_moves_nothing(balanced: bool) -> None:
    torch.manual_seed(0)
    model, jets = create("lloca_transformer", balanced=balanced), sample_jets(3)
    assert_invariant(model, "lorentz", jets, tolerance=1e-9, gammas=(4000,), repeats=1)
    assert_invariant(model, "lorentz", jets, dtype=torch.float32, tolerance=5e-3, gammas=(4000,), repeats=1)


def test_tensors_that_are_not_turned_back_break_the_symmetry(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    assert_invariant(model, "lorentz", tolerance=1e-9, gammas=(10, 4000), repeats=2)
    whole = FrameMaps.of

    def one_way(frames: torch.Tensor, dtype: torch.dtype, *, balanced: bool = False) -> FrameMaps:
        maps = whole(frames, dtype, balanced=balanced)
        return FrameMaps(torch.eye(4, dtype=dtype).expand_as(maps.local).contiguous(), maps.common)

    monkeypatch.setattr(FrameMaps, "of", one_way)
    assert float(measure(model, "rotation")) > 1e-3


def test_messages_are_tensors() -> None:
    """The direction that one constituent tells changes what others make of it: without vectors, frames of
    others do not matter."""
    jets = sample_jets(1, smallest=6)
    told = []
    for vectors in (0, 2):
        model = small(vectors=vectors)
        seen, maps = model._canonical(jets)
        where = Rectangle.of(jets.offsets, 6)
        turn = kinematics.rotation(torch.tensor([0.3, 1.0, -0.4], dtype=torch.float64), 1.0)
        other = FrameMaps(turn @ maps.local, maps.common @ turn.T)
        other = FrameMaps(
            *(torch.cat((a[:3], b[3:])) for a, b in ((maps.local, other.local), (maps.common, other.common)))
        )
        with torch.no_grad():
            told.append(
                float((model.pooled(seen, maps, where) - model.pooled(seen, other, where)).abs().max())
            )
    assert told[0] == 0
    assert told[1] > 1e-3


@pytest.mark.parametrize("group", ["lorentz", "boost-x", "boost-z", "permutation"])
def test_jets_of_few_constituents_are_invariant_too(group: str) -> None:
    """One or two constituents have an axis, and frames around it, whatever stands for the directions
    across."""
    axes = torch.tensor([[5.0, 0, 0, 5], [3, 0, 0, -3], [1, 1, 0, 0], [4, 0, 4, 0], [2, 0, -2, 0]]).double()
    along = JetBatch.from_arrays(axes, torch.tensor([0, 2, 3, 5]))
    for batch in (short_jets(), along):
        assert_invariant(small(), group, batch, tolerance=1e-8, gammas=(10, 1000))


def test_features_that_do_not_follow_from_momenta_are_given_on() -> None:
    model = small(features=("log_pt", "charge"))
    assert model.inputs.features == ("charge",)
    jets = sample_jets()
    charge = torch.randn(len(jets.four_momenta), 1, dtype=torch.float64)
    batch = JetBatch.from_arrays(jets.four_momenta, jets.offsets, charge, feature_names=("charge",))
    other = JetBatch.from_arrays(jets.four_momenta, jets.offsets, 2 * charge, feature_names=("charge",))
    assert not torch.allclose(scores(model, batch), scores(model, other))
    assert_invariant(model, "lorentz", batch, tolerance=1e-9, gammas=(10,))


def test_a_jet_without_constituents_has_the_answer_to_zero() -> None:
    model = small()
    empty = JetBatch.from_arrays(torch.zeros(0, 4).double(), torch.tensor([0, 0]))
    assert torch.equal(scores(model, empty)[0], model.fc.bias.detach())
