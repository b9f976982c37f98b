"""What a frame network gives to pairs: in pieces, the definition and its gradients; no memory for hidden
units of all pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hepml.nn.kernels import frame_pairs
from hepml.nn.kernels.frame_pairs import pair_logits, plain_logits
from hepml.nn.lorentz import canonical, frames
from hepml.nn.lorentz.canonical import frame_vectors
from hepml.nn.lorentz.frames import FrameNetwork
from hepml.testing import sample_jets

COUNTS = (2, 3, 5, 5, 9)  # senders; two of each jet are no receivers
HIDDEN = 6


def given() -> list[Tensor]:
    g = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=g).requires_grad_()

    first = [random(5, 7, HIDDEN), random(5, 9, HIDDEN), random(5, 7, 9), random(HIDDEN)]
    return [*first, random(4, HIDDEN), random(4), random(3, 4), random(3)]


Layers = list[tuple[Tensor, Tensor]]


def parts(tensors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Layers]:
    a, b, s, u = tensors[:4]
    return a, b, s, u, list(zip(tensors[4::2], tensors[5::2], strict=True))


def real() -> Tensor:
    """[B, W, S] where receiver and sender exist."""
    counts = torch.tensor(COUNTS)[:, None]
    return (torch.arange(7) < counts - 2)[:, :, None] & (torch.arange(9) < counts)[:, None]


@pytest.mark.parametrize("piece", [1, 20, 40, 10_000])
def test_pieces_are_the_definition_with_its_gradients(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one receiver, of a few receivers of a jet, of some jets, of all."""
    monkeypatch.setattr(frame_pairs, "_PIECE", piece)
    results = []
    for plain in (True, False):
        tensors = given()
        out = plain_logits(*parts(tensors)) if plain else pair_logits(*parts(tensors), COUNTS)
        assert torch.isfinite(out).all()
        out = out * real()
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out, *(t.grad for t in tensors)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("references", [0, 3])
def test_groups_and_pieces_change_nothing(references: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, jets = FrameNetwork(references, hidden=8).double(), sample_jets(7, smallest=0, largest=20)
    fixed = torch.tensor([[1.0, 0, 0, 1], [1, 0, 0, -1], [1, 0, 0, 0]], dtype=torch.float64)[:references]
    jets = jets.take(torch.tensor([3, 0, 6, 1, 5, 2, 4]))
    whole = frame_vectors(network, jets, fixed)[1]
    monkeypatch.setattr(
        torch, "get_num_threads", lambda: 1
    )  # sizes of groups and pieces are so many a thread
    monkeypatch.setattr(canonical, "_PAIRS", 200)
    monkeypatch.setattr(frame_pairs, "_PIECE", 30)
    assert torch.allclose(frame_vectors(network, jets, fixed)[1], whole, rtol=1e-12)
    pieces = []

    def seen(a: Tensor, *rest: Any) -> Tensor:
        pieces.append(a.shape)
        return pair_logits(a, *rest)

    monkeypatch.setattr(frames, "pair_logits", seen)
    frame_vectors(network, jets, fixed)
    assert len(pieces) > 3
    assert max(b * w * (w + references) for b, w, _ in pieces) < 7 * 20 * (20 + references) / 3


def test_dropout_drops_in_training_alone() -> None:
    torch.manual_seed(0)
    network, jets = FrameNetwork(hidden=8, dropout=0.5).double(), sample_jets(2)
    none = torch.zeros(0, 4, dtype=torch.float64)
    first, second = (frame_vectors(network, jets, none)[1] for _ in range(2))
    assert not torch.equal(first, second)
    first.square().sum().backward()
    assert all(torch.isfinite(q.grad).all() for q in network.parameters() if q.grad is not None)
    network.eval()
    assert torch.equal(*(frame_vectors(network, jets, none)[1] for _ in range(2)))


def test_nothing_is_kept_of_hidden_units() -> None:
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        pair_logits(*parts(given()), COUNTS)
    assert max(t.numel() for t in kept) <= 5 * 7 * 9
