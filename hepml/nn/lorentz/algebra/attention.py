"""Attention by the invariant inner product of multivectors, through torch's fused attention
(arXiv:2405.14806, eq. 10).

    softmax_j( (<q_i, k_j> + s_i·t_j) / sqrt(d) ) v_j

The inner product is a sum over components with signs. With the signs put into the queries it is an ordinary
dot product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.lorentz.algebra.linear import MultivectorLinear
from hepml.nn.lorentz.algebra.multivectors import Multivectors
from hepml.nn.lorentz.algebra.norm import normalised
from hepml.nn.lorentz.algebra.products import METRIC
from hepml.packed.rectangle import Rectangle


class MultivectorAttention(nn.Module):
    """Multi-head attention of multivectors and scalars between the particles of each jet, with a scale for
    each head.

    Args:
        channels, scalars: of multivectors and further scalars, at both ends.
        heads: H.
        ratio: channels of all heads together, in units of these; a head has one multivector and four scalars
            at least.
        mix_parity: see `MultivectorLinear`.
    """

    signs: Tensor

    def __init__(
        self, channels: int, scalars: int, heads: int, ratio: int = 2, *, mix_parity: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.channels = max(ratio * channels // heads, 1)
        self.scalars = max(ratio * scalars // heads, 4)
        own, further = heads * self.channels, heads * self.scalars
        self.project = MultivectorLinear(
            channels, 3 * own, scalars, 3 * further, bias=False, mix_parity=mix_parity
        )
        self.out = MultivectorLinear(own, channels, further, scalars, gain=0.1, mix_parity=mix_parity)
        self.scale = nn.Parameter(torch.ones(heads))
        rows = torch.tensor((1.0, *METRIC, -1.0, -1.0, -1.0))
        signs = torch.outer(rows, torch.tensor((1.0, -1.0)).repeat(self.channels)).flatten()
        self.register_buffer("signs", torch.cat((signs, torch.ones(self.scalars))), persistent=False)

    def forward(
        self, x: Multivectors, s: Tensor, where: Rectangle, first_only: bool = False
    ) -> tuple[Multivectors, Tensor]:
        """Packed particles.

        Args:
            x, s: multivectors of C channels and scalars [M, S].
            where: the rectangle of the jets.
            first_only: only for the first particle of each jet, [B].

        Returns:
            C channels and [M or B, S].
        """
        y, t = self.project(x, s)
        m, h = s.shape[0], self.heads
        y = normalised(
            Multivectors(
                y.scalars.view(m, 3, h, 2 * self.channels),
                y.vectors.view(m, 4, 3, h, 2 * self.channels).permute(0, 2, 3, 1, 4),
                y.bivectors.view(m, 3, 3, h, 2 * self.channels).permute(0, 2, 3, 1, 4),
            )
        )
        t = F.layer_norm(t.view(m, 3, h, self.scalars), (self.scalars,))
        qkv = torch.cat((y.scalars, y.vectors.flatten(-2), y.bivectors.flatten(-2), t), dim=-1)
        attended = attend(qkv, self.signs, where, first_only) * self.scale[:, None]
        c = 2 * self.channels
        scalars, vectors, bivectors, t = attended.split((c, 4 * c, 3 * c, self.scalars), dim=-1)
        rows = attended.shape[0]
        y = Multivectors(
            scalars.reshape(rows, h * c),
            vectors.unflatten(-1, (4, c)).transpose(1, 2).reshape(rows, 4, h * c),
            bivectors.unflatten(-1, (3, c)).transpose(1, 2).reshape(rows, 3, h * c),
        )
        out: tuple[Multivectors, Tensor] = self.out(y, t.reshape(rows, h * self.scalars))
        return out


def attend(qkv: Tensor, signs: Tensor, where: Rectangle, first_only: bool = False) -> Tensor:
    """Attention within jets of packed queries, keys and values [M, 3, H, d], with signs [d] in the dot
    product: [M, H, d].

    Only for the first row of each jet, [B, H, d], where wanted.
    """
    rows, _, heads, size = qkv.shape
    dense = where.dense(qkv.flatten(1)).unflatten(-1, (3, heads, size))
    q, k, v = dense.permute(2, 0, 3, 1, 4).unbind(0)
    if first_only:
        q = q[:, :, :1]
    padded = torch.compiler.is_compiling() or q.device.type != "cpu" or rows < where.mask.numel()
    bias = where.key_bias(q.dtype).expand(-1, 1, q.shape[2], -1) if padded else None
    attended = F.scaled_dot_product_attention(q * signs, k, v, bias).transpose(1, 2)
    return attended[:, 0] if first_only else where.packed(attended)
