"""L-GATr and L-GATr-slim: outputs of the authors' networks with the same weights, symmetry at full size,
scalars, dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.nn.lorentz.tokens import TokenGroup
from hepml.packed.rectangle import Rectangle
from hepml.testing import assert_invariant, sample_jets

# Made by the `lgatr` package 2.0.0: its networks with random weights on three jets of tokens, weights under
# hepml's names.
GOLDEN = Path(__file__).parent / "golden_lgatr.npz"
SMALL: dict[str, dict[str, Any]] = {
    "lgatr": {"channels": 2, "scalars": 4, "blocks": 2, "heads": 2},
    "lgatr_slim": {"vectors": 4, "scalars": 8, "blocks": 2, "heads": 2, "expansion": 2},
}
NAMES = sorted(SMALL)


def small(name: str, **arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return create(name, **{**SMALL[name], **arguments}).double().eval()


def scores(model: torch.nn.Module, batch: JetBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_authors_network_with_the_same_weights(name: str) -> None:
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}
    model = small(name)
    model.load_state_dict(
        {k.removeprefix(f"{name}/"): v for k, v in golden.items() if k.startswith(f"{name}/")}
    )
    where = Rectangle.of(golden["offsets"], int(golden["offsets"].diff().max()))
    with torch.no_grad():
        group = TokenGroup(golden["vectors"], golden["scalars"], where)
        out = model.head(model._pooled([group])[0] if name == "lgatr_slim" else model._pooled(group))
    assert torch.allclose(out, golden[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_at_full_size_a_boost_of_gamma_4000_moves_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = create(name)
    assert_invariant(model, "lorentz", sample_jets(3), tolerance=1e-9, gammas=(4000,), repeats=1)
    assert_invariant(
        model, "lorentz", sample_jets(3), dtype=torch.float32, tolerance=1e-3, gammas=(4000,), repeats=1
    )


def test_without_mixed_parity_mirrors_change_nothing() -> None:
    jets = sample_jets()
    mirrored = jets.with_four_momenta(jets.four_momenta * torch.tensor([1.0, -1.0, 1.0, 1.0]))

    def change(name: str, **arguments: object) -> float:
        model = small(name, references=("beam",), **arguments)
        for q in model.parameters():
            torch.nn.init.normal_(q, 0, 0.4)
        before, after = scores(model, jets), scores(model, mirrored)
        return float(((after - before) / before).abs().max())

    assert change("lgatr", mix_parity=False) < 1e-9
    assert change("lgatr_slim") < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_scalars_of_constituents_are_read(name: str) -> None:
    model, jets = small(name, features=("charge",)), sample_jets()
    assert model.inputs.features == ("charge",)
    some = [
        JetBatch.from_arrays(jets.four_momenta, jets.offsets, charge, feature_names=("charge",))
        for charge in torch.randn(2, len(jets.four_momenta), 1, dtype=torch.float64).unbind(0)
    ]
    assert not torch.allclose(scores(model, some[0]), scores(model, some[1]))
    assert_invariant(model, "lorentz", some[0], gammas=(3,))


def test_dropout_acts_in_training_alone() -> None:
    model, jets = small("lgatr_slim", dropout=0.3), sample_jets()
    assert torch.equal(scores(model, jets), scores(model, jets))
    assert not torch.equal(scores(model.train(), jets), scores(model, jets))
