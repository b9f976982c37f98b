"""LorentzNet: sizes, symmetry at the published size, independence of the batch, jets at the edge."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create, entry
from hepml.models.catalogue import count_parameters
from hepml.testing import assert_invariant, measure, sample_jets


def small(**arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model = create("lorentznet", **{"n_hidden": 8, "n_blocks": 3, **arguments})
    for block in model.blocks[:-1]:
        torch.nn.init.normal_(block.phi_x[2].weight, 0, 1.0)  # vectors that move visibly
    return model.double().eval()


def scores(model: torch.nn.Module, batch: JetBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


def test_sizes_are_the_published_ones() -> None:
    published = entry("lorentznet")
    assert count_parameters(create("lorentznet", **published.published)) == published.parameters == 224_072
    assert count_parameters(create("lorentznet")) == 223_568


def test_at_the_published_size_a_boost_of_gamma_4000_moves_nothing() -> None:
    torch.manual_seed(0)
    model = create("lorentznet")
    deviation = assert_invariant(model, "lorentz", sample_jets(4), tolerance=1e-9, gammas=(10, 1000, 4000), repeats=2)
    assert deviation.relative < 1e-10
    assert_invariant(
        model, "lorentz", sample_jets(4), dtype=torch.float32, tolerance=1e-4, gammas=(10, 4000), repeats=2
    )


def test_moving_vectors_in_components_loses_the_digits_that_products_keep() -> None:
    products = measure(small(), "lorentz", gammas=(4000,)).by_gamma[4000]
    components = measure(small(vectors="components"), "lorentz", gammas=(4000,)).by_gamma[4000]
    assert products < 1e-9
    assert components > 1e3 * products
    jets = sample_jets(mass=1.0)
    assert torch.allclose(scores(small(), jets), scores(small(vectors="components"), jets), rtol=1e-8)


def test_beams_break_the_symmetry_but_for_rotations_about_them() -> None:
    model = small(references=("beam",))
    assert_invariant(model, "azimuthal-rotation")
    for group in ("rotation", "boost-x", "boost-z", "lorentz"):
        with pytest.raises(AssertionError):
            assert_invariant(model, group)


def test_the_symmetry_is_whole_where_the_reference_vectors_move_along() -> None:
    model, jets = small(references=("beam", "time")), sample_jets()
    before = scores(model, jets)
    boost = kinematics.boost(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), 20.0)
    model.references = kinematics.transform(model.references.double(), boost)
    after = scores(model, jets.with_four_momenta(kinematics.transform(jets.four_momenta, boost)))
    assert torch.allclose(after, before, rtol=1e-9)


def test_time_alone_keeps_rotations() -> None:
    assert_invariant(small(references=("time",)), "rotation")


@pytest.mark.parametrize("arguments", [{}, {"references": ("beam",)}, {"vectors": "components"}, {"nodes": None}])
def test_a_score_does_not_depend_on_the_batch(arguments: dict[str, object]) -> None:
    model, jets = small(**arguments), sample_jets(6, mass=0.1)
    together = scores(model, jets)
    alone = torch.cat([scores(model, jets.take(torch.tensor([i]))) for i in range(6)])
    turned = scores(model, jets.take(torch.arange(5, -1, -1))).flip(0)
    assert torch.allclose(together, alone, rtol=1e-12)
    assert torch.allclose(together, turned, rtol=1e-12)


def test_gradients_with_respect_to_momenta_are_finite_and_right() -> None:
    model, jets = small(), sample_jets(2, mass=0.3, smallest=3, largest=5)

    def score(p: torch.Tensor) -> torch.Tensor:
        return model(jets.with_four_momenta(p))

    assert torch.autograd.gradcheck(score, (jets.four_momenta.requires_grad_(),), rtol=1e-4, atol=1e-8)


def test_it_learns() -> None:
    """Heavy jets against light ones: the loss falls below a third of ln 2 in 30 steps."""
    torch.manual_seed(1)
    light = sample_jets(16, smallest=8, largest=12)
    heavy = sample_jets(16, mass=10.0, smallest=8, largest=12, seed=1)
    batch = JetBatch.from_arrays(
        torch.cat((light.four_momenta, heavy.four_momenta)),
        torch.cat((light.offsets, light.offsets[-1] + heavy.offsets[1:])),
        labels=torch.arange(32) // 16,
        dtype=torch.float32,
    )
    model = create("lorentznet", n_hidden=16, n_blocks=2, dropout=0.0, nodes=None)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch), batch.labels)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.23


def test_autocast_and_plain_agree_within_its_precision() -> None:
    model, jets = small().float(), sample_jets(dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(jets)
    assert (low.float() - scores(model, jets)).abs().max() < 3e-2


def test_a_limit_needs_components() -> None:
    with pytest.raises(ConfigError, match="components"):
        create("lorentznet", update_limit=100.0)
    with pytest.raises(ConfigError, match="did you mean 'beam'"):
        create("lorentznet", references=("beem",))
