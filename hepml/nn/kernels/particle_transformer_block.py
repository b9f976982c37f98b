"""One block of the Particle Transformer in training on a CPU, forward and backward.

What it computes is written in `hepml.nn.attention.Block`; this file computes the same faster, for a processor
whose memory is slow against its matrix unit. Attention takes a few jets of similar length at a time.
Automatic differentiation keeps some 5,500 numbers a constituent and block; here 1,800 are kept and norms and
activations are made again from them, which costs less than fetching them. Dropout is decided by one byte an
entry (`hepml.nn.kernels.byte_dropout`); its scale and those of heads and queries are taken into the weights,
which are fewer than constituents, and that of hidden units into the epsilon of the norm that follows: LN(s u;
eps) = LN(u; eps / s^2). A hidden unit is dropped where its GELU is asked for a value so negative that both
the GELU and its derivative are zero: that mask is made once, in what the matrix product adds to, and needs to
be kept nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hepml.nn.kernels.byte_dropout import random_bytes, threshold

_layer_norm = torch.ops.aten.native_layer_norm
_norm_backward = torch.ops.aten.native_layer_norm_backward
# GELU and its derivative are exactly zero here in float32 and float64.
_DROPPED = -1e4


@dataclass(frozen=True)
class Piece:
    """Some consecutive jets and their rectangle.

    Args:
        count: packed rows.
        jets, width: B and P of the rectangle.
        rows: [count] place of each packed row in the flattened rectangle; None where every jet fills it.
    """

    count: int
    jets: int
    width: int
    rows: Tensor | None

    @classmethod
    def of(cls, rows: Tensor, jets: int, width: int) -> Piece:
        """The piece whose packed rows stand there."""
        return cls(len(rows), jets, width, None if len(rows) == jets * width else rows)

    def heads_first(self, packed: Tensor, parts: int, heads: int) -> Tensor:
        """Packed [n, parts C] to [parts, B H, P, C / H]."""
        if self.rows is not None:
            dense = packed.new_zeros((self.jets * self.width, packed.shape[1]))
            packed = dense.index_copy_(0, self.rows, packed)
        size = packed.shape[1] // parts // heads
        apart = packed.view(self.jets, self.width, parts, heads, size).permute(2, 0, 3, 1, 4)
        return apart.reshape(parts, self.jets * heads, self.width, size)

    def packed(self, heads: int, apart: Sequence[Tensor], out: Tensor) -> None:
        """Several [B H, P, D] to packed [n, parts C], into `out`."""
        size = apart[0].shape[-1]
        dense = out if self.rows is None else out.new_empty((self.jets * self.width, out.shape[1]))
        places = dense.view(self.jets, self.width, len(apart), heads, size)
        for i, part in enumerate(apart):
            places[:, :, i].copy_(part.view(self.jets, heads, self.width, size).transpose(1, 2))
        if self.rows is not None:
            torch.index_select(dense, 0, self.rows, out=out)


@dataclass(frozen=True)
class BlockSettings:
    """What a block needs beside its parameters.

    Args:
        heads: H.
        dropout, attention_dropout: probabilities, in training.
        eps: of the norms.
        pieces: jets whose attention is computed together, in the order of the rows.
    """

    heads: int
    dropout: float
    attention_dropout: float
    eps: float
    pieces: tuple[Piece, ...]

    def slices(self) -> Iterator[tuple[Piece, slice]]:
        """Each piece with its packed rows."""
        start = 0
        for piece in self.pieces:
            yield piece, slice(start, start + piece.count)
            start += piece.count


def block(
    x: Tensor, biases: Sequence[Tensor], settings: BlockSettings, parameters: tuple[Tensor, ...]
) -> Tensor:
    """A block's output.

    Args:
        x: [ΣN, C] packed rows, float32 or float64.
        biases: [B, H, P, P] of each piece, very negative where a key is padding.
        settings: see there.
        parameters: (scale, shift) of the norm before the attention, (weight, bias) of its maps in and out,
            c_attn, the norm after it, the norm before the feed-forward part, fc1, the norm of hidden units,
            fc2, w_resid.

    Returns:
        [ΣN, C].
    """
    return _Block.apply(x, settings, *parameters, *biases)  # type: ignore[no-any-return]


class _Masks:
    """Dropout masks as bytes, made again as numbers whenever they are used."""

    def __init__(self, p: float) -> None:
        self.cut = threshold(p)
        self.scale = 256 / (256 - self.cut)

    def draw(self, entries: int) -> Tensor:
        """Bytes for so many entries; none where nothing is dropped."""
        return random_bytes(entries if self.cut else 0)

    def keep(self, drawn: Tensor, like: Tensor) -> Tensor:
        """Ones and zeros in the shape of `like`."""
        if not self.cut:
            return torch.ones_like(like)
        out = torch.empty(like.numel(), dtype=like.dtype)
        return torch.ge(drawn, self.cut, out=out).view(like.shape)

    def forbid(self, offset: Tensor, rows: int) -> Tensor:
        """[rows, C] of an offset [C], and of a value far below where an entry is dropped."""
        shape = (rows, len(offset))
        if not self.cut:
            return offset.expand(shape).contiguous()
        out = torch.empty(rows * len(offset), dtype=offset.dtype)
        torch.lt(random_bytes(len(out)), self.cut, out=out)
        dropped = out.view(shape)
        return torch.add(offset, dropped, alpha=_DROPPED, out=dropped)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: BlockSettings, *given: Tensor) -> Tensor:
        p, biases = _Parameters(*given[:_COUNT]), given[_COUNT:]
        rest, attention = _Masks(s.dropout), _Masks(s.attention_dropout)
        eps = s.eps
        n1 = _layer_norm(x, [x.shape[1]], p.norm1, p.shift1, eps)[0]
        w_in, b_in = p.queries_scaled(s.heads)
        projected = torch.addmm(b_in, n1, w_in.t())
        a = n1
        kept: list[Tensor] = []
        for (piece, rows), bias in zip(s.slices(), biases, strict=True):
            qkv = piece.heads_first(projected[rows], 3, s.heads)
            q, k, v = qkv
            scores = torch.baddbmm(bias.view(-1, piece.width, piece.width), q, k.mT)
            shares = torch.softmax(scores, -1)
            drawn = attention.draw(shares.numel())
            used = torch.mul(shares, attention.keep(drawn, shares), out=scores) if attention.cut else shares
            piece.packed(s.heads, (torch.bmm(used, v),), a[rows])
            kept += (qkv, shares, drawn)
        w_out, b_out = p.heads_scaled(s.heads, attention.scale)
        y = torch.addmm(b_out, a, w_out.t())
        t = _layer_norm(y, [y.shape[1]], p.norm2, p.shift2, eps)[0]
        bytes_1 = rest.draw(x.numel())
        middle = torch.addcmul(x, t, rest.keep(bytes_1, t), value=rest.scale)
        n3 = _layer_norm(middle, [x.shape[1]], p.norm3, p.shift3, eps)[0]
        f = rest.forbid(p.b1, len(x)).addmm_(n3, p.w1.t())
        h = torch.ops.aten.gelu(f)
        n4 = _layer_norm(h, [h.shape[1]], p.norm4, p.shift4, eps / rest.scale**2)[0]
        u = torch.addmm(p.b2, n4, p.w2.t())
        bytes_2 = rest.draw(x.numel())
        out = torch.mul(middle, p.w_resid).addcmul_(u, rest.keep(bytes_2, u), value=rest.scale)
        ctx.save_for_backward(x, a, y, middle, f, bytes_1, bytes_2, *given[:_COUNT], *kept)
        ctx.settings = s
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        s: BlockSettings = ctx.settings
        x, a, y, middle, f, bytes_1, bytes_2, *saved = ctx.saved_tensors
        p, kept = _Parameters(*saved[:_COUNT]), iter(saved[_COUNT:])
        rest, attention = _Masks(s.dropout), _Masks(s.attention_dropout)
        (g,) = gradients
        width = [x.shape[1]]
        # The feed-forward part.
        d_resid = (g * middle).sum(0)
        du = rest.keep(bytes_2, g).mul_(g).mul_(rest.scale)
        h = torch.ops.aten.gelu(f)
        n4, mean, inverse = _layer_norm(h, [h.shape[1]], p.norm4, p.shift4, s.eps / rest.scale**2)
        dw2, db2 = du.t() @ n4, du.sum(0)
        dn4 = torch.mm(du, p.w2, out=n4)
        dh, dnorm4, dshift4 = _norm_backward(dn4, h, [h.shape[1]], mean, inverse, p.norm4, p.shift4, _ALL)
        df = torch.ops.aten.gelu_backward.grad_input(dh, f, grad_input=n4)
        n3, mean, inverse = _layer_norm(middle, width, p.norm3, p.shift3, s.eps)
        dw1, db1 = df.t() @ n3, df.sum(0)
        dn3 = torch.mm(df, p.w1, out=n3)
        d, dnorm3, dshift3 = _norm_backward(dn3, middle, width, mean, inverse, p.norm3, p.shift3, _ALL)
        d.addcmul_(g, p.w_resid)
        # The attention.
        t, mean, inverse = _layer_norm(y, width, p.norm2, p.shift2, s.eps)
        dt = torch.mul(rest.keep(bytes_1, d), d, out=t).mul_(rest.scale)
        dy, dnorm2, dshift2 = _norm_backward(dt, y, width, mean, inverse, p.norm2, p.shift2, _ALL)
        w_out, _ = p.heads_scaled(s.heads, attention.scale)
        dw_out, db_out, dc = p.heads_unscaled(s.heads, attention.scale, dy.t() @ a, dy.sum(0))
        da = torch.mm(dy, w_out)
        dqkv = x.new_empty((len(x), 3 * x.shape[1]))
        of_biases = []
        for piece, rows in s.slices():
            (q, k, v), shares, drawn = next(kept), next(kept), next(kept)
            (do,) = piece.heads_first(da[rows], 1, s.heads)
            keep = attention.keep(drawn, shares) if attention.cut else None
            dv = torch.bmm((shares if keep is None else shares * keep).mT, do)
            dp = torch.bmm(do, v.mT)
            if keep is not None:
                dp.mul_(keep)
            ds = torch.ops.aten._softmax_backward_data.out(
                dp, shares, -1, x.dtype, grad_input=torch.empty_like(dp)
            )
            piece.packed(s.heads, (torch.bmm(ds, k), torch.bmm(ds.mT, q), dv), dqkv[rows])
            of_biases.append(ds.view(piece.jets, s.heads, piece.width, piece.width))
        n1, mean, inverse = _layer_norm(x, width, p.norm1, p.shift1, s.eps)
        w_in, _ = p.queries_scaled(s.heads)
        dw_in, db_in = p.queries_unscaled(s.heads, dqkv.t() @ n1, dqkv.sum(0))
        dx, dnorm1, dshift1 = _norm_backward(
            torch.mm(dqkv, w_in, out=n1), x, width, mean, inverse, p.norm1, p.shift1, _ALL
        )
        dx += d
        of_attention = (dnorm1, dshift1, dw_in, db_in, dw_out, db_out, dc, dnorm2, dshift2)
        of_rest = (dnorm3, dshift3, dw1, db1, dnorm4, dshift4, dw2, db2, d_resid)
        return dx, None, *of_attention, *of_rest, *of_biases


_COUNT = 18
_ALL = [True, True, True]


@dataclass(frozen=True)
class _Parameters:
    """Parameters of a block, in the order of `block`, and the scales that are taken into them."""

    norm1: Tensor
    shift1: Tensor
    w_in: Tensor
    b_in: Tensor
    w_out: Tensor
    b_out: Tensor
    c_attn: Tensor
    norm2: Tensor
    shift2: Tensor
    norm3: Tensor
    shift3: Tensor
    w1: Tensor
    b1: Tensor
    norm4: Tensor
    shift4: Tensor
    w2: Tensor
    b2: Tensor
    w_resid: Tensor

    def queries_scaled(self, heads: int) -> tuple[Tensor, Tensor]:
        """Map to queries / sqrt(d), keys and values."""
        return self.queries_unscaled(heads, self.w_in, self.b_in)

    def queries_unscaled(self, heads: int, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the map from that of the scaled map."""
        width = self.w_in.shape[1]
        scale = torch.ones_like(self.b_in)
        scale[:width] = (width // heads) ** -0.5
        return weight * scale[:, None], bias * scale

    def heads_scaled(self, heads: int, scale: float) -> tuple[Tensor, Tensor]:
        """Map of the attended, times the scale of its heads and of dropout."""
        c = self._per_row(heads)
        return self.w_out * (c * scale)[:, None], self.b_out * c

    def heads_unscaled(
        self, heads: int, scale: float, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the map and of c_attn from those of the scaled map."""
        c = self._per_row(heads)
        per_row = scale * (weight * self.w_out).sum(1) + bias * self.b_out
        return weight * (c * scale)[:, None], bias * c, per_row.view(heads, -1).sum(1)

    def _per_row(self, heads: int) -> Tensor:
        return self.c_attn.repeat_interleave(len(self.b_out) // heads)
