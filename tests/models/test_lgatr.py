"""L-GATr and L-GATr-slim: outputs of the authors' networks with the same weights, sizes, symmetry, jets at the edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.catalogue import count_parameters
from hepml.nn.attention import Rectangle
from hepml.nn.lorentz.tokens import TokenGroup
from hepml.testing import assert_invariant, sample_jets

# Made by the `lgatr` package 2.0.0: its networks with random weights on three jets of tokens, weights under hepml's names.
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
    model.load_state_dict({k.removeprefix(f"{name}/"): v for k, v in golden.items() if k.startswith(f"{name}/")})
    where = Rectangle.of(golden["offsets"], int(golden["offsets"].diff().max()))
    with torch.no_grad():
        group = TokenGroup(golden["vectors"], golden["scalars"], where)
        out = model.head(model._pooled([group])[0] if name == "lgatr_slim" else model._pooled(group))
    assert torch.allclose(out, golden[name], rtol=1e-10, atol=1e-12)


def test_sizes_are_the_published_ones() -> None:
    """The package counts 1,077,317 and 2,030,242 for these; weights of which the head reads nothing are left out here."""
    assert count_parameters(create("lgatr")) == 1_073_858
    assert count_parameters(create("lgatr_slim")) == 2_013_826


@pytest.mark.parametrize("name", NAMES)
def test_at_full_size_a_boost_of_gamma_4000_moves_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = create(name)
    assert_invariant(model, "lorentz", sample_jets(3), tolerance=1e-9, gammas=(4000,), repeats=1)
    assert_invariant(model, "lorentz", sample_jets(3), dtype=torch.float32, tolerance=1e-3, gammas=(4000,), repeats=1)


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
@pytest.mark.parametrize("arguments", [{}, {"references": ("beam", "time")}])
def test_a_score_does_not_depend_on_the_batch(name: str, arguments: dict[str, object]) -> None:
    model, jets = small(name, **arguments), sample_jets(6, mass=0.1, largest=90)
    together = scores(model, jets)
    alone = torch.cat([scores(model, jets.take(torch.tensor([i]))) for i in range(6)])
    turned = scores(model, jets.take(torch.arange(5, -1, -1))).flip(0)
    assert torch.allclose(together, alone, rtol=1e-9)
    assert torch.allclose(together, turned, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    """But for those that act on bivectors before the first product has made any."""
    model, jets = small(name, references=("beam",), blocks=3), sample_jets()
    for q in model.parameters():
        torch.nn.init.normal_(q, 0, 0.4)
    model(jets).square().sum().backward()
    idle = [n for n, q in model.named_parameters() if q.grad is None or not bool(q.grad.abs().max() > 0)]
    assert all(name.startswith(("embed.", "blocks.0.")) and name.endswith(".bivectors") for name in idle)


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


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str) -> None:
    """Heavy jets against light ones: the loss falls below a third of ln 2 in 20 steps."""
    light, heavy = (sample_jets(8, mass=m, smallest=6, largest=9, seed=i) for i, m in enumerate((0.0, 10.0)))
    batch = JetBatch.from_arrays(
        torch.cat((light.four_momenta, heavy.four_momenta)),
        torch.cat((light.offsets, light.offsets[-1] + heavy.offsets[1:])),
        labels=torch.arange(16) // 8,
        dtype=torch.float32,
    )
    model = small(name).float().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch), batch.labels)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.23


@pytest.mark.parametrize("name", NAMES)
def test_autocast_and_plain_agree_within_its_precision(name: str) -> None:
    model, jets = small(name).float(), sample_jets(dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(jets)
    full = scores(model, jets)
    assert (low.float() - full).abs().max() < 5e-2 * full.abs().max()


def test_dropout_acts_in_training_alone() -> None:
    model, jets = small("lgatr_slim", dropout=0.3), sample_jets()
    assert torch.equal(scores(model, jets), scores(model, jets))
    assert not torch.equal(scores(model.train(), jets), scores(model, jets))
