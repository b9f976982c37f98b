"""What every Lorentz-equivariant tagger promises beside its declared symmetry: answers for the shortest jets, and what
reference vectors break and keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.models import create, registry
from hepml.testing import assert_invariant, measure, sample_jets

TRANSFORMER = {"width": 16, "heads": 2, "blocks": 2}
# A small configuration of each: the registered name, and how it is built.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lgatr": ("lgatr", {"channels": 2, "scalars": 4, "blocks": 2, "heads": 2}),
    "lgatr_slim": ("lgatr_slim", {"vectors": 4, "scalars": 8, "blocks": 2, "heads": 2, "expansion": 2}),
    "lgn": ("lgn", {"channels": (2, 3, 2)}),
    "lloca": ("lloca", {"hidden": 8, "backbone_arguments": TRANSFORMER}),
    "lloca, one frame a jet": ("lloca", {"hidden": 8, "frame": "jet", "backbone_arguments": TRANSFORMER}),
    "lloca around mlp": ("lloca", {"hidden": 8, "backbone": "mlp"}),
    "lloca around mlp, one frame a jet": ("lloca", {"hidden": 8, "backbone": "mlp", "frame": "jet"}),
    "lloca_transformer": ("lloca_transformer", {"width": 24, "heads": 2, "blocks": 2, "hidden": 8}),
    "lorentznet": ("lorentznet", {"n_hidden": 8, "n_blocks": 3, "dropout": 0.0}),
    "pelican": ("pelican", {"hidden": 9, "messages": 6, "blocks": 2, "scalars": 3, "dropout": 0.0}),
    "pelican_small": ("pelican_small", {}),
}


def small(case: str, references: tuple[str, ...] = ()) -> torch.nn.Module:
    torch.manual_seed(0)
    name, arguments = CASES[case]
    return create(name, references=references, **arguments).double()


def test_no_equivariant_tagger_is_left_out() -> None:
    declared = {name for name, entry in registry().items() if "lorentz" in entry.symmetries}
    assert declared == {name for name, _ in CASES.values()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("references", [(), ("beam",)])
@pytest.mark.parametrize("counts", [(0,), (1,), (0, 1, 2), (2, 0), ()])
def test_jets_of_no_one_or_two_constituents_have_a_score_and_a_gradient(
    case: str, references: tuple[str, ...], counts: tuple[int, ...]
) -> None:
    p = sample_jets(3).four_momenta[: sum(counts)]
    batch = JetBatch.from_arrays(p, torch.tensor((0, *counts)).cumsum(0))
    model = small(case, references)
    for training in (False, True):
        out = model.train(training)(batch)
        assert out.shape == (len(counts), 2)
        assert torch.isfinite(out).all()
        out.sum().backward()
        assert all(torch.isfinite(q.grad).all() for q in model.parameters() if q.grad is not None)
    assert all(torch.isfinite(b).all() for b in model.buffers())


@pytest.mark.parametrize("case", CASES)
def test_the_symmetry_is_whole_where_the_reference_vectors_move_along(case: str) -> None:
    model, jets = small(case, ("beam", "time")).eval(), sample_jets()
    boost = kinematics.boost(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), 20.0)
    boosted = jets.with_four_momenta(kinematics.transform(jets.four_momenta, boost))
    with torch.no_grad():
        before, alone = model(jets), model(boosted)
        references = model.references
        assert isinstance(references, torch.Tensor)
        model.references = kinematics.transform(references.double(), boost)
        after = model(boosted)
    assert torch.allclose(after, before, rtol=1e-8)
    assert not torch.allclose(alone, before, rtol=1e-6)


@pytest.mark.parametrize("case", ["lgatr", "lgatr_slim", "lloca", "lloca_transformer"])
def test_reference_vectors_break_the_symmetry_by_name(case: str) -> None:
    beams, time = small(case, ("lightlike_beam",)).eval(), small(case, ("time",)).eval()
    assert_invariant(beams, "azimuthal-rotation")
    assert_invariant(time, "rotation")
    for model, group in ((beams, "rotation"), (beams, "boost-x"), (time, "boost-z")):
        assert float(measure(model, group, gammas=(3,))) > 1e-6
