"""EdgeConv: the fast forms equal the plain definition, values and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from hepml.nn.edgeconv import EdgeConv
from hepml.nn.kernels import edge_messages as pieces
from hepml.packed.neighbours import nearest_neighbours
from hepml.packed.rectangular import Present, rectangular

OFFSETS = torch.tensor([0, 0, 1, 5, 40, 41, 130])


class PlainEdgeConv(EdgeConv):
    """The definition, with torch's own gradients."""

    def _in_pieces(self, a: Tensor, neighbours: Tensor) -> bool:
        return False

    def _messages_folded(self, a: Tensor, b: Tensor, neighbours: Tensor) -> Tensor:
        return self.messages(a, b, neighbours)


def pair(widths: tuple[int, ...], dtype: torch.dtype) -> tuple[EdgeConv, PlainEdgeConv, Tensor, Tensor]:
    torch.manual_seed(0)
    block = EdgeConv(7, widths).to(dtype)
    for norm in block.bns:
        torch.nn.init.normal_(norm.weight, 1.0, 0.5)
        torch.nn.init.normal_(norm.bias, 0.0, 0.5)
    plain = PlainEdgeConv(7, widths).to(dtype)
    plain.load_state_dict(block.state_dict())
    x = torch.randn(int(OFFSETS[-1]), 7, dtype=dtype)
    return block, plain, x, nearest_neighbours(x, OFFSETS, 8)


def trained(block: EdgeConv, x: Tensor, near: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = block(x, near)
    pull = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    (out * pull).sum().backward()
    gradients = {name: p.grad for name, p in block.named_parameters()}
    return {"out": out.detach(), "x": x.grad, **gradients, **dict(block.named_buffers())}  # type: ignore[dict-item]


@pytest.mark.parametrize("piece", [1 << 12, 1 << 14, 1 << 30])
@pytest.mark.parametrize("widths", [(16, 16, 16), (24, 32, 16), (16, 24)])
def test_training_in_pieces_equals_the_plain_definition(
    widths: tuple[int, ...], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", piece)
    block, plain, x, near = pair(widths, torch.float64)
    for _ in range(2):  # the second step reuses the buffers of the first
        block.zero_grad()
        plain.zero_grad()
        fast, slow = trained(block, x, near), trained(plain, x, near)
        assert fast.keys() == slow.keys()
        for name, expected in slow.items():
            assert torch.allclose(fast[name], expected, rtol=1e-9, atol=1e-10), name


def test_training_in_pieces_with_fixed_norms_equals_the_plain_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Norms in evaluation, everything else in training: statistics are used as they are, and kept."""
    monkeypatch.setattr(pieces, "_PIECE", 1 << 12)
    block, plain, x, near = pair((24, 32, 16), torch.float64)
    for model in (block, plain):
        for i, norm in enumerate(model.bns):
            norm.running_mean.fill_(0.1 * i + 0.1)
            norm.running_var.fill_(0.5 + i)
            norm.eval()
    assert block._in_pieces(x, near)
    fast, slow = trained(block, x, near), trained(plain, x, near)
    for name, expected in slow.items():
        assert torch.allclose(fast[name], expected, rtol=1e-9, atol=1e-10), name
    assert torch.equal(block.bns[1].running_mean, torch.full((32,), 0.2, dtype=torch.float64))
    block.bns[0].train()
    assert not block._in_pieces(x, near), "a mixture takes the plain way"


def test_training_in_pieces_is_taken_on_a_cpu_and_never_in_evaluation() -> None:
    block, _, x, near = pair((4, 4), torch.float64)
    assert block._in_pieces(x, near)
    assert not block.eval()._in_pieces(x, near)
    with torch.no_grad():
        assert not block.train()._in_pieces(x, near)


def test_bfloat16_in_pieces_is_as_near_to_float64_as_torch_autocast() -> None:
    block, plain, x, near = pair((32, 32, 32), torch.float32)
    exact = trained(copy.deepcopy(plain).double(), x.double(), near)
    with torch.autocast("cpu", torch.bfloat16):
        fast, slow = trained(block, x, near), trained(plain, x, near)

    def error(found: dict[str, Tensor], name: str) -> float:
        return float((found[name].double() - exact[name]).norm() / exact[name].norm())

    for name, _ in block.named_parameters():
        assert error(fast, name) < 2 * error(slow, name) + 0.02, name
    assert error(fast, "out") < 0.02


def test_a_batch_norm_scale_of_zero_gives_finite_gradients() -> None:
    block, _, x, near = pair((8, 8, 8), torch.float64)
    for norm in block.bns:
        torch.nn.init.zeros_(norm.weight)
    assert all(torch.isfinite(t).all() for t in trained(block, x, near).values())


def test_a_second_backward_pass_is_refused_not_wrong() -> None:
    block, _, x, near = pair((8, 8), torch.float64)
    out = block(x, near).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        out.backward()


def test_two_forward_passes_before_the_backward_do_not_share_buffers() -> None:
    block, plain, x, near = pair((16, 16, 16), torch.float64)
    totals = []
    for model in (block, plain):
        model.zero_grad()
        first, second = model(x, near), model(2 * x, near)
        (first.square().sum() + second.sum()).backward()
        totals.append(model.convs[1].weight.grad)
    assert torch.allclose(*totals, rtol=1e-9)  # type: ignore[arg-type]


def test_evaluation_with_folded_norms_equals_the_plain_definition() -> None:
    block, plain, x, near = pair((16, 24, 16), torch.float64)
    trained(block, x, near)
    plain.load_state_dict(block.state_dict())
    with torch.no_grad():
        assert torch.allclose(block.eval()(x, near), plain.eval()(x, near), atol=1e-12)


def test_an_absent_neighbour_has_features_of_zero() -> None:
    block, _, x, _ = pair((16, 16), torch.float64)
    block.eval()
    absent = torch.full((1, 3), 1)
    with torch.no_grad():
        lonely = block(x[:1], absent)
        with_zero = block(
            torch.cat((x[:1], torch.zeros(1, 7, dtype=x.dtype))), torch.tensor([[1, 1, 1], [0, 0, 0]])
        )
    assert torch.allclose(lonely, with_zero[:1], atol=1e-12)


def test_messages_are_gathered_by_the_rows_that_are_there_alone() -> None:
    block, plain, x, near = pair((16, 8), torch.float64)
    block.eval()
    plain.eval()
    mask = torch.rand(2, 65, generator=torch.Generator().manual_seed(3)) < 0.6
    there = mask.flatten()
    with torch.no_grad():
        found = block(x, near, Present.of(rectangular(mask)))
        assert torch.allclose(found[there], plain(x, near)[there], atol=1e-12)
        shortcut = plain.sc_bn(plain.sc(x))[~there]  # type: ignore[misc]
        assert torch.allclose(found[~there], torch.relu(shortcut), atol=1e-12)
    assert Present.of(OFFSETS) is None
