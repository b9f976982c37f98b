"""What every Lorentz-equivariant tagger promises beside its declared symmetry: what reference vectors break
and keep."""

from __future__ import annotations

import pytest
import torch
from small_taggers import EQUIVARIANT, random_tagger

from hepml import kinematics
from hepml.testing import assert_invariant, measure, sample_jets


@pytest.mark.parametrize("case", EQUIVARIANT)
def test_the_symmetry_is_whole_where_the_reference_vectors_move_along(case: str) -> None:
    model, jets = random_tagger(case, references=("beam", "time")).double().eval(), sample_jets()
    boost = kinematics.boost(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), 20.0)
    boosted = jets.with_four_momenta(kinematics.transform(jets.four_momenta, boost))
    with torch.no_grad():
        before, alone = model(jets), model(boosted)
        references = model.references
        assert isinstance(references, torch.Tensor)
        model.references = kinematics.transform(references.double(), boost)
        after = model(boosted)
    # vectors that are moved in components lose digits: `test_lorentznet.py`
    assert torch.allclose(after, before, rtol=1e-5 if "components" in case else 1e-9)
    assert not torch.allclose(alone, before, rtol=1e-6)


@pytest.mark.parametrize("case", ["lgatr", "lgatr_slim", "lloca", "lloca_transformer"])
def test_reference_vectors_break_the_symmetry_by_name(case: str) -> None:
    beams, time = (
        random_tagger(case, references=(reference,)).double().eval()
        for reference in ("lightlike_beam", "time")
    )
    assert_invariant(beams, "azimuthal-rotation")
    assert_invariant(time, "rotation")
    for model, group in ((beams, "rotation"), (beams, "boost-x"), (time, "boost-z")):
        assert float(measure(model, group, gammas=(3,))) > 1e-6
