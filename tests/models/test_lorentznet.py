"""LorentzNet beside what every tagger promises: symmetry at the published size, digits, what references
break, right gradients."""

from __future__ import annotations

import pytest
import torch

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create
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


def test_at_the_published_size_a_boost_of_gamma_4000_moves_nothing() -> None:
    torch.manual_seed(0)
    model = create("lorentznet")
    deviation = assert_invariant(
        model, "lorentz", sample_jets(4), tolerance=1e-9, gammas=(10, 1000, 4000), repeats=2
    )
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


def test_time_alone_keeps_rotations() -> None:
    assert_invariant(small(references=("time",)), "rotation")


def test_gradients_with_respect_to_momenta_are_finite_and_right() -> None:
    model, jets = small(), sample_jets(2, mass=0.3, smallest=3, largest=5)

    def score(p: torch.Tensor) -> torch.Tensor:
        return model(jets.with_four_momenta(p))

    assert torch.autograd.gradcheck(score, (jets.four_momenta.requires_grad_(),), rtol=1e-4, atol=1e-8)


def test_a_limit_needs_components() -> None:
    with pytest.raises(ConfigError, match="components"):
        create("lorentznet", update_limit=100.0)
    with pytest.raises(ConfigError, match="did you mean 'beam'"):
        create("lorentznet", references=("beem",))
