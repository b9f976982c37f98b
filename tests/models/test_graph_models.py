"""Graph networks on PyG convolutions: gcn, gat, dgcnn, and any convolution that a config names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cloud import COUNTS, cloud
from torch import nn

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create, graph_network
from hepml.nn.convolutions import Convolution, convolution_names
from hepml.packed.pooling import segment_max

NAMES = ("gcn", "gat", "dgcnn", "graph_network")
SMALL: dict[str, Any] = {"widths": (8, 8), "head": (8,), "neighbours": 4}
# What a convolution must be told; those that are not here need nothing.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "APPNP": {"K": 2, "alpha": 0.1},
    "ChebConv": {"K": 2},
    "GCN2Conv": {"alpha": 0.1},
    "GMMConv": {"kernel_size": 3},
    "GatedGraphConv": {"num_layers": 2},
    "PDNConv": {"hidden_channels": 8},
    "PNAConv": {"aggregators": ["mean", "max"], "scalers": ["identity"]},
    "RGATConv": {"attention_mode": "multiplicative-self-attention"},
    "SSGConv": {"alpha": 0.1},
}
# Not for jets, or in need of a compiled library that is not required.
REFUSED = {
    "CuGraphGATConv", "CuGraphRGCNConv", "CuGraphSAGEConv", "DNAConv", "DynamicEdgeConv", "FusedGATConv",
    "GravNetConv", "HANConv",
    "HEATConv", "HGTConv", "HeteroConv", "HypergraphConv", "MeshCNNConv", "PANConv", "PPFConv", "SignedConv",
    "SplineConv", "WLConv",
    "XConv",
}  # fmt: skip


def built(name: str, dtype: torch.dtype = torch.float64, **hyperparameters: Any) -> nn.Module:
    """A small model whose batch norms have seen jets."""
    torch.manual_seed(3)
    model = create(name, **{**SMALL, **hyperparameters}).to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    model.train()
    with torch.no_grad():
        for seed in range(2):
            model(cloud(seed=seed, dtype=dtype))
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_on_a_few_jets_at_a_time_give_the_same_scores(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = built(name), cloud()
    with torch.no_grad():
        together = model(batch)
        monkeypatch.setattr(graph_network, "_EDGES", 60)
        torch.testing.assert_close(model(batch), together, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_on_a_few_jets_at_a_time_give_the_same_training_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    for edges in (60, 1 << 20):
        monkeypatch.setattr(graph_network, "_TRAINING_EDGES", edges)
        model = built(name, dropout=0.0).train()
        out = model(cloud())
        out.square().sum().backward()
        steps.append([out.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*steps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", sorted(set(convolution_names()) - REFUSED))
def test_any_convolution_of_pyg_makes_a_tagger_whose_jets_do_not_see_each_other(name: str) -> None:
    model = built("graph_network", convolution=name, convolution_arguments=ARGUMENTS.get(name), embed=8)
    batch = cloud((0, 1, 2, 9, 14))
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(batch.take([i])) for i in range(len(batch))])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-10)
    assert torch.isfinite(together).all()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_convolution_that_does_not_fit_jets_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        create("graph_network", convolution=name, convolution_arguments=ARGUMENTS.get(name), **SMALL)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("hyperparameters", "said"),
    [
        ({"convolution": "GATv2"}, "did you mean 'GATv2Conv'"),
        ({"convolution": "GATConv", "convolution_arguments": {"haeds": 2}}, "did you mean 'heads'"),
        ({"convolution": "GATConv", "convolution_arguments": {"heads": 3}}, "3 heads do not share 8 columns"),
        (
            {"convolution": "GCNConv", "convolution_arguments": {"cached": True}},
            "'cached' is not yours to set",
        ),
        ({"convolution": "ChebConv"}, "needs K"),
        ({"convolution": "EdgeConv", "convolution_arguments": {"nn": 8}}, "is a list of widths"),
        ({"edges": "full", "dynamic": True}, "dynamic edges are nearest neighbours"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_mends_it(hyperparameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create("graph_network", **SMALL, **hyperparameters)


def test_edge_features_move_the_score_where_the_convolution_takes_them_and_are_not_made_where_not() -> None:
    """The features are the angles alone, so that a change of energies is seen through the edges only."""
    batch = cloud((9, 14))
    softer = batch.with_four_momenta(
        batch.four_momenta * torch.linspace(0.5, 1, 23, dtype=torch.float64)[:, None]
    )
    features = batch.select(("delta_eta", "delta_phi"))
    before, after = (
        JetBatch.from_arrays(b.four_momenta, b.offsets, features, feature_names=("delta_eta", "delta_phi"))
        for b in (batch, softer)
    )
    for name, moves in (("GINEConv", True), ("GCNConv", True), ("GATv2Conv", True), ("SAGEConv", False)):
        model = built("graph_network", convolution=name, features=("delta_eta", "delta_phi"), edges="full")
        with torch.no_grad():
            change = float((model(after) - model(before)).abs().max())
        assert (change > 1e-4) == moves, name
        assert model.inputs.four_momenta == moves


def test_heads_share_the_width_and_random_numbers_are_left_alone() -> None:
    assert Convolution("GATv2Conv", 5, 12, 0, {"heads": 3}).outputs == 12
    assert Convolution("GATv2Conv", 5, 12, 0, {"heads": 3, "concat": False}).outputs == 12
    assert Convolution("MixHopConv", 5, 12).outputs == 36
    torch.manual_seed(0)
    nn.Linear(5, 12)
    expected = torch.rand(1)
    torch.manual_seed(0)
    from torch_geometric.nn import SAGEConv

    SAGEConv(5, 12)
    direct = torch.rand(1)
    torch.manual_seed(0)
    Convolution("SAGEConv", 5, 12)
    assert torch.equal(torch.rand(1), direct)
    assert not torch.equal(expected, direct)


def test_the_largest_row_of_each_jet_is_found_and_jets_without_rows_have_zeros() -> None:
    values = torch.randn(sum(COUNTS), 3) - 10
    offsets = torch.tensor([0, *COUNTS]).cumsum(0)
    found = segment_max(values, offsets)
    for b, count in enumerate(COUNTS):
        wanted = values[offsets[b] : offsets[b + 1]].amax(0) if count else torch.zeros(3)
        assert torch.equal(found[b], wanted)
