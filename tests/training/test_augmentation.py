"""Augmentations are symmetries: masses stay, and stored features change as those computed from the changed
momenta."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.features import KINEMATIC
from hepml.training.augmentation import AUGMENTATIONS, apply


@pytest.fixture
def batch() -> JetBatch:
    torch.manual_seed(1)
    counts = torch.tensor([5, 0, 7, 3, 9, 4, 6, 8])
    n = int(counts.sum())
    axis_eta, axis_phi = torch.rand(8, dtype=torch.float64) * 4 - 2, torch.rand(8, dtype=torch.float64) * 6
    of = torch.repeat_interleave(torch.arange(8), counts)
    p = kinematics.from_pt_eta_phi(
        torch.rand(n, dtype=torch.float64) * 90 + 10,
        axis_eta[of] + 0.3 * torch.randn(n, dtype=torch.float64),
        axis_phi[of] + 0.3 * torch.randn(n, dtype=torch.float64),
    )
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    plain = JetBatch.from_arrays(p, offsets)
    return replace(plain, features=plain.select(KINEMATIC), feature_names=KINEMATIC)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_keeps_every_mass_and_transverse_momentum(batch: JetBatch, name: str) -> None:
    torch.manual_seed(3)
    changed = apply([name], batch)
    assert not torch.allclose(changed.four_momenta, batch.four_momenta)
    for quantity in (kinematics.mass_squared, kinematics.pt):
        torch.testing.assert_close(quantity(changed.jets), quantity(batch.jets), rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(kinematics.pt(changed.four_momenta), kinematics.pt(batch.four_momenta))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_stored_features_change_as_those_computed_from_the_changed_momenta(
    batch: JetBatch, name: str
) -> None:
    torch.manual_seed(3)
    changed = apply([name], batch)
    fresh = JetBatch.from_arrays(changed.four_momenta, changed.offsets)
    torch.testing.assert_close(changed.select(KINEMATIC), fresh.select(KINEMATIC), rtol=1e-7, atol=1e-7)


def test_a_reflection_turns_the_sign_of_delta_phi_for_some_jets_and_not_for_others(batch: JetBatch) -> None:
    torch.manual_seed(3)
    changed = apply(["reflect_phi"], batch)
    column = KINEMATIC.index("delta_phi")
    assert changed.features is not None
    assert batch.features is not None
    turned = torch.isclose(changed.features[:, column], -batch.features[:, column])
    per_jet = torch.zeros(len(batch)).index_add_(0, batch.jet_of, turned.float()) / batch.counts.clamp_min(1)
    assert set(per_jet[batch.counts > 0].tolist()) == {0.0, 1.0}
