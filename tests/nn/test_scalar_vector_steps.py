"""A block of scalars and vectors by hand: outputs and gradients of the block by its layers, to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hepml.models import create
from hepml.nn.kernels.scalar_vector import Places, minkowski
from hepml.nn.lorentz.scalar_vector import PairBlock
from hepml.packed.rectangle import Rectangle
from hepml.testing import sample_jets

COUNTS = (3, 1, 5, 2)
HEADS = 2


def block() -> PairBlock:
    torch.manual_seed(0)
    made = PairBlock(4, 8, HEADS, 2).double()
    for q in made.parameters():
        torch.nn.init.normal_(q, 0.2, 0.5)
    return made


def groups() -> tuple[list[Tensor], list[Tensor], list[Rectangle]]:
    """Two groups, one of which is a full rectangle; a particle at rest, one without a size, one massless."""
    generator = torch.Generator().manual_seed(0)
    v, s, where = [], [], []
    for counts in (COUNTS, (3, 3)):
        offsets = torch.tensor((0, *counts)).cumsum(0)
        rows = int(offsets[-1])
        v.append(torch.randn(rows, 4, 4, dtype=torch.float64, generator=generator))
        s.append(torch.randn(rows, 8, dtype=torch.float64, generator=generator))
        where.append(Rectangle.of(offsets, max(counts)))
    v[0][1] = 0.0
    v[0][2, :, 0] = torch.tensor([5.0, 3.0, 0.0, 4.0])
    return [x.requires_grad_() for x in v], [x.requires_grad_() for x in s], where


def gradients(outputs: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(sum((x.sin() * 1.5).sum() for x in outputs), inputs))


def test_a_block_by_hand_is_the_block_by_its_layers() -> None:
    made, (v, s, where) = block(), groups()
    found = []
    for by_hand in (True, False):
        if by_hand:
            assert made._by_hand(v[0], s[0])
            out_v, out_s = made.of_groups(v, s, [Places(w, HEADS) for w in where])
        else:
            pairs = [made(*given) for given in zip(v, s, where, strict=True)]
            out_v, out_s = [x for x, _ in pairs], [y for _, y in pairs]
        outputs = [*out_v, *out_s]
        found.append([*(x.detach() for x in outputs), *gradients(outputs, [*v, *s, *made.parameters()])])
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-13 * b.abs().max()


def test_its_gradients_are_right() -> None:
    made, (v, s, where) = block(), groups()
    moved = v[0].detach().clone()
    moved[1] = 0.3  # |v·v| has no derivative where it is zero
    moved[2, 0, 0] = 6.0

    def out(v: Tensor, s: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        (x,), (y,) = made.of_groups([v], [s], [Places(where[0], HEADS)])
        return x, y

    assert torch.autograd.gradcheck(out, (moved.requires_grad_(), s[0], *made.parameters()))


def test_places_are_those_of_each_jet_and_head() -> None:
    where = Rectangle.of(torch.tensor((0, *COUNTS)).cumsum(0), 5)
    places, rows = Places(where, HEADS), sum(COUNTS)
    x = torch.randn(rows, 3, HEADS, 7)
    flat = torch.cat((x.view(-1, 7), torch.zeros(1, 7)))
    dense = places.dense(flat, 3)
    expected = where.dense(x.flatten(1)).view(4, 5, 3, HEADS, 7).permute(2, 0, 3, 1, 4).reshape(3, 8, 5, 7)
    assert torch.equal(dense, expected)
    assert torch.equal(places.packed(dense), x)
    assert not places.full
    assert Places(Rectangle.of(torch.tensor([0, 2, 4]), 2), HEADS).full


def test_minkowski_has_the_metric() -> None:
    a, b = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    assert torch.allclose(minkowski(a, b), a[0] * b[0] - (a[1:] * b[1:]).sum(0), atol=1e-14)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_the_same_where_blocks_are_not_by_hand(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is so under autocast, with dropout, when compiled and on other devices."""
    torch.manual_seed(0)
    model = (
        create("lgatr_slim", vectors=4, scalars=8, blocks=3, heads=2, expansion=2).double().train(training)
    )
    jets, found = sample_jets(7, mass=0.1, largest=90), []
    for by_hand in (True, False):
        if not by_hand:
            monkeypatch.setattr(PairBlock, "_by_hand", lambda *_: False)
        out = model(jets)
        found.append([out.detach(), *torch.autograd.grad(out.square().sum(), list(model.parameters()))])
    assert all((a - b).abs().max() <= 1e-10 * b.abs().max() for a, b in zip(*found, strict=True))
