"""The numbers that a frame network gives to each pair of a jet, without a tensor of all pairs and its hidden
units.

    phi_ij = W_n GELU( … W_1 GELU(a_i + b_j + s_ij u) + w_1 … ) + w_n

Pairs are taken some jets at a time, or some receivers of a large jet, so that their hidden units stay in the
cache. Only phi is kept; the backward pass makes hidden units again. `plain_logits` is the definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Pairs of a piece on a CPU, for each thread, and elsewhere: 128 float32 hidden units of 2,048 are a megabyte.
_PIECE, _LARGE_PIECE = 2048, 2**18


def plain_logits(
    a: Tensor, b: Tensor, s: Tensor, u: Tensor, layers: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """phi of all pairs, in ordinary operations.

    Args:
        a, b: [B, W, H] and [B, S, H] first layer at the receivers and at the senders.
        s: [B, W, S] one number a pair.
        u: [H] its weights.
        layers: weights [H', H] and shifts [H'] of the further layers.

    Returns:
        [K, B, W, S] for K columns of the last layer.
    """
    x = a[:, :, None] + b[:, None] + s[..., None] * u
    for weight, shift in layers:
        x = F.linear(F.gelu(x), weight, shift)
    return x.movedim(-1, 0)


def pair_logits(
    a: Tensor, b: Tensor, s: Tensor, u: Tensor, layers: Sequence[tuple[Tensor, Tensor]], counts: Sequence[int]
) -> Tensor:
    """`plain_logits` in pieces, finite where there is no pair; differentiable once.

    Args:
        a, b, s, u, layers: as there.
        counts: senders of each jet, which stand first; of the receivers, S - W fewer.
    """
    shape = a.shape[1], b.shape[1]
    most = _PIECE * torch.get_num_threads() if a.device.type == "cpu" else _LARGE_PIECE
    found = tuple(_pieces(counts, shape[1] - shape[0], most))
    return _PairLogits.apply(found, a, b, s, u, *(t for layer in layers for t in layer))  # type: ignore[no-any-return]


class _Piece(NamedTuple):
    jets: slice
    rows: slice  # receivers
    senders: slice


def _pieces(counts: Sequence[int], fewer: int, most: int) -> Iterator[_Piece]:
    """Consecutive jets, as many as have so many pairs together, or some receivers of one jet."""
    first = 0
    while first < len(counts):
        end, senders = first + 1, counts[first]
        while end < len(counts) and (end + 1 - first) * max(senders, counts[end]) ** 2 <= most:
            senders = max(senders, counts[end])
            end += 1
        rows = max(1, most // max(1, (end - first) * senders))
        for row in range(0, senders - fewer, rows):
            yield _Piece(slice(first, end), slice(row, min(row + rows, senders - fewer)), slice(0, senders))
        first = end


class _PairLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pieces: tuple[_Piece, ...], a: Tensor, b: Tensor, s: Tensor, u: Tensor, *given: Tensor
    ) -> Tensor:
        ctx.save_for_backward(a, b, s, u, *given)
        ctx.pieces = pieces
        weights, shifts = given[::2], given[1::2]
        out = a.new_zeros((len(weights[-1]), *s.shape))
        for jets, rows, senders in pieces:
            x = _first(a[jets, rows], b[jets, senders], s[jets, rows, senders], u)
            shape = x.shape[:-1]
            x = x.flatten(0, -2)
            for weight, shift in zip(weights[:-1], shifts[:-1], strict=True):
                x = torch.addmm(shift, _gelu_(x), weight.t())
            last = torch.mm(weights[-1], _gelu_(x).t()).add_(shifts[-1][:, None])
            out[:, jets, rows, senders] = last.unflatten(1, shape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return _gradients(ctx, gradients[0])


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    a, b, s, u, *given = ctx.saved_tensors
    weights, shifts = given[::2], given[1::2]
    g_a, g_b, g_u = torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(u)
    g_s = torch.zeros_like(s) if ctx.needs_input_grad[2] else None
    g_weights, g_shifts = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in shifts]
    for jets, rows, senders in ctx.pieces:
        seen = s[jets, rows, senders]
        x = _first(a[jets, rows], b[jets, senders], seen, u)
        shape = x.shape
        before, after = [x.flatten(0, -2)], []
        for weight, shift in zip(weights[:-1], shifts[:-1], strict=True):
            after.append(F.gelu(before[-1]))
            before.append(torch.addmm(shift, after[-1], weight.t()))
        after.append(F.gelu(before[-1]))
        out = gradient[:, jets, rows, senders].flatten(1)  # [K, pairs]
        g_weights[-1] += torch.mm(out, after[-1])
        g_shifts[-1] += out.sum(1)
        g = torch.mm(out.t(), weights[-1])
        for n in range(len(weights) - 1, -1, -1):
            g = torch.ops.aten.gelu_backward.grad_input(g, before[n], grad_input=g)
            if n:
                g_weights[n - 1].addmm_(g.t(), after[n - 1])
                g_shifts[n - 1] += g.sum(0)
                g = torch.mm(g, weights[n - 1], out=after[n - 1])
        g_u += torch.mv(g.t(), seen.flatten())
        if g_s is not None:
            g_s[jets, rows, senders] = torch.mv(g, u).view(shape[:-1])
        g = g.view(shape)
        g_a[jets, rows] = g.sum(2)
        g_b[jets, senders] += g.sum(1)
    layers = (t for pair in zip(g_weights, g_shifts, strict=True) for t in pair)
    return None, g_a, g_b, g_s, g_u, *layers


def _first(a: Tensor, b: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """[b, r, S, H], contiguous."""
    return torch.add(a[:, :, None], b[:, None]).addcmul_(s[..., None], u)


def _gelu_(x: Tensor) -> Tensor:
    return torch.ops.aten.gelu.out(x, out=x)  # type: ignore[no-any-return]
