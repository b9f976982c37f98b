"""Jet images: what is in which pixel, the standard pose, and what pictures do not depend on."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.representations.image import features_needed, jet_images
from hepml.testing import sample_jets
from hepml.testing.groups import GROUPS

POSES = [
    {"centre": c, "rotate": r, "flip": f}
    for c, r, f in itertools.product(
        ("axis", "centroid", "leading"), ("none", "principal", "second"), ("none", "horizontal", "both")
    )
]


def jet(points: list[tuple[float, float, float]], eta: float = 0.3, phi: float = 3.0) -> JetBatch:
    """One jet of massless constituents (pT, eta, phi) around a place near the seam of phi, with its axis
    stated to be there."""
    pt, x, y = torch.tensor(points, dtype=torch.float64).unbind(1)
    p = kinematics.from_pt_eta_phi(pt, eta + x, phi + y)
    batch = JetBatch.from_arrays(p, [0, len(points)])
    at = torch.tensor([[100.0, eta, phi]], dtype=torch.float64)
    object.__setattr__(batch, "jet_momenta", kinematics.from_pt_eta_phi(*at.unbind(1)))
    return batch


def centre_of(picture: Tensor, half_width: float) -> tuple[float, float]:
    """Mean (eta, phi) of a picture [P, P], of pixel centres."""
    side = len(picture)
    at = (torch.arange(side, dtype=picture.dtype) + 0.5) / side * 2 * half_width - half_width
    return float((picture.sum(0) * at).sum() / picture.sum()), float(
        (picture.sum(1) * at).sum() / picture.sum()
    )


def test_each_constituent_fills_the_pixel_it_is_in_across_the_seam_of_phi() -> None:
    batch = jet([(60, 0.05, 0.25), (30, -0.75, -0.75), (10, 0.06, 0.26), (5, 0.9, 0.0)])
    picture = jet_images(batch, 16, 0.8, intensity="gev")[0, 0]
    expected = torch.zeros(16, 16, dtype=torch.float64)
    expected[10, 8], expected[0, 0] = 70, 30  # rows are phi, columns eta; what is at 0.9 is outside
    assert torch.allclose(picture, expected)
    shares = jet_images(batch, 16, 0.8)[0, 0]
    assert torch.allclose(shares, expected / 105)


def test_pictures_of_the_other_hemisphere_are_mirrored_as_all_angles_are() -> None:
    here = jet_images(jet([(60, 0.05, 0.25), (30, -0.4, 0.1)]), 16)
    there = jet_images(jet([(60, -0.05, 0.25), (30, 0.4, 0.1)], eta=-0.3), 16)
    assert torch.equal(here, there)


def test_positions_are_those_of_the_features() -> None:
    batch = sample_jets(1, smallest=30)
    angles = batch.select(("delta_eta", "delta_phi"))
    expected = torch.zeros(20, 20, dtype=torch.float64)
    pt = kinematics.pt(batch.four_momenta)
    for (x, y), weight in zip(angles.tolist(), pt.tolist(), strict=True):
        column, row = math.floor((x + 1.0) * 10), math.floor((y + 1.0) * 10)
        if 0 <= column < 20 and 0 <= row < 20:
            expected[row, column] += weight
    assert torch.allclose(jet_images(batch, 20, 1.0, intensity="gev")[0, 0], expected, atol=1e-9)


def test_the_centroid_is_in_the_middle() -> None:
    picture = jet_images(jet([(60, 0.3, 0.2), (30, -0.1, 0.5), (10, 0.2, 0.1)]), 200, 1.0, centre="centroid")[
        0, 0
    ]
    assert max(map(abs, centre_of(picture, 1.0))) < 0.01


def test_the_principal_axis_is_upright() -> None:
    batch = jet([(50, 0.2, 0.2), (50, -0.2, -0.2), (1, 0.05, -0.05), (1, -0.05, 0.05)])
    picture = jet_images(batch, 20, 1.0, centre="centroid", rotate="principal", intensity="gev")[0, 0]
    rows, columns = picture.nonzero(as_tuple=True)
    heavy = picture[rows, columns] > 40
    assert rows[heavy].tolist() == [7, 12]
    assert set(columns[heavy].tolist()) <= {9, 10}


def test_the_second_constituent_is_below_the_hardest_in_the_middle() -> None:
    batch = jet([(20, -0.3, 0.4), (50, 0.1, 0.1), (5, 0.5, -0.2)])
    picture = jet_images(batch, 40, 1.0, centre="leading", rotate="second", intensity="gev")[0, 0]
    assert float(picture[20, 20]) == pytest.approx(50)
    assert float(picture[10, 20]) == pytest.approx(20)  # 0.5 below


@pytest.mark.parametrize("flip", ["horizontal", "both"])
def test_most_transverse_momentum_is_on_the_side_it_is_flipped_to(flip: str) -> None:
    pictures = jet_images(sample_jets(12), 32, 2.0, centre="centroid", flip=flip)[:, 0]
    right, left = pictures[:, :, 16:], pictures[:, :, :16]
    if flip == "horizontal":
        assert (right.sum((1, 2)) > left.sum((1, 2))).all()
        return
    quadrants = [half[:, rows].sum((1, 2)) for half in (right, left) for rows in (slice(16, None), slice(16))]
    assert (torch.stack(quadrants).argmax(0) == 0).all()
    assert not torch.equal(pictures, jet_images(sample_jets(12), 32, 2.0, centre="centroid")[:, 0])


@pytest.mark.parametrize("pose", POSES, ids=lambda p: "-".join(p.values()))
@pytest.mark.parametrize("group", ["permutation", "azimuthal-rotation"])
def test_pictures_do_not_change_under_what_models_declare(pose: dict[str, str], group: str) -> None:
    batch = sample_jets(8, smallest=1)
    before = jet_images(batch, 24, **pose)
    for element in GROUPS[group](torch.Generator().manual_seed(0), (), 2, torch.float64):
        assert torch.allclose(jet_images(element.act(batch), 24, **pose), before, atol=1e-9)


@pytest.mark.parametrize("pose", POSES, ids=lambda p: "-".join(p.values()))
def test_a_picture_does_not_depend_on_the_rest_of_its_batch(pose: dict[str, str]) -> None:
    batch = sample_jets(6, smallest=0, largest=10)
    together = jet_images(batch, 16, **pose)
    alone = torch.cat([jet_images(batch.take([i]), 16, **pose) for i in range(6)])
    assert torch.equal(together, alone)
    assert not together[0].any()
    assert jet_images(batch.take([0, 0]), 16, **pose).abs().sum() == 0
    assert jet_images(batch.take([]), 16, **pose).shape == (0, 1, 16, 16)


def test_channels_count_what_they_say() -> None:
    batch = sample_jets(4)
    charge = (torch.arange(len(batch.four_momenta)) % 3 - 1).double()
    batch = JetBatch.from_arrays(
        batch.four_momenta, batch.offsets, charge[:, None], feature_names=("charge",)
    )
    pt, count, charged, neutral = jet_images(
        batch, 16, 4.0, channels=("pt", "count", "charged_pt", "neutral_pt"), intensity="gev"
    ).unbind(1)
    assert torch.allclose(count.sum((1, 2)), batch.counts.double())
    assert torch.allclose(charged + neutral, pt)
    assert (charged.sum((1, 2)) > 0).all()
    assert features_needed(("pt", "charged_pt")) == ("charge",)
    assert features_needed(("pt", "count")) == ()
    with pytest.raises(ConfigError, match="did you mean 'charged_pt'"):
        jet_images(batch, channels=("charge_pt",))


def test_derivatives_by_momenta_are_those_of_the_intensities_and_finite() -> None:
    for pose in (
        {},
        {"centre": "leading", "rotate": "second"},
        {"centre": "centroid", "rotate": "principal"},
    ):
        batch = sample_jets(6, smallest=0, largest=10)
        p = batch.four_momenta.clone().requires_grad_()
        jet_images(batch.with_four_momenta(p), 16, 4.0, intensity="gev", **pose).sum().backward()
        along = p.detach()[:, 1:3] / kinematics.pt(p.detach())[:, None]
        assert torch.allclose(p.grad[:, 1:3], along, atol=1e-9)
