"""What single taggers on features and observables promise beside what every tagger does: inputs that are
asked for, starts, refusals."""

from __future__ import annotations

import pytest
import torch
from cloud import cloud

from hepml.errors import ConfigError, HepmlError
from hepml.models import create


def test_jet_observables_that_the_file_must_have_are_declared() -> None:
    assert create("mlp", observables=("jet_mass", "jet_sdmass", "jet_d2")).inputs.jet_features == (
        "jet_sdmass",
    )
    with pytest.raises(HepmlError, match="jet_sdmass"):
        create("mlp", observables=("jet_sdmass",))(cloud())


def test_particlenet_asks_for_its_coordinates_where_the_features_lack_them() -> None:
    assert create("particlenet", features=("log_pt",)).inputs.features == ("log_pt", "delta_eta", "delta_phi")
    with torch.no_grad():
        assert torch.isfinite(
            create("particlenet", features=("log_pt",)).eval()(cloud(dtype=torch.float32))
        ).all()


def test_efn_refuses_a_feature_that_depends_on_momentum() -> None:
    with pytest.raises(ConfigError, match="infrared and collinear"):
        create("efn", angles=("delta_eta", "log_pt"))


def test_a_misspelt_hyperparameter_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'neighbours'"):
        create("particlenet_lite", neighbors=3)


def test_pfn_begins_with_an_average_over_so_many_constituents_as_multiplicity_says() -> None:
    """Only F's first weights differ from those of the plain start, by that factor, and the first logits are
    of order one."""
    features = ("log_pt_rel", "delta_eta", "delta_phi")
    batch = cloud([48] * 16, dtype=torch.float32)
    models = {}
    for multiplicity in (1.0, 48.0):
        torch.manual_seed(0)
        models[multiplicity] = create(
            "pfn", initialisation="published", features=features, multiplicity=multiplicity
        )
    plain, average = (models[m].state_dict() for m in (1.0, 48.0))
    (name,) = [n for n in plain if not torch.equal(plain[n], average[n])]
    assert name.startswith("f.")
    torch.testing.assert_close(plain[name], 48 * average[name])
    with torch.no_grad():
        assert models[48.0](batch).abs().max() < 3 < models[1.0](batch).abs().max()
    with pytest.raises(ConfigError, match="multiplicity"):
        create("pfn", multiplicity=0.0)
