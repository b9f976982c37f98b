"""What a frame network gives to pairs: whatever the groups of jets, and no memory for hidden units of all
pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hepml.nn.lorentz import canonical
from hepml.nn.lorentz.canonical import frame_vectors
from hepml.nn.lorentz.frames import FrameNetwork
from hepml.testing import sample_jets


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
    assert torch.allclose(frame_vectors(network, jets, fixed)[1], whole, rtol=1e-12)
    sizes: list[int] = []
    dense = FrameNetwork.dense

    def seen(self: FrameNetwork, p: Tensor, *rest: Tensor, **more: int) -> Tensor:
        sizes.append(p.shape[0] * p.shape[1] ** 2)
        return dense(self, p, *rest, **more)

    monkeypatch.setattr(FrameNetwork, "dense", seen)
    frame_vectors(network, jets, fixed)
    assert len(sizes) > 3
    assert max(sizes) < 7 * (20 + references) ** 2 / 3


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
    torch.manual_seed(0)
    network, jets, kept = FrameNetwork(hidden=50).double(), sample_jets(3, smallest=9, largest=9), []

    def keep(t: Tensor) -> Tensor:
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        frame_vectors(network, jets, torch.zeros(0, 4, dtype=torch.float64))
    assert max(kept) < 3 * 9 * 9 * 50
