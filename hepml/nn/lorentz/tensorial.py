"""Attention that passes tensors between local frames (LLoCa, arXiv:2505.20280).

What particle j says is known in its own frame. Its scalars mean the same everywhere; its vectors are seen
from the frame of particle i by the Lorentz matrix L_i L_j⁻¹, and the scores are invariant products:

    out_i = sum_j softmax_j( <q_i, T_ij k_j> / sqrt(d) ) T_ij v_j,
    T_ij = 1 for scalars, L_i L_j⁻¹ for vectors,

with <a, b> = ab for scalars and a⁰b⁰ - a¹b¹ - a²b² - a³b³ for vectors.

Nothing of it needs a matrix a pair. With queries, keys and values brought to the frame that all frames refer
to, by L_j⁻¹, the signs of the metric put into the product, and the result brought back by L_i, it is ordinary
attention, for which torch has a fused kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.errors import ConfigError
from hepml.nn.kernels.dropout import Dropout
from hepml.nn.lorentz.algebra.attention import attend
from hepml.nn.lorentz.algebra.products import METRIC
from hepml.packed.rectangle import Rectangle


@dataclass(frozen=True, eq=False)
class FrameMaps:
    """How vectors go to and from the local frames.

    Args:
        local: [M, 4, 4] from the common frame to that of each particle.
        common: [M, 4, 4] back.
    """

    local: Tensor
    common: Tensor

    @classmethod
    def of(cls, frames: Tensor, dtype: torch.dtype, *, balanced: bool = False) -> FrameMaps:
        """Of Lorentz matrices L [M, 4, 4].

        Args:
            frames: L.
            dtype: of the maps.
            balanced: divide both by the frame's Lorentz factor L_00 in the common frame, which has no
                gradient. A fast frame then makes no vector large. Where the common frame is the jet's rest
                frame the factor is an invariant: the jet's energy as seen from the frame, over its mass.
        """
        signs = frames.new_tensor(METRIC)
        inverse = signs[:, None] * frames.mT * signs
        if balanced:
            gamma = frames[:, :1, :1].detach()
            frames, inverse = frames / gamma, inverse / gamma
        return cls(frames.to(dtype).contiguous(), inverse.to(dtype).contiguous())

    def split(self, rows: Sequence[int]) -> list[FrameMaps]:
        """Those of consecutive particles."""
        pairs = zip(self.local.split(list(rows)), self.common.split(list(rows)), strict=True)
        return [FrameMaps(local, common) for local, common in pairs]


class TensorialAttention(nn.Module):
    """Multi-head attention between the particles of each jet, of scalars and vectors in local frames.

    A head of d = width / heads numbers has V vectors and d - 4 V scalars. Features are those of the local
    frames: to maps, norms and activations before and after, vectors are four numbers like any other. With V =
    0 it is ordinary attention.

    `in_proj` gives the scalars of queries, keys and values by head, then their vectors, component by
    component; `out_proj` takes the scalars by head, then the vectors likewise.

    Args:
        width: C, a multiple of heads.
        heads: H.
        vectors: V of each head.

    Raises:
        ConfigError: heads of no equal width, or too narrow for their vectors.
    """

    signs: Tensor

    def __init__(self, width: int, heads: int, vectors: int) -> None:
        super().__init__()
        if width % heads or not 0 <= 4 * vectors <= width // heads:
            raise ConfigError(
                f"a width of {width} has no {heads} heads with {vectors} vectors of four components each",
                mend="take a width that is a multiple of heads, and at most width / heads / 4 vectors",
            )
        self.heads, self.vectors, self.scalars = heads, vectors, width // heads - 4 * vectors
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        signs = torch.cat((torch.ones(self.scalars), torch.tensor(METRIC).repeat_interleave(vectors)))
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, x: Tensor, frames: FrameMaps, where: Rectangle) -> Tensor:
        """Shapes: [M, C], kept.

        Args:
            x: features of packed particles.
            frames: of these particles.
            where: the rectangle of their jets.
        """
        qkv = self.in_proj(x)
        with torch.autocast(x.device.type, enabled=False):  # the product is indefinite
            attended = self._attended(qkv.to(frames.local.dtype), frames, where)
        out: Tensor = self.out_proj(attended)
        return out

    def _attended(self, qkv: Tensor, frames: FrameMaps, where: Rectangle) -> Tensor:
        m, h = qkv.shape[0], self.heads
        scalars, vectors = qkv.split((3 * h * self.scalars, 12 * h * self.vectors), dim=1)
        common = torch.bmm(frames.common, vectors.view(m, 4, 3 * h * self.vectors)).view(
            m, 4, 3, h, self.vectors
        )
        parts = (scalars.view(m, 3, h, self.scalars), common.permute(0, 2, 3, 1, 4).flatten(-2))
        attended = attend(torch.cat(parts, dim=-1), self.signs.to(qkv.dtype), where)
        scalars, vectors = attended.split((self.scalars, 4 * self.vectors), dim=-1)
        vectors = vectors.unflatten(-1, (4, self.vectors)).transpose(1, 2).reshape(m, 4, h * self.vectors)
        return torch.cat((scalars.flatten(1), torch.bmm(frames.local, vectors).flatten(1)), dim=1)


class TensorialBlock(nn.Module):
    """y = x + drop(attention(norm(x))), then y + drop(W_2 drop(GELU(W_1 norm(y)))), in local frames; the
    norms have no parameters.

    Args:
        width, heads, vectors: as for `TensorialAttention`.
        expansion: hidden units, in units of the width.
        dropout: of both branches and of hidden units.
    """

    def __init__(
        self, width: int, heads: int, vectors: int, expansion: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = TensorialAttention(width, heads, vectors)
        self.fc1 = nn.Linear(width, expansion * width)
        self.fc2 = nn.Linear(expansion * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, frames: FrameMaps, where: Rectangle) -> Tensor:
        """Shapes: [M, C], kept; see `TensorialAttention.forward`."""
        x = x + self.dropout(self.attention(_normalised(x), frames, where))
        hidden = self.dropout(F.gelu(self.fc1(_normalised(x))))
        out: Tensor = x + self.dropout(self.fc2(hidden))
        return out


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
