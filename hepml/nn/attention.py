"""Attention among the constituents of each jet, and the blocks of the (Particle) Transformer that are built
from it.

Constituents stay packed, [ΣN, C]: linear maps, norms and dropout never see padding. Only the attention itself
needs a rectangle; it is made for a few jets at a time, of similar length (see `hepml.nn.encoder`). Parameters
have the names of weaver-core's ParticleTransformer, so that its weights load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.kernels.dropout import Dropout, dropout
from hepml.packed.rectangle import Rectangle
from hepml.packed.rectangular import mask_behind


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of every block, after the softmax and without dropout. P is the count of the largest
    jet of the batch.

    Args:
        blocks: [L, B, H, P, P]; entry (i, j) is how much constituent i attends to constituent j. Rows of
            constituents sum to one (with a class token in the sequence, to one less what they give to it);
            rows and columns of padding are zero.
        pooling: [K, B, H, 1 + P], how much the class token attends to itself (column 0) and to each
            constituent; sums to one. None where constituents are pooled by a mean.
        mask: [B, P] True where a constituent stands.
    """

    blocks: Tensor
    pooling: Tensor | None
    mask: Tensor


class Attention(nn.Module):
    """Multi-head attention, softmax(q k^T / sqrt(d) + bias) v, between the rows of each jet.

    Args:
        width: C, a multiple of heads.
        heads: H.
        dropout: of attention weights, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, pieces: Sequence[Rectangle], biases: Sequence[Tensor]) -> Tensor:
        """[ΣN, C] to [ΣN, C] before the output map.

        Args:
            x: packed rows.
            pieces: rectangles of consecutive jets, which together have these rows; attention takes them in
                turns.
            biases: of each, [B, H or 1, P or 1, P] added to the scores, very negative where a key is padding.
        """
        if mask_behind(pieces[0].offsets) is not None:
            return self._attended_in_rectangle(x, pieces[0], biases[0])
        parts = self.in_proj(x).split([where.rows.shape[0] for where in pieces])
        attended = [self._attended(*each) for each in zip(parts, pieces, biases, strict=True)]
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def _attended(self, projected: Tensor, where: Rectangle, bias: Tensor) -> Tensor:
        q, k, v = self._queries_keys_values(projected, where)
        return where.packed(self._weighted(q, k, v, bias).transpose(1, 2).flatten(2))

    def _attended_in_rectangle(self, x: Tensor, where: Rectangle, bias: Tensor) -> Tensor:
        """The same of one rectangle that x already is: each map by itself, so that nothing is cut apart, and
        padding as it comes, of which nothing but that it is finite matters."""
        shape = (*where.mask.shape, self.heads, x.shape[1] // self.heads)
        maps = zip(self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, *each).view(shape).transpose(1, 2) for each in maps)
        return self._weighted(q, k, v, bias).transpose(1, 2).flatten(2).flatten(0, 1)

    def weights(self, x: Tensor, where: Rectangle, bias: Tensor) -> Tensor:
        """[B, H, P, P] attention weights, zero in rows and columns of padding."""
        q, k, _ = self._queries_keys_values(self.in_proj(x), where)
        scores = q @ k.mT * q.shape[-1] ** -0.5 + bias
        out: Tensor = scores.softmax(-1) * (where.mask[:, None, None] & where.mask[:, None, :, None])
        return out

    def _queries_keys_values(self, projected: Tensor, where: Rectangle) -> tuple[Tensor, Tensor, Tensor]:
        dense = where.dense(projected)
        jets, width, columns = dense.shape
        q, k, v = dense.view(jets, width, 3, self.heads, columns // 3 // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _weighted(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """What each row collects, [B, H, P, d]: by torch's fused kernel, or, where that has no such thing on
        a CPU (dropout, a bias that learns), in matrix products of one rectangle a jet and head."""
        p = self.dropout if self.training else 0.0
        if q.device.type != "cpu" or not (p or bias.requires_grad or torch.compiler.is_compiling()):
            return F.scaled_dot_product_attention(
                q, k, v, bias.to(q.dtype).expand(*q.shape[:3], k.shape[2]), p
            )
        jets, heads, width, size = q.shape
        flat = (bias.to(q.dtype).expand(jets, heads, width, width)).reshape(-1, width, width)
        q, k, v = (t.reshape(-1, width, size) for t in (q, k, v))
        scores = torch.baddbmm(flat, q, k.mT, alpha=size**-0.5)
        shares = dropout(scores.softmax(-1), self.dropout, self.training)
        return torch.bmm(shares, v).view(jets, heads, width, size)

    def query(self, token: Tensor, rows: Tensor, where: Rectangle, own: Tensor) -> tuple[Tensor, Tensor]:
        """What one query a jet collects from itself and from the jet's rows.

        Keys and values of the rows are never made: q . (W_k u) = (W_k^T q) . u and sum_j a_j W_v u_j =
        W_v sum_j a_j u_j, so that maps act on one row a jet and head, not on every constituent. The key's
        bias adds the same to every score and drops out of the softmax.

        Args:
            token: [B, C] queries.
            rows: [ΣN, C] normalised rows of the jets.
            where: their rectangle.
            own: [B, C] the normalised token, which is attended to as well.

        Returns:
            [B, C] before the output map, and the weights [B, H, 1 + P].
        """
        jets, width = token.shape
        size = width // self.heads
        weight, bias = self.in_proj.weight, self.in_proj.bias
        q = F.linear(token, weight[:width], bias[:width]).view(jets, self.heads, size)
        keys, values = weight[width : 2 * width].view(self.heads, size, width), weight[2 * width :]
        u = torch.cat((own[:, None], where.dense(rows)), dim=1)
        directed = (q.transpose(0, 1) @ keys).transpose(0, 1)
        scores = directed @ u.mT * size**-0.5
        scores = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
        shares = (scores + F.pad(where.key_bias(scores.dtype)[:, 0], (1, 0))).softmax(-1)
        used = dropout(shares, self.dropout, self.training).to(u.dtype)
        collected = used @ u
        attended = (collected.transpose(0, 1) @ values.view(self.heads, size, width).mT).transpose(0, 1)
        attended = attended + bias[2 * width :].view(self.heads, size) * used.sum(-1, keepdim=True)
        return attended.reshape(jets, width), shares


class Block(nn.Module):
    """One block of the Particle Transformer (arXiv:2202.03772, with the norms and scales of NormFormer,
    arXiv:2110.09456).

        y = x + drop(LN(scale_h attention(LN(x))))
        z = w y + drop(W_2 LN(drop(GELU(W_1 LN(y)))))

    A pre-norm block of the plain transformer is the same without the inner norms and scales (`plain`).

    Args:
        width: C.
        heads: H.
        expansion: hidden units of the feed-forward part, in units of C.
        dropout: of both branches and of hidden units.
        attention_dropout: of attention weights.
        plain: leave out the norms after the attention and in the feed-forward part, and the scales of heads
            and residuals.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        expansion: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        plain: bool = False,
    ) -> None:
        super().__init__()
        hidden = expansion * width
        self.heads = heads
        self.pre_attn_norm = nn.LayerNorm(width)
        self.attn = Attention(width, heads, attention_dropout)
        self.post_attn_norm = None if plain else nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.pre_fc_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.post_fc_norm = None if plain else nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.c_attn = None if plain else nn.Parameter(torch.ones(heads))
        self.w_resid = None if plain else nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, pieces: Sequence[Rectangle], biases: Sequence[Tensor]) -> Tensor:
        """[ΣN, C] to [ΣN, C]; see `Attention.forward`."""
        return self._rest(x, self.attn(self.pre_attn_norm(x), pieces, biases))

    def pool(self, token: Tensor, x: Tensor, where: Rectangle) -> tuple[Tensor, Tensor]:
        """Class attention (arXiv:2103.17239): the class tokens [B, C] after they have looked at the rows x
        [ΣN, C], and the weights [B, H, 1 + P]."""
        attended, shares = self.attn.query(token, self.pre_attn_norm(x), where, self.pre_attn_norm(token))
        return self._rest(token, attended), shares

    def weights(self, x: Tensor, where: Rectangle, bias: Tensor) -> Tensor:
        """[B, H, P, P] attention weights."""
        return self.attn.weights(self.pre_attn_norm(x), where, bias)

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        """Everything after the attention."""
        weight: Tensor = self.attn.out_proj.weight
        offset: Tensor = self.attn.out_proj.bias
        if self.c_attn is not None:  # a scale of the map's rows, which are fewer than constituents
            scale = self.c_attn.repeat_interleave(len(weight) // self.heads)
            weight, offset = weight * scale[:, None], offset * scale
        y = F.linear(attended, weight, offset)
        if self.post_attn_norm is not None:
            y = self.post_attn_norm(y)
        x = x + self.dropout(y)
        h = self.dropout(self.act(self.fc1(self.pre_fc_norm(x))))
        if self.post_fc_norm is not None:
            h = self.post_fc_norm(h)
        h = self.dropout(self.fc2(h))
        out: Tensor = h + (x if self.w_resid is None else self.w_resid * x)
        return out
