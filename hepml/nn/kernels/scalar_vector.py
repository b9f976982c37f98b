"""A block of scalars and vectors by hand on a CPU: what `PairBlock` computes, in fewer passes over memory,
with its own backward pass.

Vectors stand component by component, [4, M, V], so that a Minkowski product of channels is one of contiguous
rows. Gains of norms are taken into the weights that follow; sums over the channels of a head, and what
spreads a number over them, are matrix products with zeros and ones; residuals are the start of a matrix
product. `hepml.nn.lorentz.scalar_vector` has the definition.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hepml.nn.lorentz.algebra.products import METRIC
from hepml.packed.rectangle import Rectangle

EPSILON = 0.01  # in norms: massless momenta have no size


class AttentionWeights(NamedTuple):
    """Gains of the norm [V], [S]; projections to [3 heads channels]; the map of the result."""

    vector_gain: Tensor
    scalar_gain: Tensor
    vectors: Tensor
    scalars: Tensor
    out_vectors: Tensor
    out_scalars: Tensor
    out_bias: Tensor


class MLPWeights(NamedTuple):
    """Gains of the norm [V], [S]; the maps to (v, a, b) and (s, t); the map of the result."""

    vector_gain: Tensor
    scalar_gain: Tensor
    vectors: Tensor
    scalars: Tensor
    bias: Tensor
    out_vectors: Tensor
    out_scalars: Tensor
    out_bias: Tensor


def attention_step(
    v: list[Tensor], s: list[Tensor], weights: AttentionWeights, heads: int, where: list[Places]
) -> tuple[list[Tensor], list[Tensor]]:
    """x + attention(norm(x)) of some groups of jets. Shapes: [4, M, V], [M, S] of each, kept."""
    outputs = _AttentionStep.apply(heads, where, *weights, *v, *s)
    return list(outputs[: len(v)]), list(outputs[len(v) :])


def mlp_step(v: list[Tensor], s: list[Tensor], weights: MLPWeights) -> tuple[list[Tensor], list[Tensor]]:
    """x + MLP(norm(x)) of some groups of jets. Shapes: [4, M, V], [M, S] of each, kept."""
    outputs = _MLPStep.apply(*weights, *v, *s)
    return list(outputs[: len(v)]), list(outputs[len(v) :])


class Places:
    """Where queries, keys and values of packed rows stand in those of each jet and head.

    Args:
        where: the rectangle [B, P] of the jets.
        heads: H.
    """

    def __init__(self, where: Rectangle, heads: int) -> None:
        self.where, self.heads, self.rows = where, heads, where.rows.shape[0]
        self.jets, self.width = where.mask.shape
        self.full = self.rows == self.jets * self.width

    @cached_property
    def key_bias(self) -> Tensor:
        """[B, 1, 1, P]: zero at constituents, very negative at padding."""
        return self.where.key_bias(torch.float32)

    @cached_property
    def _indices(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {n: self._index(n) for n in (1, 3)}

    def _index(self, n: int) -> tuple[Tensor, Tensor]:
        """For each row of [n, B, H, P] that of packed [M, n, H], or the last, which is zero; and the other
        way round."""
        device, places = self.where.rows.device, self.jets * self.width
        row = torch.full((places,), -1, device=device)
        row[self.where.rows] = torch.arange(self.rows, device=device)
        row = row.view(1, self.jets, 1, self.width)
        which, head = torch.arange(n, device=device), torch.arange(self.heads, device=device)
        packed = (row * n + which[:, None, None, None]) * self.heads + head[:, None]
        packed = torch.where(row < 0, self.rows * n * self.heads, packed).flatten()
        dense = torch.arange(n * places * self.heads, device=device).view(
            n, self.jets, self.heads, self.width
        )
        dense = dense.permute(1, 3, 0, 2).flatten(0, 1).index_select(0, self.where.rows).flatten()
        return packed.int(), dense.int()

    def dense(self, x: Tensor, n: int) -> Tensor:
        """[M n H + 1, d], of which the last row is zero, to [n, B H, P, d]."""
        return x.index_select(0, self._indices[n][0]).view(n, self.jets * self.heads, self.width, -1)

    def packed(self, x: Tensor) -> Tensor:
        """[n, B H, P, d] to [M, n, H, d]."""
        n, size = x.shape[0], x.shape[-1]
        return x.view(-1, size).index_select(0, self._indices[n][1]).view(self.rows, n, self.heads, size)


def minkowski(a: Tensor, b: Tensor) -> Tensor:
    """Shapes: [4, M, V] twice -> [M, V]."""
    return torch.mv((a * b).view(4, -1).t(), _metric(a)).view(a.shape[1:])


def _metric(like: Tensor) -> Tensor:
    key = like.dtype, like.device
    if key not in _METRICS:
        _METRICS[key] = torch.tensor(METRIC, dtype=like.dtype, device=like.device)
    return _METRICS[key]


_METRICS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


class _Norm(NamedTuple):
    v: Tensor
    s: Tensor
    scale: Tensor  # [M, 1]
    squares: Tensor  # [M, V] of vectors


def _norm(v: Tensor, s: Tensor) -> _Norm:
    """Vectors and scalars over their common size, without gains."""
    squares = minkowski(v, v)
    size = squares.abs().sum(-1, keepdim=True) + torch.linalg.vecdot(s, s)[:, None]
    scale = (size / (v.shape[-1] + s.shape[-1]) + EPSILON).rsqrt()
    return _Norm(v * scale, s * scale, scale, squares)


def _through_norm(
    g_v: Tensor, g_s: Tensor, v: Tensor, s: Tensor, norm: _Norm, onto_v: Tensor, onto_s: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to v and s, added to others; g_v and g_s are written over."""
    g_scale = torch.linalg.vecdot(g_s, s) + torch.linalg.vecdot(g_v, v).sum(0)
    g_size = g_scale[:, None] * norm.scale**3 / -(v.shape[-1] + s.shape[-1])  # of half the size
    slope = norm.squares.sgn().mul_(g_size)
    g_v.mul_(norm.scale).add_(onto_v)
    _add_signed(g_v, slope, v)
    return g_v, g_s.mul_(norm.scale).add_(onto_s).addcmul_(g_size, s)


def _add_signed(to: Tensor, slope: Tensor, v: Tensor) -> None:
    """Adds (1, -1, -1, -1) slope v."""
    time, space = v.split((1, 3))
    to_time, to_space = to.split((1, 3))
    to_time.addcmul_(slope, time)
    to_space.addcmul_(slope, space, value=-1)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(0, -2)


class _Folded(NamedTuple):
    """Weights of norm and map together, and what becomes of their gradients."""

    vectors: Tensor
    scalars: Tensor

    @classmethod
    def of(cls, w: AttentionWeights | MLPWeights) -> _Folded:
        return cls(w.vectors * w.vector_gain, w.scalars * w.scalar_gain)

    def gradients(self, w: AttentionWeights | MLPWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """These being gradients: those of gains and of maps."""
        of_gains = (self.vectors * w.vectors).sum(0), (self.scalars * w.scalars).sum(0)
        return *of_gains, self.vectors * w.vector_gain, self.scalars * w.scalar_gain


def _zeros(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(t) for t in tensors)


class _MLPStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, ...]:
        w, groups = MLPWeights(*given[:8]), (len(given) - 8) // 2
        folded, hidden = _Folded.of(w), w.out_vectors.shape[1]
        keep, saved = any(ctx.needs_input_grad), []
        made_v, made_s = [], []
        for v, s in zip(given[8 : 8 + groups], given[8 + groups :], strict=True):
            normed = _norm(v, s)
            hv = (_flat(normed.v) @ folded.vectors.t()).view(4, len(s), -1)
            hs = torch.addmm(w.bias, normed.s, folded.scalars.t())
            x, a, b = hv.split(hidden, dim=-1)
            gate = minkowski(a, b).mul_(0.5).sigmoid_()
            left, right = hs.chunk(2, dim=-1)
            bent = F.gelu(right, approximate="tanh")
            made_v.append(torch.addmm(_flat(v), _flat(gate * x), w.out_vectors.t()).view_as(v))
            made_s.append(torch.addmm(s + w.out_bias, bent * left, w.out_scalars.t()))
            if keep:
                saved += [v, s, *normed, hv, hs, gate, bent]
        ctx.save_for_backward(*given[:8], *saved)
        return *made_v, *made_s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w, saved = MLPWeights(*ctx.saved_tensors[:8]), ctx.saved_tensors[8:]
        groups, folded, hidden = len(gradients) // 2, _Folded.of(w), w.out_vectors.shape[1]
        of_folded = _Folded(*_zeros(folded))
        of_bias, of_out_vectors, of_out_scalars, of_out_bias = _zeros(w[4:])
        made_v, made_s = [], []
        for i in range(groups):
            v, s, *rest = saved[10 * i : 10 * i + 10]
            normed, (hv, hs, gate, bent) = _Norm(*rest[:4]), rest[4:]
            g_v, g_s = gradients[i].contiguous(), gradients[groups + i].contiguous()
            x, a, b = hv.split(hidden, dim=-1)
            left, right = hs.chunk(2, dim=-1)
            of_out_vectors.addmm_(_flat(g_v).t(), _flat(gate * x))
            of_out_scalars.addmm_(g_s.t(), bent * left)
            of_out_bias += g_s.sum(0)
            g = (_flat(g_v) @ w.out_vectors).view(4, len(s), hidden)
            of_hv, of_hs = torch.empty_like(hv), torch.empty_like(hs)
            g_x, g_a, g_b = of_hv.split(hidden, dim=-1)
            torch.mul(g, gate, out=g_x)
            slope = torch.ops.aten.sigmoid_backward((g.mul_(x)).sum(0), gate).mul_(0.5)
            signed = slope * _metric(slope)[:, None, None]
            torch.mul(b, signed, out=g_a)
            torch.mul(a, signed, out=g_b)
            t = g_s @ w.out_scalars
            g_left, g_right = of_hs.chunk(2, dim=-1)
            torch.mul(t, bent, out=g_left)
            torch.ops.aten.gelu_backward.grad_input(
                t.mul_(left), right, approximate="tanh", grad_input=g_right
            )
            of_folded.vectors.addmm_(_flat(of_hv).t(), _flat(normed.v))
            of_folded.scalars.addmm_(of_hs.t(), normed.s)
            of_bias += of_hs.sum(0)
            d_v, d_s = (_flat(of_hv) @ folded.vectors).view_as(v), of_hs @ folded.scalars
            d_v, d_s = _through_norm(d_v, d_s, v, s, normed, g_v, g_s)
            made_v.append(d_v)
            made_s.append(d_s)
        of_weights = MLPWeights(*of_folded.gradients(w), of_bias, of_out_vectors, of_out_scalars, of_out_bias)
        return *of_weights, *made_v, *made_s


class _Heads:
    """H heads of V vectors and S scalars each.

    Args:
        sum_vectors, sum_scalars: [3 H V, 3 H] and [3 H S, 3 H] of zeros and ones, which sum over the channels
            of a head.
        signs: [d] of the dot product, over the root of d.
    """

    def __init__(self, count: int, w: AttentionWeights) -> None:
        like = w.scalars
        self.count = count
        self.vectors, self.scalars = len(w.vectors) // (3 * count), len(w.scalars) // (3 * count)
        self.size = 4 * self.vectors + self.scalars
        eye = torch.eye(3 * count, dtype=like.dtype, device=like.device)
        self.sum_vectors, self.sum_scalars = (
            eye.repeat_interleave(self.vectors, 0),
            eye.repeat_interleave(self.scalars, 0),
        )
        self.signs = torch.full((self.size,), self.size**-0.5, dtype=like.dtype, device=like.device)
        self.signs[self.vectors : 4 * self.vectors].neg_()

    def joined(self, v: Tensor, s: Tensor) -> Tensor:
        """[4, M, n H V], [M, n H S] -> [M n H + 1, d], with a row of zeros at the end."""
        rows, n = len(s), s.shape[1] // (self.count * self.scalars)
        flat = s.new_empty((rows * n * self.count + 1, self.size))
        flat[-1].zero_()
        out = flat[:-1].view(rows, n, self.count, self.size)
        of_vectors, of_scalars = out.split((4 * self.vectors, self.scalars), dim=-1)
        of_vectors.unflatten(-1, (4, self.vectors)).copy_(
            v.view(4, rows, n, self.count, self.vectors).permute(1, 2, 3, 0, 4)
        )
        of_scalars.copy_(s.view(rows, n, self.count, self.scalars))
        return flat

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[M, n, H, d] -> [4, M, n H V], [M, n H S]."""
        v, s = x.split((4 * self.vectors, self.scalars), dim=-1)
        v = v.unflatten(-1, (4, self.vectors)).permute(3, 0, 1, 2, 4)
        return v.reshape(4, len(x), -1), s.reshape(len(x), -1)


class _AttentionStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, where: list[Places], *given: Tensor) -> tuple[Tensor, ...]:
        w, groups = AttentionWeights(*given[:7]), len(where)
        folded, heads = _Folded.of(w), _Heads(count, w)
        keep, saved = any(ctx.needs_input_grad), []
        made_v, made_s = [], []
        for v, s, places in zip(given[7 : 7 + groups], given[7 + groups :], where, strict=True):
            normed = _norm(v, s)
            pv = (_flat(normed.v) @ folded.vectors.t()).view(4, len(s), -1)
            ps = normed.s @ folded.scalars.t()
            squares = minkowski(pv, pv)
            size = torch.addmm(squares.abs() @ heads.sum_vectors, ps.square(), heads.sum_scalars)
            scale = (size / (heads.vectors + heads.scalars) + EPSILON).rsqrt()
            qkv = heads.joined(pv * (scale @ heads.sum_vectors.t()), ps * (scale @ heads.sum_scalars.t()))
            q, k, x = places.dense(qkv, 3).unbind(0)
            q.mul_(heads.signs)
            shares = torch.bmm(q, k.transpose(1, 2))
            if not places.full:
                shares.view(places.jets, count, places.width, -1).add_(places.key_bias)
            shares = shares.softmax(-1)
            ov, os = heads.split(places.packed(torch.bmm(shares, x)[None]))
            made_v.append(torch.addmm(_flat(v), _flat(ov), w.out_vectors.t()).view_as(v))
            made_s.append(torch.addmm(s + w.out_bias, os, w.out_scalars.t()))
            if keep:
                saved += [v, s, *normed, pv, ps, squares, scale, q, k, x, shares, ov, os]
        ctx.where, ctx.heads = where, heads
        ctx.save_for_backward(*given[:7], *saved)
        return *made_v, *made_s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w, saved = AttentionWeights(*ctx.saved_tensors[:7]), ctx.saved_tensors[7:]
        heads, groups, folded = ctx.heads, len(ctx.where), _Folded.of(w)
        of_folded = _Folded(*_zeros(folded))
        of_out_vectors, of_out_scalars, of_out_bias = _zeros(w[4:])
        made_v, made_s = [], []
        for i, where in enumerate(ctx.where):
            v, s, *rest = saved[16 * i : 16 * i + 16]
            normed, (pv, ps, squares, scale, q, k, x, shares, ov, os) = _Norm(*rest[:4]), rest[4:]
            g_v, g_s = gradients[i].contiguous(), gradients[groups + i].contiguous()
            of_out_vectors.addmm_(_flat(g_v).t(), _flat(ov))
            of_out_scalars.addmm_(g_s.t(), os)
            of_out_bias += g_s.sum(0)
            g_attended = heads.joined((_flat(g_v) @ w.out_vectors).view(4, len(s), -1), g_s @ w.out_scalars)
            (g,) = where.dense(g_attended, 1)
            of_qkv = g.new_empty((3, *g.shape))
            g_shares = torch.bmm(g, x.transpose(1, 2))
            g_shares = torch.ops.aten._softmax_backward_data(g_shares, shares, -1, shares.dtype)
            torch.bmm(g_shares, k, out=of_qkv[0]).mul_(heads.signs)
            torch.bmm(g_shares.transpose(1, 2), q, out=of_qkv[1])
            torch.bmm(shares.transpose(1, 2), g, out=of_qkv[2])
            g_pv, g_ps = heads.split(where.packed(of_qkv))
            g_scale = torch.addmm((g_pv * pv).sum(0) @ heads.sum_vectors, g_ps * ps, heads.sum_scalars)
            g_size = g_scale.mul_(scale**3).div_(-(heads.vectors + heads.scalars))
            g_pv.mul_(scale @ heads.sum_vectors.t())
            _add_signed(g_pv, squares.sgn().mul_(g_size @ heads.sum_vectors.t()), pv)
            g_ps = (g_ps * (scale @ heads.sum_scalars.t())).addcmul_(g_size @ heads.sum_scalars.t(), ps)

            of_folded.vectors.addmm_(_flat(g_pv).t(), _flat(normed.v))
            of_folded.scalars.addmm_(g_ps.t(), normed.s)
            d_v, d_s = (_flat(g_pv) @ folded.vectors).view_as(v), g_ps @ folded.scalars
            d_v, d_s = _through_norm(d_v, d_s, v, s, normed, g_v, g_s)
            made_v.append(d_v)
            made_s.append(d_s)
        of_weights = AttentionWeights(*of_folded.gradients(w), of_out_vectors, of_out_scalars, of_out_bias)
        return None, None, *of_weights, *made_v, *made_s
