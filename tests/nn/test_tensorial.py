"""Attention of tensors between local frames: the definition, pair by pair; what keeps the symmetry, and what
loses it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.errors import ConfigError
from hepml.nn.lorentz import tensorial
from hepml.nn.lorentz.frames import frames
from hepml.nn.lorentz.tensorial import FrameMaps, TensorialAttention, TensorialBlock
from hepml.packed.rectangle import Rectangle

METRIC = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))
OFFSETS = torch.tensor([0, 3, 3, 4, 9])
WHERE = Rectangle.of(OFFSETS, 5)


def matrices() -> Tensor:
    v = torch.randn(9, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v[:, 0, 0] = v[:, 0, 1:].norm(dim=-1) + 0.5
    return frames(v)


def features() -> Tensor:
    return torch.randn(9, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def attention(vectors: int = 2) -> TensorialAttention:
    torch.manual_seed(2)
    return TensorialAttention(24, 2, vectors).double()


def element(gamma: float = 5.0) -> Tensor:
    axis, other = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return kinematics.boost(axis, gamma) @ kinematics.rotation(other, 2.0)


def by_definition(layer: TensorialAttention, x: Tensor, frame: Tensor) -> Tensor:
    """With a matrix L_i L_j⁻¹ for each pair, one after the other."""
    h, s, v = layer.heads, layer.scalars, layer.vectors
    rows = layer.in_proj(x)
    scalars = rows[:, : 3 * h * s].view(len(x), 3, h, s)
    vectors = rows[:, 3 * h * s :].view(len(x), 4, 3, h, v).permute(0, 2, 3, 4, 1)
    out = []
    for low, high in zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True):
        for i in range(low, high):
            scores, values = [], []
            for j in range(low, high):
                turn = frame[i] @ torch.linalg.inv(frame[j])
                k, value = (vectors[j, n] @ turn.T for n in (1, 2))
                score = (scalars[i, 0] * scalars[j, 1]).sum(-1) + (vectors[i, 0] @ METRIC * k).sum((-1, -2))
                scores.append(score / (s + 4 * v) ** 0.5)
                values.append((scalars[j, 2], value))
            share = torch.stack(scores).softmax(0)
            told = sum(a[:, None] * t for a, (t, _) in zip(share, values, strict=True))
            turned = sum(a[:, None, None] * t for a, (_, t) in zip(share, values, strict=True))
            assert isinstance(told, Tensor)
            assert isinstance(turned, Tensor)
            out.append(torch.cat((told.flatten(), turned.permute(2, 0, 1).flatten())))
    return layer.out_proj(torch.stack(out))


@pytest.mark.parametrize("vectors", [0, 1, 2, 3])
def test_it_is_the_sum_over_pairs_of_tensors_turned_from_frame_to_frame(vectors: int) -> None:
    layer, x, frame = attention(vectors), features(), matrices()
    with torch.no_grad():
        found = layer(x, FrameMaps.of(frame, torch.float64), WHERE)
        assert torch.allclose(found, by_definition(layer, x, frame), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gamma", [5.0, 100.0])
def test_frames_that_move_together_change_nothing(gamma: float) -> None:
    torch.manual_seed(4)
    block, x, frame = TensorialBlock(24, 2, 2).double(), features(), matrices()
    with torch.no_grad():
        before = block(x, FrameMaps.of(frame, torch.float64), WHERE)
        moved = frame @ torch.linalg.inv(element(gamma))
        after = block(x, FrameMaps.of(moved, torch.float64), WHERE)
    assert torch.allclose(after, before, rtol=1e-12 * gamma**2, atol=1e-12 * gamma**2)


@pytest.mark.parametrize("left_out", ["the way back", "the metric", "a Lorentz matrix"])
def test_without_one_of_its_parts_the_symmetry_is_lost(left_out: str) -> None:
    layer, x, frame = attention(), features(), matrices()
    if left_out == "the metric":
        layer.signs.abs_()

    def outputs(given: Tensor) -> Tensor:
        maps = FrameMaps.of(given, torch.float64)
        if left_out == "the way back":
            maps = FrameMaps(torch.eye(4, dtype=torch.float64).expand(9, 4, 4), maps.common)
        with torch.no_grad():
            return layer(x, maps, WHERE)

    change = torch.linalg.inv(element())
    if left_out == "a Lorentz matrix":
        change = torch.linalg.qr(
            torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
        )[0]
    assert float((outputs(frame @ change) - outputs(frame)).abs().max()) > 1e-2


def test_scalars_alone_need_no_frames() -> None:
    layer, x = attention(0), features()
    with torch.no_grad():
        eye = FrameMaps.of(torch.eye(4, dtype=torch.float64).expand(9, 4, 4), torch.float64)
        assert torch.equal(layer(x, eye, WHERE), layer(x, FrameMaps.of(matrices(), torch.float64), WHERE))


def test_vectors_are_told_from_frame_to_frame() -> None:
    layer, x, frame = attention(), features(), matrices()
    with torch.no_grad():
        found = layer(x, FrameMaps.of(frame, torch.float64), WHERE)
        turned = frame.clone()
        turned[0] = element() @ frame[0]  # of one constituent alone
        other = layer(x, FrameMaps.of(turned, torch.float64), WHERE)
    assert ((found - other).abs().amax(1) > 1e-3).tolist() == [True] * 3 + [False] * 6


def test_balanced_maps_divide_by_the_frames_factor() -> None:
    frame = matrices()
    maps = FrameMaps.of(frame, torch.float64, balanced=True)
    gamma = frame[:, 0, 0]
    assert torch.allclose(maps.local * gamma[:, None, None], frame)
    assert torch.allclose(
        maps.common @ maps.local * gamma.square()[:, None, None], torch.eye(4).double(), atol=1e-10
    )
    turn = torch.eye(4, dtype=torch.float64)
    turn[1:, 1:] = kinematics.rotation(torch.tensor([1.0, 2, 3]).double(), 1.0)[1:, 1:]
    assert torch.allclose(FrameMaps.of(frame @ turn, torch.float64, balanced=True).local @ turn.T, maps.local)


def test_gradients_are_right() -> None:
    layer, where = attention(), Rectangle.of(torch.tensor([0, 1, 3]), 2)
    assert torch.autograd.gradcheck(
        lambda x, frame: layer(x, FrameMaps.of(frame, torch.float64), where),
        (features()[:3].requires_grad_(), matrices()[:3].requires_grad_()),
        fast_mode=True,
    )


def test_memory_has_no_matrix_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is attended has as many numbers as features: nothing is made for pairs but by the fused kernel."""
    shapes = []

    def attend(qkv: Tensor, signs: Tensor, where: Rectangle) -> Tensor:
        shapes.append(tuple(qkv.shape))
        return qkv[:, 2]

    monkeypatch.setattr(tensorial, "attend", attend)
    attention()(features(), FrameMaps.of(matrices(), torch.float64), WHERE)
    assert shapes == [(9, 3, 2, 12)]


def test_heads_too_narrow_for_their_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most width / heads / 4 vectors"):
        TensorialAttention(24, 2, 4)
    with pytest.raises(ConfigError, match="a multiple of heads"):
        TensorialAttention(25, 2, 1)
