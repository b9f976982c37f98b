"""One block of the Particle Transformer in training on a CPU, forward and backward.

What it computes is written in `hepml.nn.attention.Block`; this file computes the same faster, for a processor whose memory is
slow against its matrix unit. Automatic differentiation keeps some 5,500 numbers a constituent and block; here 1,800 are kept and
norms, activations and dropout masks are made again from them, which costs less than fetching them. Dropout is decided by one
byte an entry (`hepml.nn.dropout`); its scale and those of heads and queries are taken into the weights, which are fewer than
constituents, and that of hidden units into the epsilon of the norm that follows: LN(s u; eps) = LN(u; eps / s^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hepml.nn.dropout import random_bytes, threshold

_layer_norm = torch.ops.aten.native_layer_norm
_norm_backward = torch.ops.aten.native_layer_norm_backward


@dataclass(frozen=True)
class BlockSettings:
    """What a block needs beside its parameters.

    Args:
        heads: H.
        dropout, attention_dropout: probabilities, in training.
        eps: of the norms.
        jets, width: B and P of the rectangle.
        rows: [ΣN] place of each packed row in the flattened rectangle; None where every jet fills it.
    """

    heads: int
    dropout: float
    attention_dropout: float
    eps: float
    jets: int
    width: int
    rows: Tensor | None

    def heads_first(self, packed: Tensor, parts: int) -> Tensor:
        """Packed [ΣN, parts C] to [parts, B H, P, C / H]."""
        if self.rows is not None:
            dense = packed.new_zeros((self.jets * self.width, packed.shape[1]))
            packed = dense.index_copy_(0, self.rows, packed)
        size = packed.shape[1] // parts // self.heads
        apart = packed.view(self.jets, self.width, parts, self.heads, size).permute(2, 0, 3, 1, 4)
        return apart.reshape(parts, self.jets * self.heads, self.width, size)

    def packed(self, *apart: Tensor) -> Tensor:
        """Several [B H, P, D] to packed [ΣN, parts C]."""
        size = apart[0].shape[-1]
        out = apart[0].new_empty((self.jets, self.width, len(apart), self.heads, size))
        for i, part in enumerate(apart):
            out[:, :, i].copy_(part.view(self.jets, self.heads, self.width, size).transpose(1, 2))
        flat = out.view(self.jets * self.width, -1)
        return flat if self.rows is None else flat.index_select(0, self.rows)


def block(x: Tensor, bias: Tensor, settings: BlockSettings, parameters: tuple[Tensor, ...]) -> Tensor:
    """A block's output.

    Args:
        x: [ΣN, C] packed rows, float32 or float64.
        bias: [B, H, P, P], very negative where a key is padding.
        settings: see there.
        parameters: (scale, shift) of the norm before the attention, (weight, bias) of its maps in and out, c_attn, the norm
            after it, the norm before the feed-forward part, fc1, the norm of hidden units, fc2, w_resid.

    Returns:
        [ΣN, C].
    """
    return _Block.apply(x, bias, settings, *parameters)  # type: ignore[no-any-return]


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

    def drop_(self, x: Tensor, drawn: Tensor) -> Tensor:
        """x without its scale, in place."""
        return x.mul_(self.keep(drawn, x)) if self.cut else x


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, s: BlockSettings, *parameters: Tensor) -> Tensor:
        p = _Parameters(*parameters)
        rest, attention = _Masks(s.dropout), _Masks(s.attention_dropout)
        eps = s.eps
        n1 = _layer_norm(x, [x.shape[1]], p.norm1, p.shift1, eps)[0]
        w_in, b_in = p.queries_scaled(s.heads)
        q, k, v = s.heads_first(torch.addmm(b_in, n1, w_in.t()), 3)
        scores = torch.baddbmm(bias.view(-1, s.width, s.width), q, k.mT)
        shares = torch.softmax(scores, -1)
        bytes_a = attention.draw(shares.numel())
        used = torch.mul(shares, attention.keep(bytes_a, shares), out=scores) if attention.cut else shares
        a = s.packed(torch.bmm(used, v))
        w_out, b_out = p.heads_scaled(s.heads, attention.scale)
        y = torch.addmm(b_out, a, w_out.t())
        t = _layer_norm(y, [y.shape[1]], p.norm2, p.shift2, eps)[0]
        bytes_1 = rest.draw(x.numel())
        middle = torch.addcmul(x, t, rest.keep(bytes_1, t), value=rest.scale)
        n3 = _layer_norm(middle, [x.shape[1]], p.norm3, p.shift3, eps)[0]
        f = torch.addmm(p.b1, n3, p.w1.t())
        bytes_h = rest.draw(f.numel())
        h = rest.drop_(torch.ops.aten.gelu(f), bytes_h)
        n4 = _layer_norm(h, [h.shape[1]], p.norm4, p.shift4, eps / rest.scale**2)[0]
        u = torch.addmm(p.b2, n4, p.w2.t())
        bytes_2 = rest.draw(x.numel())
        out = torch.mul(middle, p.w_resid).addcmul_(u, rest.keep(bytes_2, u), value=rest.scale)
        ctx.save_for_backward(x, q, k, v, shares, a, y, middle, f, bytes_a, bytes_1, bytes_h, bytes_2, *parameters)
        ctx.settings = s
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        s: BlockSettings = ctx.settings
        x, q, k, v, shares, a, y, middle, f, bytes_a, bytes_1, bytes_h, bytes_2, *parameters = ctx.saved_tensors
        p = _Parameters(*parameters)
        rest, attention = _Masks(s.dropout), _Masks(s.attention_dropout)
        (g,) = gradients
        width = [x.shape[1]]
        # The feed-forward part.
        d_resid = (g * middle).sum(0)
        du = rest.keep(bytes_2, g).mul_(g).mul_(rest.scale)
        h = rest.drop_(torch.ops.aten.gelu(f), bytes_h)
        n4, mean, inverse = _layer_norm(h, [h.shape[1]], p.norm4, p.shift4, s.eps / rest.scale**2)
        dw2, db2 = du.t() @ n4, du.sum(0)
        dn4 = torch.mm(du, p.w2, out=n4)
        dh, dnorm4, dshift4 = _norm_backward(dn4, h, [h.shape[1]], mean, inverse, p.norm4, p.shift4, _ALL)
        df = torch.ops.aten.gelu_backward.grad_input(rest.drop_(dh, bytes_h), f, grad_input=n4)
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
        (do,) = s.heads_first(torch.mm(dy, w_out), 1)
        keep = attention.keep(bytes_a, shares) if attention.cut else None
        dv = torch.bmm((shares if keep is None else shares * keep).mT, do)
        dp = torch.bmm(do, v.mT)
        if keep is not None:
            dp.mul_(keep)
        ds = torch.ops.aten._softmax_backward_data.out(dp, shares, -1, x.dtype, grad_input=torch.empty_like(dp))
        dqkv = s.packed(torch.bmm(ds, k), torch.bmm(ds.mT, q), dv)
        n1, mean, inverse = _layer_norm(x, width, p.norm1, p.shift1, s.eps)
        w_in, _ = p.queries_scaled(s.heads)
        dw_in, db_in = p.queries_unscaled(s.heads, dqkv.t() @ n1, dqkv.sum(0))
        dx, dnorm1, dshift1 = _norm_backward(
            torch.mm(dqkv, w_in, out=n1), x, width, mean, inverse, p.norm1, p.shift1, _ALL
        )
        dx += d
        of_attention = (dnorm1, dshift1, dw_in, db_in, dw_out, db_out, dc, dnorm2, dshift2)
        of_rest = (dnorm3, dshift3, dw1, db1, dnorm4, dshift4, dw2, db2, d_resid)
        return dx, ds.view(s.jets, s.heads, s.width, s.width), None, *of_attention, *of_rest


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

    def heads_unscaled(self, heads: int, scale: float, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the map and of c_attn from those of the scaled map."""
        c = self._per_row(heads)
        per_row = scale * (weight * self.w_out).sum(1) + bias * self.b_out
        return weight * (c * scale)[:, None], bias * c, per_row.view(heads, -1).sum(1)

    def _per_row(self, heads: int) -> Tensor:
        return self.c_attn.repeat_interleave(len(self.b_out) // heads)
