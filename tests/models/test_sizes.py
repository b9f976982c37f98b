"""Parameters of every registered model: at the published configuration, which `hepml models` prints, and at
others that papers or their packages give a number for."""

from __future__ import annotations

from typing import Any

import pytest
from small_taggers import NAMES

from hepml.models import count_parameters, create, entry

# At the published configuration. Where the literature has another number, or none, the reason is beside it.
PUBLISHED = {
    "cnn": 609_666,
    "dgcnn": 157_968,
    "efn": 82_358,
    "efp": 1_000,
    "efp_mlp": 2_306,  # ours
    "efp_mlp_safe": 2_162,  # ours
    "ensemble": 84_764,  # ours
    "gat": 35_416,
    "gcn": 21_776,
    "graph_network": 34_064,
    "hamiltonian_cloud": 58_048,  # ours
    # the package has 1,077,317: weights of which the head reads nothing are left out here
    "lgatr": 1_074_050,
    "lgatr_slim": 2_014_114,  # 2,030,242, the same
    "lgn": 4_518,
    "lloca": 2_002_594,
    "lloca_transformer": 1_997_076,  # 2.0M, of which 1,978,882 in the transformer, as in the package
    "lorentznet": 224_072,
    "lundnet": 391_724,
    "mlp": 8_962,
    "p_cnn": 349_456,
    "part": 2_141_134,
    "particlenet": 366_160,
    "particlenet_lite": 26_416,
    "pelican": 208_797,
    "pelican_small": 1_107,
    "perceptron": 16,
    "pfn": 82_458,
    "recnn": 8_481,
    "recnn_gated": 48_761,
    "residual_cloud": 58_042,  # ours
    "resnext": 1_457_314,
    "rnn": 78_530,
    "topodnn": 59_323,  # with one output, as for the Bernoulli objective
    "transformer": 1_984_400,
    "treenin": 33_901,
}
OTHERS: list[tuple[str, dict[str, Any], int]] = [
    ("efp", {"degree": 3}, 2 * 13),
    ("lgatr", {}, 1_073_858),
    ("lgatr_slim", {}, 2_013_826),
    ("lgn", {}, 4_514),
    ("lloca_transformer", {}, 1_996_299),
    ("lorentznet", {}, 223_568),
    ("particlenet", {"features": ("log_pt", "log_energy", "delta_eta", "delta_phi")}, 365_578),
    ("part", {"features": "full", "outputs": 10}, 2_143_486),
    ("pelican", {}, 208_687),
    ("pelican_small", {"references": ("lightlike_beam",)}, 1_147),
    ("perceptron", {"outputs": 1, "observables": ("jet_mass", "jet_nparticles")}, 3),
    ("transformer", {"width": 64, "blocks": 4, "heads": 4}, 200_784),
]


def test_no_model_is_left_out() -> None:
    assert set(PUBLISHED) == set(NAMES)


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_published_configurations_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert count_parameters(create(name, **entry(name).published)) == parameters
    assert entry(name).parameters in (None, parameters), "what the registry says of it"


@pytest.mark.parametrize(("name", "hyperparameters", "parameters"), OTHERS)
def test_other_configurations_have_the_number_of_parameters_that_is_known_of_them(
    name: str, hyperparameters: dict[str, Any], parameters: int
) -> None:
    assert count_parameters(create(name, **hyperparameters)) == parameters
