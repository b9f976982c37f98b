"""What every tagger of this room promises: published size, defined answers for short jets, jets that do not see each other, gradients."""

from __future__ import annotations

import pytest
import torch
from cloud import COUNTS, cloud
from torch import nn

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError, HepmlError
from hepml.models import count_parameters, create, entry, registry

NAMES = ("perceptron", "mlp", "pfn", "efn", "particlenet", "particlenet_lite")
SMALL = {"particlenet": {"widths": ((8, 8, 8), (12, 12, 12))}, "particlenet_lite": {"widths": ((8, 8), (12, 12))}}


def built(name: str, dtype: torch.dtype = torch.float64, **hyperparameters: object) -> nn.Module:
    """A tagger whose batch norms and standardisation have seen jets, so that nothing is trivially zero or one."""
    torch.manual_seed(3)
    model = create(name, **{**SMALL.get(name, {}), **hyperparameters}).to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
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
        ("pfn", {}, 82_458),
        ("efn", {}, 82_358),
        ("particlenet", {}, 366_160),
        ("particlenet", {"features": ("log_pt", "log_energy", "delta_eta", "delta_phi")}, 365_578),
        ("particlenet_lite", {}, 26_416),
        ("perceptron", {"outputs": 1, "observables": ("jet_mass", "jet_nparticles")}, 3),
    ],
)
def test_published_configurations_have_the_published_number_of_parameters(
    name: str, hyperparameters: dict[str, object], parameters: int
) -> None:
    assert count_parameters(create(name, **hyperparameters)) == parameters
    if not hyperparameters:
        assert entry(name).parameters == parameters


@pytest.mark.parametrize("name", NAMES)
def test_every_tagger_is_registered_with_paper_symmetry_and_summary(name: str) -> None:
    found = registry()[name]
    assert found.paper
    assert "permutation" in found.symmetries
    assert len(found.summary) > 20


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outputs", [1, 5])
def test_logits_have_one_row_a_jet_and_one_column_an_output(name: str, outputs: int) -> None:
    assert built(name, torch.float32, outputs=outputs)(cloud(dtype=torch.float32)).shape == (len(COUNTS), outputs)


@pytest.mark.parametrize("name", NAMES)
def test_jets_with_no_one_or_few_constituents_have_finite_scores(name: str) -> None:
    batch = cloud((0, 1, 2, 3, 6, 7, 8, 15, 16, 17))
    for part in (batch, batch.take([0]), batch.take([1]), batch.take([0, 0, 1]), batch.take([2, 3])):
        with torch.no_grad():
            assert torch.isfinite(built(name)(part)).all()


@pytest.mark.parametrize("name", NAMES)
def test_training_steps_on_short_jets_stay_finite(name: str) -> None:
    model = built(name, torch.float32)
    model.train()
    batch = cloud((0, 1, 2, 5, 16), dtype=torch.float32)
    for part in (batch, batch.take([0]), batch.take([1]), batch.take([2])):
        model.zero_grad()
        model(part).square().sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(torch.isfinite(b).all() for b in model.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    model, batch = built(name), cloud()
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(batch.take([i])) for i in range(len(batch))])
        backwards = model(batch.take(torch.arange(len(batch) - 1, -1, -1))).flip(0)
        crowded = model(JetBatch.from_arrays(*_joined(batch, cloud((90, 70), seed=9))))[: len(batch)]
    for other in (alone, backwards, crowded):
        assert torch.allclose(together, other, rtol=0, atol=1e-10)
    assert together[batch.counts > 2].std(0).min() > 1e-4  # and jets do differ


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_gives_no_rows(name: str, training: bool) -> None:
    empty = JetBatch.from_arrays(torch.zeros((0, 4)), torch.zeros(1, dtype=torch.int64))
    model = built(name, torch.float32).train(training)
    assert model(empty).shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = built(name)
    model.train()
    model(cloud()).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_float32_and_float64_agree(name: str) -> None:
    model = built(name)
    with torch.no_grad():
        exact = model(cloud())
        rounded = model.float()(cloud(dtype=torch.float32))
    assert exact.dtype == torch.float64
    assert rounded.dtype == torch.float32
    # float32 momenta give float32 features: the tolerance is theirs
    assert torch.allclose(exact.float(), rounded, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_tagger_learns_the_side_of_a_simple_boundary(name: str) -> None:
    torch.manual_seed(0)
    batch = cloud([14] * 48, dtype=torch.float32, spread=[0.1, 0.3] * 24)  # class 1 is wider
    model = create(name, **SMALL.get(name, {}))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_jet_observables_that_the_file_must_have_are_declared() -> None:
    assert create("mlp", observables=("jet_mass", "jet_sdmass", "jet_d2")).inputs.jet_features == ("jet_sdmass",)
    with pytest.raises(HepmlError, match="jet_sdmass"):
        create("mlp", observables=("jet_sdmass",))(cloud())


def test_particlenet_asks_for_its_coordinates_where_the_features_lack_them() -> None:
    assert create("particlenet", features=("log_pt",)).inputs.features == ("log_pt", "delta_eta", "delta_phi")
    with torch.no_grad():
        assert torch.isfinite(built("particlenet", features=("log_pt",))(cloud())).all()


def test_efn_refuses_a_feature_that_depends_on_momentum() -> None:
    with pytest.raises(ConfigError, match="infrared and collinear"):
        create("efn", angles=("delta_eta", "log_pt"))


def test_a_misspelt_hyperparameter_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'neighbours'"):
        create("particlenet_lite", neighbors=3)


def _joined(a: JetBatch, b: JetBatch) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat((a.four_momenta, b.four_momenta)), torch.cat((a.offsets, a.offsets[-1] + b.offsets[1:]))


def test_pfn_begins_with_an_average_over_so_many_constituents_as_multiplicity_says() -> None:
    """Only F's first weights differ from those of the plain start, by that factor, and the first logits are of order one."""
    features = ("log_pt_rel", "delta_eta", "delta_phi")
    batch = cloud([48] * 16, dtype=torch.float32)
    models = {}
    for multiplicity in (1.0, 48.0):
        torch.manual_seed(0)
        models[multiplicity] = create("pfn", features=features, multiplicity=multiplicity)
    plain, average = (models[m].state_dict() for m in (1.0, 48.0))
    (name,) = [n for n in plain if not torch.equal(plain[n], average[n])]
    assert name.startswith("f.")
    torch.testing.assert_close(plain[name], 48 * average[name])
    with torch.no_grad():
        assert models[48.0](batch).abs().max() < 3 < models[1.0](batch).abs().max()
    with pytest.raises(ConfigError, match="multiplicity"):
        create("pfn", multiplicity=0.0)
