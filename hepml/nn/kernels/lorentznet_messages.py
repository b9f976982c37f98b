"""The messages of a Lorentz group equivariant block: over all pairs of a jet, forward and backward, in pieces
that fit the cache.

    r_ij = ReLU(a_i + b_j + U s_ij),  m_ij = ReLU(W r_ij + w0),  g_ij = sigmoid(g.m_ij + g0),
    out_i = sum_j g_ij m_ij,          phi_ij = v.ReLU(V g_ij m_ij + v0)

`messages` is the definition, in ordinary operations. `messages_in_pieces` computes the same on a CPU, where
memory is slow against the matrix unit: pairs are taken some jets at a time, only m and V m travel to memory,
r is recomputed in the backward pass, and sums over the pairs of a node are sums over contiguous rows, for
senders by the index of the reversed pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.packed.pairs import OrderedPairs

# Pairs of a piece, for each thread: 72 float32 columns of them are a megabyte.
_PIECE = 4096


class Maps(NamedTuple):
    """The maps after the first layer; `position` ones are None where no phi is wanted.

    Args:
        products: U [W, 2].
        hidden, hidden_shift: W [W, W], w0 [W].
        gate, gate_shift: g [1, W], g0 [1].
        position, position_shift, position_out: V [W, W], v0 [W], v [1, W].
    """

    products: Tensor
    hidden: Tensor
    hidden_shift: Tensor
    gate: Tensor
    gate_shift: Tensor
    position: Tensor | None = None
    position_shift: Tensor | None = None
    position_out: Tensor | None = None


def messages(
    a: Tensor, b: Tensor, s: Tensor, maps: Maps, pairs: OrderedPairs
) -> tuple[Tensor, Tensor | None]:
    """Sums of gated messages, and the weight of each pair in the change of the vectors.

    Args:
        a, b: [M, W] first layer at the receiver and at the sender.
        s: [P, 2] products of each pair, equal for a pair and its reverse.
        maps: the further layers.
        pairs: the pairs of M nodes.

    Returns:
        out [M, W] and phi [P], or None without `position` maps.
    """
    r = torch.relu(a[pairs.receiver] + b[pairs.sender] + F.linear(s, maps.products))
    m = torch.relu(F.linear(r, maps.hidden, maps.hidden_shift))
    m = m * torch.sigmoid(F.linear(m, maps.gate, maps.gate_shift))
    out = pairs.sum(m)
    if maps.position is None or maps.position_out is None:
        return out, None
    return out, F.linear(torch.relu(F.linear(m, maps.position, maps.position_shift)), maps.position_out)[:, 0]


def messages_in_pieces(
    a: Tensor, b: Tensor, s: Tensor, maps: Maps, pairs: OrderedPairs
) -> tuple[Tensor, Tensor | None]:
    """`messages`, for the CPU, faster and with less memory; differentiable once."""
    with torch.autocast("cpu", enabled=False):
        given = [t.to(a.dtype) for t in maps if t is not None]
        out, phi = _Messages.apply(a, b.to(a.dtype), s.to(a.dtype), pairs, *given)
    return out, phi if maps.position is not None else None


class _Piece(NamedTuple):
    nodes: slice
    pairs: slice
    first: int  # node
    sender: Tensor  # within the piece
    receiver: Tensor
    reverse: Tensor
    rows: Tensor
    starts: Tensor  # pairs of each node, within the piece


def _pieces(pairs: OrderedPairs) -> Iterator[_Piece]:
    """Whole jets, as many as fit a piece, one at least."""
    nodes = pairs.offsets
    ends = pairs.starts[nodes]  # pairs before each jet
    share = torch.div(ends[1:] - 1, _PIECE * torch.get_num_threads(), rounding_mode="floor")
    cuts = [0, *(torch.nonzero(share.diff() > 0)[:, 0] + 1).tolist(), len(nodes) - 1]
    bounds = torch.stack((nodes[cuts], ends[cuts])).tolist()
    longest = max((q - p for p, q in pairwise(bounds[1])), default=0)
    rows = torch.arange(longest, device=nodes.device)
    for (i, k), (p, q) in zip(pairwise(bounds[0]), pairwise(bounds[1]), strict=True):
        if q > p:
            yield _Piece(
                slice(i, k),
                slice(p, q),
                i,
                pairs.sender[p:q] - i,
                pairs.receiver[p:q] - i,
                pairs.reverse[p:q] - p,
                rows[: q - p],
                pairs.starts[i : k + 1] - p,
            )


class _Messages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, s: Tensor, pairs: OrderedPairs, *given: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        maps = Maps(*given)
        moves = maps.position is not None
        size, width = len(pairs), a.shape[1]
        keep = any(ctx.needs_input_grad)
        pieces = list(_pieces(pairs))
        longest = max((len(piece.rows) for piece in pieces), default=0)
        rows = size if keep else longest
        m_all, y_all = a.new_empty((rows, width)), a.new_empty((rows if moves else 0, width))
        gates, phi = a.new_empty(size), a.new_empty(size) if moves else None
        scratch = a.new_empty((longest, width))
        out = torch.zeros_like(a)
        for piece in pieces:
            here = piece.pairs if keep else slice(0, len(piece.rows))
            r = _first(a, b, s, maps.products, piece, scratch)
            m = torch.addmm(maps.hidden_shift, r, maps.hidden.t(), out=m_all[here]).relu_()
            gate = torch.sigmoid(torch.mv(m, maps.gate[0]).add_(maps.gate_shift))
            gates[piece.pairs] = gate
            out[piece.nodes] = _sum(piece.rows, m, piece.starts, gate)
            if moves and phi is not None:
                assert maps.position is not None
                y = torch.mm(m, maps.position.t(), out=y_all[here])
                t = _position(y, gate, maps, scratch)
                torch.mv(t, maps.position_out[0], out=phi[piece.pairs])  # type: ignore[index]
        ctx.pieces, ctx.pairs = pieces, pairs
        ctx.save_for_backward(a, b, s, m_all, y_all, gates, *given)
        return out, phi

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, s, m_all, y_all, gates, *given = ctx.saved_tensors
        maps = Maps(*given)
        g_out = torch.zeros_like(a) if gradients[0] is None else gradients[0].contiguous()
        g_phi = gradients[1]
        g_maps = Maps(*(torch.zeros_like(t) for t in given))
        g_a, g_b, g_s = torch.zeros_like(a), torch.zeros_like(b), s.new_empty(s.t().shape)
        products = maps.products.t().contiguous()
        g_products = torch.zeros_like(products)
        longest, width = max((len(piece.rows) for piece in ctx.pieces), default=0), a.shape[1]
        one, two, three = a.new_empty((3, longest, width))
        for piece in ctx.pieces:
            n = len(piece.rows)
            m, gate = m_all[piece.pairs], gates[piece.pairs]
            g_m = torch.index_select(g_out[piece.nodes], 0, piece.receiver, out=one[:n])
            g_gate = torch.linalg.vecdot(g_m, m)
            g_m.mul_(gate[:, None])
            if g_phi is not None and maps.position is not None and g_maps.position is not None:
                y, g = y_all[piece.pairs], g_phi[piece.pairs]
                t = _position(y, gate, maps, two)
                g_maps.position_out[0].addmv_(t.t(), g)  # type: ignore[index]
                g_t = torch.mul(g[:, None], maps.position_out, out=three[:n])  # type: ignore[arg-type]
                g_t = torch.ops.aten.threshold_backward.grad_input(g_t, t, 0, grad_input=three[:n])
                g_maps.position_shift.add_(g_t.sum(0))  # type: ignore[union-attr]
                g_gate += torch.linalg.vecdot(g_t, y)
                g_y = g_t.mul_(gate[:, None])
                g_maps.position.addmm_(g_y.t(), m)
                g_m.addmm_(g_y, maps.position)
            g_pre = g_gate * gate * (1 - gate)
            g_maps.gate[0].addmv_(m.t(), g_pre)
            g_maps.gate_shift.add_(g_pre.sum())
            g_m.addcmul_(g_pre[:, None], maps.gate)
            torch.ops.aten.threshold_backward.grad_input(g_m, m, 0, grad_input=g_m)
            r = _first(a, b, s, maps.products, piece, two)
            g_maps.hidden_shift.add_(g_m.sum(0))
            g_maps.hidden.addmm_(g_m.t(), r)
            g_r = torch.mm(g_m, maps.hidden, out=three[:n])
            torch.ops.aten.threshold_backward.grad_input(g_r, r, 0, grad_input=g_r)
            # Two columns are too few for a matrix product by columns: by rows it takes a sixth of the time.
            for column in range(s.shape[1]):
                g_s[column, piece.pairs] = torch.mv(g_r, products[column])
            g_products += s[piece.pairs].t() @ g_r
            g_a[piece.nodes] = _sum(piece.rows, g_r, piece.starts)
            g_b[piece.nodes] = _sum(piece.reverse, g_r, piece.starts)
        g_maps.products.copy_(g_products.t())
        return g_a, g_b, g_s.t(), None, *g_maps[: len(given)]


def _first(a: Tensor, b: Tensor, s: Tensor, products: Tensor, piece: _Piece, out: Tensor) -> Tensor:
    """r, in the first rows of `out`."""
    out = out[: len(piece.rows)]
    torch.index_select(b[piece.nodes], 0, piece.sender, out=out)
    out.addmm_(s[piece.pairs], products.t())
    return out.add_(a[piece.nodes].index_select(0, piece.receiver)).relu_()


def _position(y: Tensor, gate: Tensor, maps: Maps, out: Tensor) -> Tensor:
    """ReLU(g y + v0), in the first rows of `out`."""
    assert maps.position_shift is not None
    return torch.addcmul(maps.position_shift, y, gate[:, None], out=out[: len(y)]).relu_()


def _sum(rows: Tensor, values: Tensor, starts: Tensor, weights: Tensor | None = None) -> Tensor:
    return F.embedding_bag(
        rows, values, starts, mode="sum", include_last_offset=True, per_sample_weights=weights
    )
