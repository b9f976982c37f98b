"""Operations are counted as they are by hand, speeds are of whole rounds, and boosts are boosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hepml import kinematics, models
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.errors import DataError
from hepml.training.benchmark.cost import count_flops, inference_speed, matmul_rate, training_speed
from hepml.training.benchmark.measure import boost_scan, boosted, cost
from hepml.training.checkpoints import describe
from hepml.training.run_config import RunConfig


def jets(count: int, constituents: int, seed: int = 0) -> JetBatch:
    """Massless constituents around an axis, in falling pT."""
    g = torch.Generator().manual_seed(seed)
    n = count * constituents
    pt = (
        torch.rand(count, constituents, generator=g)
        .mul(20)
        .add(1)
        .sort(dim=1, descending=True)
        .values.flatten()
    )
    eta, phi = torch.randn(n, generator=g) * 0.2 + 0.5, torch.randn(n, generator=g) * 0.2 + 1
    p = kinematics.from_pt_eta_phi(pt, eta, phi)
    labels = torch.arange(count) % 2
    return JetBatch.from_arrays(p, torch.arange(count + 1) * constituents, labels=labels)


def test_particlenet_counts_what_it_computes() -> None:
    """128 constituents: edges of three blocks, the first layer once a constituent, neighbours by a product
    but for the first search."""
    n, k = 128, 16
    edges = n * k * 2 * 2 * (64**2 + 128**2 + 256**2)
    nodes = n * 2 * (3 * 7 * 64 + 3 * 64 * 128 + 3 * 128 * 256)
    head, neighbours = 2 * (256 * 256 + 256 * 2), n * n * 2 * (64 + 128)
    assert count_flops(models.create("particlenet"), jets(2, n)) == edges + nodes + head + neighbours


@pytest.mark.slow  # weaver takes half a minute to import
def test_weavers_particlenet_counts_the_known_1061_million() -> None:
    pytest.importorskip("weaver")
    from weaver.nn.model.ParticleNet import ParticleNet

    blocks = [(16, (w,) * 3) for w in (64, 128, 256)]
    network = ParticleNet(7, 2, blocks, [(256, 0.1)], use_fusion=False, use_fts_bn=False, use_counts=True)
    features = models.create("particlenet").inputs.features

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, batch: JetBatch) -> torch.Tensor:
            x = batch.select(features).view(len(batch), 128, -1).transpose(1, 2)
            return self.network(x[:, -2:], x, torch.ones(len(batch), 1, 128))

    assert count_flops(Wrapped(), jets(2, 128)) / 1e6 == pytest.approx(1061, abs=0.5)


class Recurrent(nn.Module):
    """An LSTM, whose fused kernels hide their products."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)

    def forward(self, batch: JetBatch) -> torch.Tensor:
        return self.lstm(batch.four_momenta.view(len(batch), -1, 4))[0][:, -1]


class Attending(nn.Module):
    """Fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 16)

    def forward(self, batch: JetBatch) -> torch.Tensor:
        x = self.map(batch.four_momenta.view(len(batch), 1, -1, 4))
        return nn.functional.scaled_dot_product_attention(x, x, x).mean(dim=(1, 2))


def test_fused_kernels_do_not_hide_their_products() -> None:
    n = 10
    assert count_flops(Recurrent(), jets(3, n)) == n * 2 * 4 * 8 * (4 + 8)
    assert count_flops(Attending(), jets(3, n)) == n * 2 * 4 * 16 + 2 * 2 * n * n * 16


def test_a_view_that_comes_with_the_batch_is_counted_unless_it_is_said_to_be_ready() -> None:
    model, batch = models.create("efp", degree=3), jets(4, 30)
    (name,) = model.inputs.extras
    given = replace(batch, extras={name: batch.extra(name)})
    weights = 2 * given.extras[name].shape[1] * 2  # a linear classifier with two outputs
    assert count_flops(model, given, ready=True) == weights
    assert count_flops(model, given) == count_flops(model, batch) > 10 * weights


def test_counting_leaves_the_model_as_it_was() -> None:
    model = models.create("pfn").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen = next(model.parameters()).requires_grad_(False)
    count_flops(model, jets(2, 5))
    assert model.training
    assert [p for p in model.parameters() if not p.requires_grad] == [frozen]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(DataError):
        count_flops(model, jets(2, 5).take(torch.zeros(0, dtype=torch.int64)))


def test_measuring_speed_trains_a_copy() -> None:
    model = models.create("pfn", phi=[8], f=[8])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = [jets(20, 8), jets(20, 12)]
    assert inference_speed(model, batches, seconds=0.02) > training_speed(model, batches, seconds=0.02) > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_matmul_rate_is_that_of_products_on_one_thread_and_leaves_threads_alone() -> None:
    threads = torch.get_num_threads()
    rates = [matmul_rate(torch.device("cpu"), dtype, seconds=0.0) for dtype in (torch.float32, torch.float64)]
    assert torch.get_num_threads() == threads
    assert all(1e8 < rate < 1e13 for rate in rates)
    assert rates[0] > rates[1], "float64 has half the numbers in a register"


def test_a_boost_changes_energies_and_keeps_masses_and_the_order_in_pt() -> None:
    batch = jets(4, 20)
    moved = boosted(batch, 0.9)
    gamma = 1 / np.sqrt(1 - 0.9**2)
    assert torch.allclose(moved.jets[:, 0], gamma * (batch.jets[:, 0] + 0.9 * batch.jets[:, 1]), rtol=1e-5)
    assert torch.allclose(kinematics.mass(moved.jets), kinematics.mass(batch.jets), rtol=1e-4)
    pt = kinematics.pt(moved.four_momenta).view(4, 20)
    assert bool((pt[:, 1:] <= pt[:, :-1]).all())
    assert torch.equal(moved.labels, batch.labels)  # type: ignore[arg-type]
    assert torch.allclose(boosted(batch, 0.0).four_momenta, batch.four_momenta, rtol=1e-6)


def test_identities_stay_with_their_constituents_and_kinematic_features_are_new() -> None:
    batch = jets(3, 6)
    charge = torch.arange(18.0)
    stored = JetBatch.from_arrays(
        batch.four_momenta,
        batch.offsets,
        torch.stack([torch.zeros(18), charge], dim=1),
        feature_names=("log_pt", "charge"),
    )
    moved = boosted(stored, 0.95)
    assert moved.feature_names == ("charge",)
    at = moved.select(("charge",))[:, 0].long()
    expected = boosted(batch, 0.95).four_momenta
    assert torch.equal(torch.sort(at).values, torch.arange(18))
    again = boosted(JetBatch.from_arrays(batch.four_momenta[at], batch.offsets), 0.95)
    assert torch.allclose(again.four_momenta, expected)
    assert not torch.allclose(moved.select(("log_pt",)), torch.zeros(18, 1))


def test_columns_that_cannot_be_boosted_are_refused() -> None:
    batch = jets(2, 3)
    for name in ("d0", "dz_error"):
        stored = JetBatch.from_arrays(
            batch.four_momenta, batch.offsets, torch.zeros(6, 1), feature_names=(name,)
        )
        with pytest.raises(DataError, match=name):
            boosted(stored, 0.5)


def test_an_invariant_tagger_keeps_its_accuracy_under_boosts_and_another_does_not(
    tiny: Callable[..., RunConfig],
) -> None:
    """By jet mass, which no boost changes, and by jet energy, which every boost changes; float64 would make
    it exact."""

    class By(nn.Module):
        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what
            self.inputs = models.create("pfn").inputs

        def forward(self, batch: JetBatch) -> torch.Tensor:
            value = kinematics.mass(batch.jets) if self.what == "mass" else batch.jets[:, 0]
            return torch.stack([torch.zeros_like(value), value - median[self.what]], dim=1)

    batch = jets(60, 15)
    median = {"mass": kinematics.mass(batch.jets).median(), "energy": batch.jets[:, 0].median()}
    scans = {}
    for what in median:
        model = By(what)
        above = (kinematics.mass(batch.jets) if what == "mass" else batch.jets[:, 0]) > median[what]
        labelled = JetBatch.from_arrays(batch.four_momenta, batch.offsets, labels=above.long())
        describe(model, {"classes": ["QCD", "Tbqq"]})
        scans[what] = boost_scan(
            model, JetDataset.from_batch(labelled, ("QCD", "Tbqq")), tiny(), [0.0, 0.5, 0.9], 50
        )
    assert scans["mass"]["jets"] == 50
    assert min(scans["mass"]["accuracy"]) > 0.97
    assert scans["energy"]["accuracy"][0] == 1.0
    assert scans["energy"]["accuracy"][2] < 0.7


def test_the_cost_of_a_trained_model_has_all_its_parts(tiny: Callable[..., RunConfig]) -> None:
    model = models.create("pfn", phi=[8], f=[8])
    batch = jets(70, 10)
    found = cost(model, JetDataset.from_batch(batch, ("QCD", "Tbqq")), tiny(), seconds=0.02)
    columns = len(model.inputs.features)
    assert found["flops"] == 10 * 2 * (columns * 8) + 2 * (8 * 8 + 8 * 2)
    assert found["constituents"] == 10
    assert found["device"].startswith("one CPU thread")
    assert found["training_jets_per_second"] > 0
