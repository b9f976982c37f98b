"""RecNN and TreeNiN: the same as a recursion node by node, and trees that travel in the batch or are made on
demand."""

from __future__ import annotations

import pytest
import torch
from cloud import COUNTS, cloud, shuffled, turned
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.trees import ORDERINGS
from hepml.errors import ConfigError
from hepml.models import create
from hepml.representations.trees import forest, node_inputs

NAMES = ("recnn", "recnn_gated", "treenin")


def built(name: str, dtype: torch.dtype = torch.float64, **hyperparameters: object) -> nn.Module:
    torch.manual_seed(3)
    model = create(name, **{"hidden": 8, "head": (8,), **hyperparameters}).to(dtype)
    for p in model.parameters():  # biases are zero at first: give them something to do
        if p.ndim == 1:
            nn.init.uniform_(p, -0.2, 0.4)
    return model.eval()


def recursion(model: nn.Module, name: str, batch: JetBatch) -> Tensor:
    """The same networks node by node, jet by jet, from the equations."""
    trees = forest(batch, model.tree)
    x, n = node_inputs(trees, batch), trees.leaves

    def linear(layer: nn.Module, *parts: Tensor) -> Tensor:
        return layer(torch.cat(parts))

    def embedding(node: int) -> Tensor:
        leaf = node < n
        if name == "treenin":
            u = torch.relu((model.u_leaf if leaf else model.u_merge)(x[node]))
        else:
            u = torch.relu(model.w_u(x[node]))
        if leaf:
            return u
        left, right = trees.children[node - n].tolist()
        hl, hr = embedding(left), embedding(right)
        if name == "treenin":
            top = node in trees.roots.tolist()
            hl = (model.on_left if top else model.on_leaf if left < n else model.on_merge)(hl)
            hr = (model.on_right if top else model.on_leaf if right < n else model.on_merge)(hr)
        if name != "recnn_gated":
            return torch.relu(linear(model.w_h, hl, hr, u))
        rl, rr, rn = torch.sigmoid(linear(model.w_r, hl, hr, u)).chunk(3)
        new = torch.relu(linear(model.w_h, rl * hl, rr * hr, rn * u))
        z = linear(model.w_z, new, hl, hr, u).view(4, -1).softmax(0)
        return z[0] * new + z[1] * hl + z[2] * hr + z[3] * u

    return torch.stack([model.head(embedding(r) if r >= 0 else x.new_zeros(8)) for r in trees.roots.tolist()])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tree", ["kt", "antikt", "random"])
def test_scores_and_gradients_are_those_of_a_recursion_node_by_node(name: str, tree: str) -> None:
    model, batch = built(name, tree=tree), cloud((9, 0, 4, 1, 2, 3, 14))
    found, wanted = [], []
    for function, kept in ((lambda: model(batch), found), (lambda: recursion(model, name, batch), wanted)):
        out = function()
        kept.append(out.detach())
        kept += torch.autograd.grad(out.square().sum(), list(model.parameters()))
    assert all(float(g.abs().sum()) > 0 for g in wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tree", ORDERINGS)
def test_every_ordering_ignores_the_order_of_constituents_and_all_but_random_the_azimuth(tree: str) -> None:
    model, batch = built("recnn", tree=tree), cloud()
    with torch.no_grad():
        before = model(batch)
        torch.testing.assert_close(model(shuffled(batch)), before, rtol=0, atol=1e-9)
        moved = (model(turned(batch)) - before).abs().max()
    assert (moved > 1e-4) == (tree == "random")


@pytest.mark.parametrize("name", NAMES)
def test_trees_of_the_batch_are_used_where_there_are_some(name: str) -> None:
    batch = cloud()
    model, other = built(name, tree="kt"), built(name, tree="antikt")
    swapped = JetBatch(batch.four_momenta, batch.offsets, extras={"tree_kt": batch.extra("tree_antikt")})
    with torch.no_grad():
        torch.testing.assert_close(model(swapped), other(batch))
        assert not torch.allclose(model(swapped), model(batch))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_four_momenta(name: str) -> None:
    """Saliency of constituents needs them."""
    batch = cloud()
    p = batch.four_momenta.clone().requires_grad_()
    traced = JetBatch(p, batch.offsets, extras={"tree_kt": batch.extra("tree_kt")})
    model = built(name, tree="kt")
    (gradient,) = torch.autograd.grad(model(traced)[:, 0].sum(), p)
    step = torch.zeros_like(p)
    step[3] = 1e-5 * p[3].detach()
    with torch.no_grad():
        up = JetBatch(p.detach() + step, batch.offsets, extras=traced.extras)
        down = JetBatch(p.detach() - step, batch.offsets, extras=traced.extras)
        slope = (model(up)[:, 0].sum() - model(down)[:, 0].sum()) / 2
    assert abs(float(slope - (gradient * step).sum())) < 1e-4 * abs(float(slope)) + 1e-12


def test_an_unknown_tree_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'antikt'"):
        create("recnn", tree="anti-kt")
    assert create("treenin", tree="antikt").inputs.extras == ("tree_antikt",)
    assert len(COUNTS) == 8


def test_a_jet_whose_energy_lies_below_its_pz_has_bounded_inputs() -> None:
    p = cloud((20,)).four_momenta[None]
    jets = p.sum(1)
    jets[0, 0] = 0.9 * jets[0, 3].abs()
    batch = JetBatch.from_padded(p, torch.ones(1, 20, dtype=torch.bool), jet_momenta=jets)
    assert node_inputs(forest(batch, "kt"), batch).abs().max() < 1e4
