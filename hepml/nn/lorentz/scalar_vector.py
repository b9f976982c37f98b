"""Layers on scalars and four-vectors, the lightest features that commute with Lorentz transformations
(arXiv:2512.17011).

Vectors are [M, 4, V], so that a map of their channels is one matrix product; scalars are [M, S]. They meet in
the norm, which is joint, and in the attention, which weighs by products of vectors and of scalars; the
nonlinearity of vectors is a gate made of their products.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn import kernels
from hepml.nn.kernels.scalar_vector import (
    EPSILON,
    AttentionWeights,
    MLPWeights,
    Places,
    attention_step,
    mlp_step,
)
from hepml.nn.lorentz.algebra.attention import attend
from hepml.nn.lorentz.algebra.products import METRIC
from hepml.packed.rectangle import Rectangle


def joint_scale(v: Tensor, s: Tensor) -> Tensor:
    """1 / sqrt(mean(|v·v|, s²) + epsilon) over the channels of both. Shapes: [..., 4, V], [..., S] ->
    [...]."""
    squares = _minkowski(v.square()).abs().sum(-1) + s.square().sum(-1)
    return (squares / (v.shape[-1] + s.shape[-1]) + EPSILON).rsqrt()


class JointNorm(nn.Module):
    """Vectors and scalars over their common size, with a gain for each channel.

    Args:
        vectors, scalars: V and S.
    """

    def __init__(self, vectors: int, scalars: int) -> None:
        super().__init__()
        self.vectors, self.scalars = nn.Parameter(torch.ones(vectors)), nn.Parameter(torch.ones(scalars))

    def forward(self, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: [..., 4, V], [..., S], kept."""
        scale = joint_scale(v, s)[..., None]
        return v * (scale * self.vectors)[..., None, :], s * (scale * self.scalars)


class PairLinear(nn.Module):
    """A linear map of vectors and one of scalars, which alone has a bias.

    Args:
        vectors, scalars: channels before and after of each; vectors (V, 0) make none.
        bias: of scalars.
        gain: weights start uniform between ±gain / sqrt(fan).
    """

    def __init__(
        self, vectors: tuple[int, int], scalars: tuple[int, int], *, bias: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        bound = gain / max(vectors[0], 1) ** 0.5
        self.vectors = (
            nn.Parameter(torch.empty(vectors[::-1]).uniform_(-bound, bound)) if vectors[1] else None
        )
        self.scalars = nn.Linear(*scalars, bias=bias)
        bound = gain / scalars[0] ** 0.5
        nn.init.uniform_(self.scalars.weight, -bound, bound)
        if bias:
            nn.init.zeros_(self.scalars.bias)

    def forward(self, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: [..., 4, V], [..., S] -> [..., 4, V'], [..., S']."""
        vectors = v[..., :0] if self.vectors is None else _linear(v, self.vectors)
        return vectors, self.scalars(s)


class PairGLU(nn.Module):
    """Gated linear unit: sigmoid(½ a·b) v with three linear maps v, a, b of vectors, and GELU(t) s with two
    of scalars.

    Args:
        vectors, scalars: channels before and after.
    """

    def __init__(self, vectors: tuple[int, int], scalars: tuple[int, int]) -> None:
        super().__init__()
        self.linear = PairLinear((vectors[0], 3 * vectors[1]), (scalars[0], 2 * scalars[1]))

    def forward(self, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: [..., 4, V], [..., S] -> [..., 4, V'], [..., S']."""
        v, s = self.linear(v, s)
        s, gate = s.chunk(2, dim=-1)
        if v.shape[-1]:
            v, a, b = v.chunk(3, dim=-1)
            v = torch.sigmoid(0.5 * _minkowski(a * b))[..., None, :] * v
        return v, F.gelu(gate, approximate="tanh") * s


class PairAttention(nn.Module):
    """Multi-head attention of vectors and scalars between the particles of each jet, by their joint invariant
    product.

    Queries, keys and values are normalised head by head.

    Args:
        vectors, scalars: V and S, at both ends; a head has V / H and S / H, one and four at least.
        heads: H.
    """

    signs: Tensor

    def __init__(self, vectors: int, scalars: int, heads: int) -> None:
        super().__init__()
        self.heads, self.vectors, self.scalars = heads, max(vectors // heads, 1), max(scalars // heads, 4)
        own = heads * self.vectors, heads * self.scalars
        self.project = PairLinear((vectors, 3 * own[0]), (scalars, 3 * own[1]), bias=False, gain=0.1)
        self.out = PairLinear((own[0], vectors), (own[1], scalars), gain=0.1)
        signs = torch.tensor(METRIC).repeat_interleave(self.vectors)
        self.register_buffer("signs", torch.cat((signs, torch.ones(self.scalars))), persistent=False)

    def forward(
        self, v: Tensor, s: Tensor, where: Rectangle, first_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Shapes: [M, 4, V], [M, S], kept; [B, ...] for the first particle of each jet only."""
        v, s = self.project(v, s)
        m, h = s.shape[0], self.heads
        v, s = (
            v.view(m, 4, 3, h, self.vectors).permute(0, 2, 3, 1, 4),
            s.view(m, 3, h, self.scalars).to(v.dtype),
        )
        qkv = torch.cat((v.flatten(-2), s), dim=-1) * joint_scale(v, s)[..., None]
        with torch.autocast(qkv.device.type, enabled=False):  # the product is indefinite
            attended = attend(qkv, self.signs, where, first_only)
        v, s = attended.split((4 * self.vectors, self.scalars), dim=-1)
        v = v.unflatten(-1, (4, self.vectors)).transpose(1, 2).reshape(attended.shape[0], 4, h * self.vectors)
        out: tuple[Tensor, Tensor] = self.out(v, s.reshape(attended.shape[0], h * self.scalars))
        return out


class PairBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), the MLP a gated linear unit and a linear map.

    Args:
        vectors, scalars: V and S.
        heads: H.
        expansion: hidden channels of the MLP, in units of these.
        dropout: of the results of attention and MLP; of vectors all components together.
        last: make only the scalars of the first particle of each jet.
    """

    def __init__(
        self,
        vectors: int,
        scalars: int,
        heads: int,
        expansion: int,
        dropout: float = 0.0,
        *,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.last, self.dropout = last, dropout
        self.attention_norm, self.mlp_norm = (JointNorm(vectors, scalars) for _ in range(2))
        self.attention = PairAttention(vectors, scalars, heads)
        hidden, further = 0 if last else expansion * vectors, expansion * scalars
        self.glu = PairGLU((vectors, hidden), (scalars, further))
        self.out = PairLinear((hidden, 0 if last else vectors), (further, scalars))
        if last:  # nobody reads the vectors of the last norm
            self.mlp_norm.register_parameter("vectors", None)

    def forward(self, v: Tensor, s: Tensor, where: Rectangle) -> tuple[Tensor, Tensor]:
        """Shapes: [M, 4, V], [M, S], kept; of the last block [B, 4, V] of no meaning and [B, S]."""
        dv, ds = self.attention(*self.attention_norm(v, s), where, self.last)
        if self.last:
            first = where.offsets[:-1]
            v, s = v.index_select(0, first), s.index_select(0, first)
        v, s = v + self._dropped(dv), s + self._dropped(ds)
        if self.last:
            normed = s * (joint_scale(v, s)[:, None] * self.mlp_norm.scalars)
            _, ds = self.out(*self.glu(v[..., :0], normed))
            return v, s + self._dropped(ds)
        dv, ds = self.out(*self.glu(*self.mlp_norm(v, s)))
        return v + self._dropped(dv), s + self._dropped(ds)

    def of_groups(
        self, v: list[Tensor], s: list[Tensor], places: list[Places]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The same for some groups of jets: on a CPU by hand, with the weights' gradients summed on the
        way."""
        if not s or not self._by_hand(v[0], s[0]):
            outputs = [self(x, y, p.where) for x, y, p in zip(v, s, places, strict=True)]
            return [v for v, _ in outputs], [s for _, s in outputs]
        by_component = [
            x.transpose(0, 1).contiguous() for x in v
        ]  # which they are already after a block by hand
        by_component, s = attention_step(
            by_component, s, self._attention_weights, self.attention.heads, places
        )
        by_component, s = mlp_step(by_component, s, self._mlp_weights)
        return [x.transpose(0, 1) for x in by_component], s

    def _by_hand(self, v: Tensor, s: Tensor) -> bool:
        plain = not self.last and not (self.training and self.dropout) and v.dtype == s.dtype
        return plain and kernels.allows("scalar_vector", v)

    @property
    def _attention_weights(self) -> AttentionWeights:
        norm, project, out = self.attention_norm, self.attention.project, self.attention.out
        assert project.vectors is not None
        assert out.vectors is not None
        maps = project.vectors, project.scalars.weight, out.vectors, out.scalars.weight, out.scalars.bias
        return AttentionWeights(norm.vectors, norm.scalars, *maps)

    @property
    def _mlp_weights(self) -> MLPWeights:
        norm, glu, out = self.mlp_norm, self.glu.linear, self.out
        assert glu.vectors is not None
        assert out.vectors is not None
        maps = (
            glu.vectors,
            glu.scalars.weight,
            glu.scalars.bias,
            out.vectors,
            out.scalars.weight,
            out.scalars.bias,
        )
        return MLPWeights(norm.vectors, norm.scalars, *maps)

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0.0:
            return x
        mask = F.dropout(torch.ones_like(x[:, :1] if x.ndim == 3 else x), self.dropout)
        return x * mask


def _minkowski(products: Tensor) -> Tensor:
    """x⁰y⁰ - x¹y¹ - x²y² - x³y³ of products of components. Shapes: [..., 4, V] -> [..., V]."""
    return 2 * products[..., 0, :] - products.sum(-2)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """In the precision of the weights: vectors lose too much in 16 bits."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(weight.dtype), weight)
