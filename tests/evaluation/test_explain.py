"""Saliency, edges and filters against what is known in closed form."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import DataError, ModelError
from hepml.evaluation import saliency as explain
from hepml.evaluation.plots import jets as plot_jets
from hepml.inference.explaining import explain_files
from hepml.models import create
from hepml.packed.segments import segment_sum

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
from cloud import cloud
from toys import toy_arrays, write_toy_jets

FEATURES = ("log_pt", "delta_eta")


class Quadratic(nn.Module):
    """sum_i (w . x_i)² of one feature, so that gradient x input is twice the integrated gradient."""

    def __init__(self, features: Sequence[str] = FEATURES) -> None:
        super().__init__()
        self.inputs = Inputs(tuple(features))
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))

    def forward(self, batch: JetBatch) -> Tensor:
        return segment_sum((batch.select(self.inputs.features) * self.weight).square(), batch.offsets)


def first(outputs: Tensor) -> Tensor:
    return outputs[:, 0]


def test_saliency_of_a_quadratic_is_known_exactly_and_complete() -> None:
    batch = cloud((5, 0, 1, 12) * 20)  # several pieces
    model = Quadratic()
    found = explain.saliency(model, batch, first, features=FEATURES, steps=4)
    x = batch.select(FEATURES)
    assert found.names == FEATURES  # momenta do not move it
    torch.testing.assert_close(found.gradient_x_input, torch.stack((2 * x[:, 0] ** 2, 0 * x[:, 0]), dim=1))
    torch.testing.assert_close(found.integrated, torch.stack((x[:, 0] ** 2, 0 * x[:, 0]), dim=1))
    assert found.incompleteness(batch) < 1e-12
    torch.testing.assert_close(found.target, model(batch)[:, 0].detach())
    assert not bool(found.baseline.any())


def test_a_model_without_an_answer_to_inputs_of_zero_is_not_called_complete() -> None:
    class Logarithm(nn.Module):
        def forward(self, batch: JetBatch) -> Tensor:
            return segment_sum(batch.four_momenta[:, :1], batch.offsets).log()

    batch = cloud((5, 3))
    found = explain.saliency(Logarithm(), batch, first, features=())
    assert not torch.isfinite(found.baseline).any()
    assert np.isnan(found.incompleteness(batch))


def test_jets_that_cannot_be_scored_are_counted_and_left_out(tmp_path: Path) -> None:
    arrays = toy_arrays(60, seed=3)
    arrays["jet_sdmass"] = np.where(np.arange(60) % 6 == 0, np.nan, 100.0).astype(np.float32)
    file = write_toy_jets(tmp_path / "jets.root", arrays=arrays)
    model = create("perceptron", observables=("jet_sdmass", "jet_width"))
    summary = explain_files(model, file, tmp_path / "pictures", jets=60, draw=1, steps=2)
    assert summary["dropped"] == 10
    assert sum(summary["jets"].values()) == 50


def test_a_model_in_training_is_explained_in_evaluation_and_left_as_it_was(tmp_path: Path) -> None:
    model = create("particlenet_lite").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    file = write_toy_jets(tmp_path / "jets.root", 20)
    summary = explain_files(model, file, tmp_path / "pictures", jets=10, draw=1, steps=2)
    assert summary["dropped"] == 0
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_saliency_falls_on_momenta_where_a_model_takes_nothing_else() -> None:
    class Energy(nn.Module):
        inputs = Inputs()

        def forward(self, batch: JetBatch) -> Tensor:
            return segment_sum(batch.four_momenta[:, :1], batch.offsets)

    batch = cloud((5, 3))
    found = explain.saliency(Energy(), batch, first, features=())
    assert found.names == explain.MOMENTA
    torch.testing.assert_close(found.integrated[:, 0], batch.four_momenta[:, 0])
    assert not bool(found.integrated[:, 1:].any())


@pytest.mark.parametrize("name", ["pfn", "efn", "gat", "lorentznet"])
def test_integrated_gradients_account_for_the_score_of_real_taggers(name: str) -> None:
    torch.manual_seed(0)
    small = {
        "pfn": {"phi": (8, 8), "f": (8,)},
        "efn": {"phi": (8, 8), "f": (8,)},
        "lorentznet": {"n_hidden": 8, "n_blocks": 2},
    }
    model = create(name, **small.get(name, {})).double().train()
    batch = cloud((12, 7, 1))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = explain.saliency(model, batch, first, features=model.inputs.features, steps=12)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.isfinite(found.integrated).all()
    assert float(found.integrated.abs().sum()) > 0
    if (
        name == "pfn"
    ):  # graphs jump where neighbours change, and Lorentz invariants have no answer at zero momentum
        assert found.incompleteness(batch) < 0.1


def test_observables_of_pairs_have_gradients_where_a_constituent_meets_itself() -> None:
    torch.manual_seed(0)
    model = create("perceptron", observables=("jet_c2", "jet_d2", "jet_width")).double().eval()
    batch = cloud((12, 7))
    found = explain.saliency(model, batch, first, features=())
    assert found.undefined == 0
    by_hand = found.gradient_x_input.sum(1)
    moved = batch.four_momenta.clone()
    moved[3] *= 1 + 1e-6
    with torch.no_grad():
        change = float((model(JetBatch.from_arrays(moved, batch.offsets)) - model(batch))[0, 0]) / 1e-6
    assert change == pytest.approx(float(by_hand[3]), rel=1e-3)


def test_a_model_without_gradients_is_refused() -> None:
    class Counting(nn.Module):
        def forward(self, batch: JetBatch) -> Tensor:
            return batch.counts[:, None].double()

    with pytest.raises(ModelError, match="no output of this Counting has a gradient"):
        explain.saliency(Counting(), cloud((3,)), first, features=())


def test_edges_of_each_block_are_its_neighbours_and_attention_sums_to_one() -> None:
    jet = cloud((12,))
    blocks = explain.edge_maps(create("particlenet_lite", neighbours=3).double(), jet)
    assert [b.layer for b in blocks] == ["edge_convs.0", "edge_convs.1"]
    points = jet.select(("delta_eta", "delta_phi"))
    nearest = (torch.cdist(points, points) + 1e9 * torch.eye(12)).topk(3, largest=False).indices
    for i in range(12):
        assert set(blocks[0].edges[0][blocks[0].edges[1] == i].tolist()) == set(nearest[i].tolist())
    assert not torch.equal(blocks[0].edges.sort().values, blocks[1].edges.sort().values)  # searched anew
    for layer in explain.edge_maps(create("gat", neighbours=4).double(), jet):
        assert layer.weights is not None
        total = torch.zeros(12, dtype=torch.float64).index_add_(0, layer.edges[1], layer.weights)
        torch.testing.assert_close(total, torch.ones(12, dtype=torch.float64))
    assert len(explain.edge_maps(create("dgcnn").double(), jet)) == 3
    assert explain.edge_maps(create("pfn").double(), jet) == []
    assert not any(m._forward_pre_hooks for m in create("pfn").modules())
    with pytest.raises(ModelError, match="one jet at a time"):
        explain.edge_maps(create("gcn"), cloud((2, 3)))


def test_filters_are_the_first_kernels_or_the_first_map_on_features() -> None:
    gcn = create("gcn")
    found = explain.filters(gcn, gcn.features)
    assert found is not None
    assert (found.layer, found.inputs) == ("embedding", gcn.features)
    assert found.kernels.data_ptr() == gcn.embedding.weight.data_ptr()
    picture = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5))
    kernels = explain.filters(picture)
    assert kernels is not None
    assert kernels.kernels.shape == (8, 8, 5, 5)  # the first that is wider than one pixel
    assert explain.filters(nn.ReLU()) is None
    for wide in (found, kernels, explain.Filters("conv", torch.randn(16, 7, 3), gcn.features)):
        assert plot_jets.plot_filters(wide).axes


def test_the_strongest_attention_runs_from_the_constituent_that_is_listened_to() -> None:
    weights = np.array([[0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    pairs, values = plot_jets.strongest(weights, edges=2)
    assert pairs.T.tolist() == [[0, 1], [1, 0]]  # 1 listens to 0, then 0 to 1; itself is not drawn
    assert values.tolist() == [0.7, 0.1]


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(DataError, match="no jet with constituents"):
        plot_jets.plot_saliency([], {}, toward="top", radius=0.8)
