"""What the taggers on images and on ordered constituents promise: published size, defined answers for short jets, jets that do not see
each other, gradients; and P-CNN against the padded network that it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cloud import COUNTS, cloud, shuffled
from padded_p_cnn import PaddedPCNN
from torch import Tensor, nn

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import count_parameters, create, entry
from hepml.models.topodnn import standard_pose
from hepml.representations.dense import dense_features
from hepml.representations.sequence import leading

SMALL: dict[str, dict[str, Any]] = {
    "topodnn": {"hidden": (16, 8)},
    "p_cnn": {"length": 40, "stem": 4, "stages": ((6,), (8, 8)), "head": (8,)},
    "rnn": {"hidden": 8, "head": (8,)},
    "gru": {"cell": "gru", "hidden": 6, "layers": 2, "bidirectional": True, "head": (8,)},
    "cnn": {"pixels": 16, "maps": ((4, 4), (6,)), "head": (8,)},
    "resnext": {"pixels": 16, "stem": 6, "widths": (4, 8), "blocks": (1, 2), "groups": 2},
}
NAMES = tuple(SMALL)


def small(name: str, **hyperparameters: Any) -> nn.Module:
    torch.manual_seed(3)
    return create("rnn" if name == "gru" else name, **{**SMALL[name], **hyperparameters})


def built(name: str, dtype: torch.dtype = torch.float64, **hyperparameters: Any) -> nn.Module:
    """A small tagger whose batch norms have seen jets, so that nothing is trivially zero or one."""
    model = small(name, **hyperparameters).to(dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    model.train()
    with torch.no_grad():
        for seed in range(3):
            model(cloud(seed=seed, dtype=dtype))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "hyperparameters", "parameters"),
    [
        ("topodnn", {"outputs": 1}, 59_323),
        ("p_cnn", {}, 349_456),
        ("resnext", {}, 1_457_314),
        ("cnn", {}, 609_666),
        ("rnn", {}, 78_530),
    ],
)
def test_published_configurations_have_the_published_number_of_parameters(
    name: str, hyperparameters: dict[str, object], parameters: int
) -> None:
    """TopoDNN's has one output, as for the Bernoulli objective."""
    assert count_parameters(create(name, **hyperparameters)) == parameters
    assert entry(name).parameters == parameters
    assert entry(name).published == hyperparameters


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outputs", [1, 5])
def test_logits_have_one_row_a_jet_and_one_column_an_output(name: str, outputs: int) -> None:
    assert built(name, torch.float32, outputs=outputs)(cloud(dtype=torch.float32)).shape == (len(COUNTS), outputs)


@pytest.mark.parametrize("name", NAMES)
def test_jets_with_no_one_or_few_constituents_have_finite_scores(name: str) -> None:
    batch, model = cloud((0, 1, 2, 3, 39, 40, 41, 60)), built(name)
    for part in (batch, batch.take([0]), batch.take([1]), batch.take([0, 0, 1]), batch.take([2, 3])):
        with torch.no_grad():
            assert torch.isfinite(model(part)).all()


@pytest.mark.parametrize("name", NAMES)
def test_training_steps_on_short_jets_stay_finite(name: str) -> None:
    model = built(name, torch.float32).train()
    batch = cloud((0, 1, 2, 5, 16), dtype=torch.float32)
    for part in (batch, batch.take([0]), batch.take([1]), batch.take([2])):
        model.zero_grad()
        model(part).square().sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(torch.isfinite(b).all() for b in model.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    """Least of all on what the longest jet beside it is."""
    model, batch = built(name), cloud()
    longest = cloud((90, 70), seed=9)
    joined = JetBatch.from_arrays(
        torch.cat((batch.four_momenta, longest.four_momenta)),
        torch.cat((batch.offsets, batch.offsets[-1] + longest.offsets[1:])),
    )
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(batch.take([i])) for i in range(len(batch))])
        backwards = model(batch.take(torch.arange(len(batch) - 1, -1, -1))).flip(0)
        crowded = model(joined)[: len(batch)]
    for other in (alone, backwards, crowded):
        assert torch.allclose(together, other, rtol=0, atol=1e-10)
    assert together[batch.counts > 2].std(0).min() > 1e-5  # and jets do differ


@pytest.mark.parametrize("name", NAMES)
def test_constituents_may_come_in_any_order(name: str) -> None:
    model, batch = built(name), cloud()
    with torch.no_grad():
        assert torch.allclose(model(batch), model(shuffled(batch)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_gives_no_rows(name: str, training: bool) -> None:
    empty = JetBatch.from_arrays(torch.zeros((0, 4)), torch.zeros(1, dtype=torch.int64))
    assert built(name, torch.float32).train(training)(empty).shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = built(name).train()
    model(cloud()).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["topodnn", "cnn", "resnext"])  # those that read four-momenta, not features
def test_derivatives_by_momenta_are_finite_for_jets_of_any_length(name: str) -> None:
    batch = cloud((0, 1, 2, 3, 30))
    p = batch.four_momenta.clone().requires_grad_()
    built(name)(batch.with_four_momenta(p)).square().sum().backward()
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_float32_and_mixed_precision_agree_with_float64(name: str) -> None:
    model = built(name)
    with torch.no_grad():
        exact = model(cloud()).float()
        single = model.float()(cloud(dtype=torch.float32))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(cloud(dtype=torch.float32)).float()
    assert torch.allclose(exact, single, rtol=1e-3, atol=1e-3)
    assert (exact - mixed).abs().max() < 0.05 * exact.abs().max().clamp_min(1)


@pytest.mark.parametrize("name", NAMES)
def test_a_tagger_learns_the_side_of_a_simple_boundary(name: str) -> None:
    torch.manual_seed(0)
    batch = cloud([14] * 48, dtype=torch.float32, spread=[0.1, 0.3] * 24)  # class 1 is wider
    model = small(name, **({"hidden": 32} if name in ("rnn", "gru") else {}))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# ---------------------------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize("name", ["topodnn", "p_cnn", "rnn"])
def test_what_is_beyond_the_longest_sequence_is_not_read(name: str) -> None:
    limit = {"topodnn": {"constituents": 10}, "p_cnn": {"length": 10}, "rnn": {"max_constituents": 10}}[name]
    model, batch = built(name, **limit), cloud()
    rows, offsets = leading(batch, 10)
    # The features of the short jets are those in the long ones, relative to the same axes.
    whole = JetBatch.from_arrays(
        batch.four_momenta, batch.offsets, batch.select(model.inputs.features), feature_names=model.inputs.features
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

    assert torch.allclose(mass(kinematics.from_pt_eta_phi(pt, eta, phi)), mass(p), rtol=0, atol=1e-4)  # of ~100 GeV
    first = offsets[:-1][batch.counts > 0]
    second = offsets[:-1][batch.counts > 1] + 1
    assert torch.allclose(pose[first, 1:], torch.zeros(len(first), 2, dtype=p.dtype), atol=1e-12)
    assert eta[second].abs().max() < 1e-12
    assert (phi[second] < 0).all()
    assert (torch.zeros(len(batch), dtype=p.dtype).index_add_(0, batch.jet_of, pt * eta) > -1e-9).all()


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_rnn_reads_in_order_of_transverse_momentum(order: str) -> None:
    model, batch = built("rnn", order=order), shuffled(cloud())
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
    model = small("cnn", channels=("pt", "charged_pt"))
    assert model.inputs.features == ("charge",)
    assert small("cnn").inputs.features == ()


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="too small"):
        create("cnn", pixels=6)
    with pytest.raises(ConfigError, match="do not divide"):
        create("resnext", widths=(30, 64, 128, 256))
