"""Augmentations are symmetries: masses stay, and stored features change as those computed from the changed
momenta."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.features import FULL, KINEMATIC
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.representations.efp import polynomials
from hepml.training.augmentation import AUGMENTATIONS, apply, refuse_stale


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


def safe(batch: JetBatch) -> torch.Tensor:
    return polynomials(batch.four_momenta, batch.offsets, 3, 1.0)


def angles(batch: JetBatch) -> torch.Tensor:
    y, phi = kinematics.rapidity(batch.four_momenta), kinematics.phi(batch.four_momenta)
    pairs = batch.jet_of[:, None] == batch.jet_of[None, :]
    apart = kinematics.delta_r(y[:, None], phi[:, None], y[None], phi[None])
    return torch.where(pairs, apart, 0.0)


def constituents(batch: JetBatch) -> torch.Tensor:
    p = batch.four_momenta
    return torch.stack((batch.jet_of.double(), kinematics.pt(p), kinematics.mass_squared(p)), dim=1)


KEPT = {
    "mass": lambda batch: kinematics.mass_squared(batch.jets),
    "pt": lambda batch: kinematics.pt(batch.jets),
    "constituents": constituents,
    "angles": angles,
    "safe": safe,
}


@pytest.mark.parametrize("name", [n for n, kind in AUGMENTATIONS.items() if kind.further])
def test_further_collections_move_along_with_their_jets(batch: JetBatch, name: str) -> None:
    """The same constituents as a collection of their own stay the same as those of the jet."""
    beside = replace(batch, jet_momenta=batch.jets)
    moved = apply([name], replace(batch, collections={"same": beside}))
    same = moved.collections["same"]
    assert not torch.equal(moved.four_momenta, batch.four_momenta)
    assert torch.equal(same.four_momenta, moved.four_momenta)
    assert same.features is not None
    assert moved.features is not None
    assert torch.equal(same.features, moved.features)
    torch.testing.assert_close(same.jets, moved.jets)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_keeps_what_it_declares_and_nothing_else(batch: JetBatch, name: str) -> None:
    torch.manual_seed(3)
    changed = apply([name], batch)
    assert changed.four_momenta.shape != batch.four_momenta.shape or not torch.allclose(
        changed.four_momenta, batch.four_momenta
    )
    assert len(changed) == len(batch)
    for quantity, of in KEPT.items():
        before, after = of(batch), of(changed)
        kept = before.shape == after.shape and torch.allclose(before, after, rtol=1e-7, atol=1e-6)
        assert kept == (quantity in AUGMENTATIONS[name].keeps), quantity


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_features_change_as_those_computed_from_the_changed_momenta(batch: JetBatch, name: str) -> None:
    torch.manual_seed(3)
    changed = apply([name], batch)
    fresh = JetBatch.from_arrays(changed.four_momenta, changed.offsets)
    torch.testing.assert_close(changed.select(KINEMATIC), fresh.select(KINEMATIC), rtol=1e-7, atol=1e-7)


def test_a_splitting_carries_what_momenta_do_not_tell_to_both_parts(batch: JetBatch) -> None:
    charge = torch.arange(len(batch.four_momenta), dtype=torch.float64)
    marked = replace(batch, features=charge[:, None], feature_names=("charge",))
    torch.manual_seed(3)
    changed = apply(["split_collinear"], marked)
    assert changed.features is not None
    found, times = changed.features[:, 0].unique(return_counts=True)
    assert torch.equal(found, charge)
    assert int((times == 2).sum()) == int((batch.counts > 0).sum())
    summed = torch.zeros_like(batch.four_momenta).index_add_(
        0, changed.features[:, 0].long(), changed.four_momenta
    )
    torch.testing.assert_close(summed, batch.four_momenta)


def test_a_reflection_turns_the_sign_of_delta_phi_for_some_jets_and_not_for_others(batch: JetBatch) -> None:
    torch.manual_seed(3)
    changed = apply(["reflect_phi"], batch)
    column = KINEMATIC.index("delta_phi")
    assert changed.features is not None
    assert batch.features is not None
    turned = torch.isclose(changed.features[:, column], -batch.features[:, column])
    per_jet = torch.zeros(len(batch)).index_add_(0, batch.jet_of, turned.float()) / batch.counts.clamp_min(1)
    assert set(per_jet[batch.counts > 0].tolist()) == {0.0, 1.0}


def test_stored_jet_columns_are_those_of_the_changed_jet(batch: JetBatch) -> None:
    names = ("jet_eta", "jet_energy", "jet_nparticles", "jet_tau1")
    columns = torch.cat((batch.select_jets(names[:3]), torch.ones(8, 1, dtype=torch.float64)), dim=1)
    stored = replace(batch, jet_features=columns, jet_feature_names=names)
    for name in AUGMENTATIONS:
        torch.manual_seed(3)
        changed = apply([name], stored)
        fresh = JetBatch.from_arrays(changed.four_momenta, changed.offsets)
        torch.testing.assert_close(changed.select_jets(names[:3]), fresh.select_jets(names[:3]))
        assert changed.select_jets(["jet_tau1"]).eq(1).all()


def test_what_a_change_cannot_tell_of_a_file_s_columns_is_refused() -> None:
    for name, inputs, columns in (
        ("boost_z", Inputs(features=("dz", "d0")), "dz"),
        ("rotate_axis", Inputs(features=("d0",)), "d0"),
        ("move_prong", Inputs(jet_features=("jet_pt", "jet_tau1")), "jet_tau1"),
    ):
        with pytest.raises(ConfigError, match=f"{name} does not know what becomes of {columns} "):
            refuse_stale([name], inputs)
    refuse_stale(
        ["reflect_phi", "reflect_eta", "smear_soft"], Inputs(features=FULL, jet_features=("jet_tau1",))
    )
    refuse_stale(list(AUGMENTATIONS), Inputs(features=KINEMATIC, jet_features=("jet_pt", "jet_mass")))
