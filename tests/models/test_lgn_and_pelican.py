"""LGN and PELICAN beside what every tagger promises: symmetry at full size, what beams break, pieces of a
batch, right gradients."""

from __future__ import annotations

import pytest
import torch
from norms import stir_norms

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create
from hepml.models import pelican as pelican_file
from hepml.nn.lorentz import zonal
from hepml.testing import assert_invariant, measure, sample_jets

NAMES = ("lgn", "pelican", "pelican_small")
SMALL: dict[str, dict[str, object]] = {
    "lgn": {"channels": (2, 3, 2)},
    "pelican": {"hidden": 9, "messages": 6, "blocks": 2, "scalars": 3, "dropout": 0.0},
    "pelican_small": {},
}
BEAM = {"lgn": "beam", "pelican": "lightlike_beam", "pelican_small": "lightlike_beam"}


def small(name: str, **arguments: object) -> torch.nn.Module:
    """With random weights, and batch norms that are not the identity."""
    torch.manual_seed(0)
    model = create(name, **{**SMALL[name], **arguments}).double()
    stir_norms(model)
    return model.eval()


def scores(model: torch.nn.Module, batch: JetBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize("name", ["lgn", "pelican"])
def test_at_the_published_size_a_boost_of_gamma_4000_moves_nothing(name: str) -> None:
    torch.manual_seed(0)
    model, jets = create(name), sample_jets(3, largest=25)
    deviation = assert_invariant(model, "lorentz", jets, tolerance=1e-9, gammas=(10, 4000), repeats=2)
    assert deviation.relative < 1e-11
    assert_invariant(
        model, "lorentz", jets, dtype=torch.float32, tolerance=1e-3, gammas=(10, 4000), repeats=1
    )


def test_lgn_needs_the_rest_frame_for_its_digits_but_not_for_its_answer() -> None:
    jets = sample_jets(mass=0.5)
    assert torch.allclose(scores(small("lgn"), jets), scores(small("lgn", frame="lab"), jets), rtol=1e-9)
    rest = measure(small("lgn"), "lorentz", gammas=(4000,)).by_gamma[4000]
    lab = measure(small("lgn", frame="lab"), "lorentz", gammas=(4000,)).by_gamma[4000]
    assert rest < 1e-12
    assert lab > 1e3 * rest


@pytest.mark.parametrize("name", NAMES)
def test_beams_break_the_symmetry_but_for_rotations_about_them(name: str) -> None:
    model = small(name, references=(BEAM[name],))
    assert_invariant(model, "azimuthal-rotation")
    assert_invariant(model, "permutation")
    for group in ("rotation", "boost-x", "boost-z", "lorentz"):
        with pytest.raises(AssertionError):
            assert_invariant(model, group, gammas=(2,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("references", [(), ("beam",)])
def test_a_score_does_not_depend_on_how_the_batch_is_cut_into_pieces(
    name: str, references: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, jets = small(name, references=references), sample_jets(6, mass=0.1)
    together = scores(model, jets)
    monkeypatch.setitem(pelican_file._NUMBERS, "cpu", 2000)
    monkeypatch.setitem(zonal._PAIRS, "cpu", 200)
    assert torch.allclose(together, scores(model, jets), rtol=1e-11)
    assert together.std(0).min() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_gradients_with_respect_to_momenta_are_right(name: str) -> None:
    model, jets = small(name), sample_jets(2, mass=0.3, smallest=3, largest=4)

    def score(p: torch.Tensor) -> torch.Tensor:
        return model(jets.with_four_momenta(p))

    assert torch.autograd.gradcheck(
        score, (jets.four_momenta.requires_grad_(),), eps=1e-7, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("recompute", [True, False])
def test_training_in_pieces_is_training_at_once(recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms see the pairs of all pieces; gradients and running statistics are the same."""
    jets, found = sample_jets(5, mass=0.2), []
    for numbers in (2**30, 2000):
        monkeypatch.setitem(pelican_file._NUMBERS, "cpu", numbers)
        model = small("pelican", recompute=recompute if numbers < 2**30 else False).train()
        model(jets).square().sum().backward()
        found.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(
        torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-9) for a, b in zip(*found, strict=True)
    )


def test_dropout_is_the_same_when_pairs_are_made_again() -> None:
    jets, found = sample_jets(3), []
    for recompute in (True, False):
        model = small("pelican", dropout=0.3, recompute=recompute).train()
        torch.manual_seed(5)
        model(jets).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(*found, strict=True))


def test_pelican_keeps_a_channel_for_products() -> None:
    with pytest.raises(ConfigError, match="scalars"):
        create("pelican", hidden=8, scalars=8)
