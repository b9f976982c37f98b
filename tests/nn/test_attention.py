"""Attention, its blocks and pair features equal their plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from norms import stir_norms
from torch import Tensor, nn

from hepml import kinematics
from hepml.nn import kernels
from hepml.nn.attention import Attention, Block
from hepml.nn.pair_embedding import PairEmbedding, pair_bias
from hepml.packed.pair_features import PAIR_FEATURES, pair_features
from hepml.packed.pairs import SymmetricPairs
from hepml.packed.rectangle import Rectangle, masking_value
from hepml.packed.rectangular import rectangular
from hepml.testing import sample_jets


def attention_case(counts: tuple[int, ...]) -> tuple[Tensor, Rectangle, Tensor]:
    torch.manual_seed(0)
    offsets, width = torch.tensor([0, *counts]).cumsum(0), max(counts)
    where = Rectangle.of(offsets, width)
    x = torch.randn(int(offsets[-1]), 16, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(len(counts), 4, width, width, dtype=torch.float64)
    return x, where, bias.masked_fill(~where.mask[:, None, None], masking_value(bias.dtype)).requires_grad_()


def stirred(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    return module.double().train()


def test_dropout_of_attention_leaves_its_mean() -> None:
    """Values that are all b make the attended b times the sum of the kept shares, whose mean is one."""
    x, where, bias = attention_case((6, 6))
    attention = stirred(Attention(16, 4, dropout=0.5))
    with torch.no_grad():
        attention.in_proj.weight[32:].zero_()
        torch.manual_seed(0)
        drawn = torch.stack([attention(x, [where], [bias]) for _ in range(500)])
        expected = attention.in_proj.bias[32:].expand_as(x)
    assert drawn.std(0).mean() > 0.05
    assert ((drawn.mean(0) - expected).abs() < 5 * drawn.std(0) / 500**0.5 + 1e-9).all()


def test_dropout_in_a_block_drops_its_share_and_scales_the_rest() -> None:
    """With maps of zero and a bias of one, the feed-forward part is dropout of one."""
    x, where, bias = attention_case((60, 60))
    block = stirred(Block(16, 4, dropout=0.1, attention_dropout=0.1))
    with torch.no_grad():
        block.w_resid.zero_()
        block.fc2.weight.zero_()
        block.fc2.bias.fill_(1.0)
    out = block(x, [where], [bias]).detach()
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert (out == 0).double().mean() == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / out.numel()) ** 0.5)


@pytest.mark.parametrize("last_activation", [True, False])
@pytest.mark.parametrize("widths", [(8, 8, 4), (8, 8), (4,)])
def test_a_pair_embedding_with_folded_norms_equals_its_definition(
    last_activation: bool, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepml.nn.pair_embedding.PIECE", 64)
    embedding = stirred(PairEmbedding(4, widths, last_activation)).eval()
    stir_norms(embedding)
    x = 3 * torch.randn(500, 4, dtype=torch.float64)
    with torch.no_grad():
        folded = embedding(x)
        with kernels.disabled():
            assert torch.allclose(folded, embedding(x), atol=1e-12)
        assert torch.allclose(folded, embedding.embed(x), atol=1e-12)


def test_pairs_are_each_pair_of_a_jet_once() -> None:
    offsets = torch.tensor([0, 3, 3, 4, 6])
    pairs = SymmetricPairs.of(offsets)
    expected = [(i, j) for a, b in ((0, 3), (3, 4), (4, 6)) for i in range(a, b) for j in range(a, i + 1)]
    assert list(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)) == expected
    assert len(SymmetricPairs.of(torch.zeros(3, dtype=torch.int64))) == 0


def test_pairs_of_a_rectangle_are_those_of_its_constituents_wherever_they_stand() -> None:
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
    packed, offsets = SymmetricPairs.of(F.pad(mask.sum(1).cumsum(0), (1, 0))), rectangular(mask)
    pairs, rows = SymmetricPairs.of(offsets), mask.flatten().nonzero()[:, 0]
    assert torch.equal(pairs.i, rows[packed.i])
    assert torch.equal(pairs.j, rows[packed.j])
    table = torch.randn(len(pairs), 2)
    bias = pair_bias(table, offsets, 4).permute(0, 2, 3, 1).flatten(0, 2)
    at = (pairs.i * 4 + pairs.j % 4, pairs.j * 4 + pairs.i % 4)
    wanted = torch.full((64, 2), masking_value(torch.float32))
    for cells in at:
        wanted[cells] = table
    assert torch.equal(bias, wanted)


def test_pair_features_are_those_of_the_paper() -> None:
    jets = sample_jets(3, mass=0.5, largest=9)
    pairs = SymmetricPairs.of(jets.offsets)
    found = dict(
        zip(PAIR_FEATURES, pair_features(jets.four_momenta, pairs.i, pairs.j).unbind(1), strict=True)
    )
    a, b = jets.four_momenta[pairs.i], jets.four_momenta[pairs.j]
    apart = pairs.i != pairs.j
    distance = kinematics.delta_r(
        kinematics.rapidity(a), kinematics.phi(a), kinematics.rapidity(b), kinematics.phi(b)
    )
    softer = torch.minimum(kinematics.pt(a), kinematics.pt(b))
    assert torch.allclose(found["ln_delta_r"][apart], distance.log()[apart], atol=1e-9)
    assert torch.allclose(found["ln_kt"][apart], (softer * distance).log()[apart], atol=1e-9)
    assert torch.allclose(found["ln_z"], (softer / (kinematics.pt(a) + kinematics.pt(b))).log(), atol=1e-12)
    assert torch.allclose(found["ln_m2"], kinematics.mass_squared(a + b).log(), atol=1e-7)
    assert torch.allclose(found["ln_delta_r"][~apart], torch.tensor(math.log(1e-8), dtype=torch.float64))


def test_masses_that_float32_does_not_resolve_do_not_become_features() -> None:
    """Massless constituents have no mass in float32 either, whatever way they point."""
    jets = sample_jets(3, largest=9)
    pairs = SymmetricPairs.of(jets.offsets)
    exact = pair_features(jets.four_momenta, pairs.i, pairs.j)
    rounded = pair_features(jets.four_momenta.float(), pairs.i, pairs.j).double()
    itself = pairs.i == pairs.j
    assert (exact[itself, 3] == math.log(1e-8)).all()
    assert torch.allclose(rounded[itself, 3], exact[itself, 3])
    as_weaver = pair_features(jets.four_momenta.float(), pairs.i, pairs.j, rounded_masses=True).double()
    assert (as_weaver[itself, 3] - exact[itself, 3]).abs().max() > 5
    # The narrowest of these pairs is at dR = 3e-3; float32 directions move its mass by some 1e-4.
    assert torch.allclose(rounded[~itself], exact[~itself], atol=5e-3)


def test_a_pair_bias_is_symmetric_and_its_gradient_comes_from_both_triangles() -> None:
    counts, offsets = torch.tensor([2, 0, 3]), torch.tensor([0, 2, 2, 5])
    table = torch.randn(3 + 6, 4, dtype=torch.float64, requires_grad=True)
    bias = pair_bias(table, offsets, 3)
    assert bias.shape == (3, 4, 3, 3)
    real = torch.arange(3) < counts[:, None]
    assert (bias.masked_select(~real[:, None, None]) == masking_value(torch.float64)).all()
    assert torch.equal(bias[2], bias[2].mT)
    assert torch.equal(bias[2, :, 2, 1], table[3 + 4])
    weight = torch.randn_like(bias) * (real[:, None, None] & real[:, None, :, None])
    (gradient,) = torch.autograd.grad((bias * weight).sum(), table)
    assert torch.allclose(gradient[3 + 4], weight[2, :, 2, 1] + weight[2, :, 1, 2])
    assert torch.allclose(gradient[3 + 5], weight[2, :, 2, 2])
