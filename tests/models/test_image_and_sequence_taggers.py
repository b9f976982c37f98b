"""Taggers on images and on ordered constituents beside what every tagger promises: what lies beyond a limit,
P-CNN against the padded network that it is, poses, orders, refusals."""

from __future__ import annotations

import pytest
import torch
from cloud import COUNTS, cloud, shuffled
from padded import dense_features
from padded_p_cnn import PaddedPCNN
from small_taggers import seen
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create
from hepml.models.topodnn import standard_pose
from hepml.representations.sequence import leading


@pytest.mark.parametrize("name", ["topodnn", "p_cnn", "rnn"])
def test_what_is_beyond_the_longest_sequence_is_not_read(name: str) -> None:
    limit = {"topodnn": {"constituents": 10}, "p_cnn": {"length": 10}, "rnn": {"max_constituents": 10}}[name]
    model, batch = seen(name, **limit), cloud()
    rows, offsets = leading(batch, 10)
    # The features of the short jets are those in the long ones, relative to the same axes.
    whole = JetBatch.from_arrays(
        batch.four_momenta,
        batch.offsets,
        batch.select(model.inputs.features),
        feature_names=model.inputs.features,
    )
    short = JetBatch.from_arrays(
        whole.four_momenta[rows], offsets, whole.features[rows], feature_names=model.inputs.features
    )
    assert model.inputs.max_constituents == 10
    with torch.no_grad():
        assert torch.allclose(model(whole), model(short), rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [COUNTS, (127, 3), (140, 0), (2, 1)])
def test_p_cnn_is_the_padded_network_with_the_same_weights(counts: tuple[int, ...]) -> None:
    """In training too: outputs, running statistics and gradients."""
    torch.manual_seed(0)
    ours = create("p_cnn", dropout=0.0).double()
    theirs = PaddedPCNN(7, 2, 32, ((64, 64), (64, 64), (128, 128)), 512).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    theirs.load_state_dict(ours.state_dict())
    batch = cloud(counts)
    x, _ = dense_features(batch, ours.inputs.features, 140)
    for training in (True, False):
        ours.train(training), theirs.train(training)
        got, expected = ours(batch), theirs(x[:, :128].mT)
        assert torch.allclose(got, expected, rtol=0, atol=1e-10)
        for model, y in ((ours, got), (theirs, expected)):
            model.zero_grad()
            y.square().sum().backward()
        wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
        for name, parameter in ours.named_parameters():
            scale = float(wanted[name].abs().max().clamp_min(1))
            assert torch.allclose(parameter.grad, wanted[name], rtol=1e-6, atol=1e-8 * scale), name
        kept = dict(theirs.named_buffers())
        for name, buffer in ours.named_buffers():
            assert torch.allclose(buffer.double(), kept[name].double(), rtol=0, atol=1e-10), name


def test_topodnn_pose_keeps_the_mass_and_puts_the_two_hardest_where_it_says() -> None:
    batch = shuffled(cloud())
    rows, offsets = leading(batch)
    p = batch.four_momenta[rows]
    pose = standard_pose(p, offsets)
    pt, eta, phi = pose.unbind(1)

    def mass(momenta: Tensor) -> Tensor:
        return kinematics.mass(momenta.new_zeros(len(batch), 4).index_add_(0, batch.jet_of, momenta))

    assert torch.allclose(
        mass(kinematics.from_pt_eta_phi(pt, eta, phi)), mass(p), rtol=0, atol=1e-4
    )  # of ~100 GeV
    first = offsets[:-1][batch.counts > 0]
    second = offsets[:-1][batch.counts > 1] + 1
    assert torch.allclose(pose[first, 1:], torch.zeros(len(first), 2, dtype=p.dtype), atol=1e-12)
    assert eta[second].abs().max() < 1e-12
    assert (phi[second] < 0).all()
    assert (torch.zeros(len(batch), dtype=p.dtype).index_add_(0, batch.jet_of, pt * eta) > -1e-9).all()


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_rnn_reads_in_order_of_transverse_momentum(order: str) -> None:
    model, batch = seen("rnn", order=order), shuffled(cloud())
    rows, offsets = leading(batch)
    x = batch.select(model.inputs.features)[rows]
    expected = []
    with torch.no_grad():
        for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            read = x[a:b].flip(0) if order == "rising" else x[a:b]
            state = model.rnn(read[:, None])[1][0][0] if b > a else x.new_zeros(1, 8)
            expected.append(model.head(state))
        assert torch.allclose(model(batch), torch.cat(expected), rtol=0, atol=1e-12)


def test_images_with_charge_ask_for_it() -> None:
    model = create("cnn", channels=("pt", "charged_pt"))
    assert model.inputs.features == ("charge",)
    assert create("cnn").inputs.features == ()


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="too small"):
        create("cnn", pixels=6)
    with pytest.raises(ConfigError, match="do not divide"):
        create("resnext", widths=(30, 64, 128, 256))
