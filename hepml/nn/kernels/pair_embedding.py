"""The pair embedding in training on a CPU, forward and backward, in pieces that fit the cache.

What it computes is the plain network of `hepml.nn.pair_embedding.PairEmbedding.embed`; this file computes the
same faster. A batch of a hundred jets has a hundred thousand pairs, and 64 columns of them are more than any
cache holds. Pairs are therefore taken a few thousand at a time, only the results of the linear maps travel to
memory, and what follows from them (norm and GELU) is made again in the backward pass. With z = gain y +
offset the normalised y = W h of a layer and g = dL/dz, the batch norm's

    dL/dy = A g + B y + C,   A = gamma / sigma,   B = -A sum(g (y - mean)) / (T sigma^2),
    C = -A sum(g) / T - B mean

needs two sums over all pairs, which are taken while g is made, so that each layer is one walk over the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hepml.nn.kernels.buffers import Buffers

# Pairs taken at a time: 1 MB of 64 columns in float32.
PIECE = 4096


def pair_network(
    features: Tensor,
    maps: Sequence[tuple[Tensor, Tensor]],
    norms: Sequence[tuple[Tensor, Tensor]],
    eps: float,
    fixed: Sequence[tuple[Tensor, Tensor]] | None,
    last_activation: bool,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Batch norm, then (linear map, batch norm, GELU) for each map.

    Args:
        features: [T, F], T > 1; they get no gradient.
        maps: (weight, bias) of each linear map.
        norms: (scale, shift) of each batch norm, one more than `maps`.
        eps: of the batch norms.
        fixed: (mean, variance) of each batch norm that is held fixed (fine-tuning); None takes those of these
            pairs.
        last_activation: whether the GELU of the last layer is applied.

    Returns:
        [T, C], and the (mean, biased variance) that each norm used. Under autocast all of it stays in the
        dtype of the features.
    """
    flat = [p for pair in (*maps, *norms) for p in pair]
    with torch.autocast("cpu", enabled=False):
        out, *statistics = _PairNetwork.apply(features, eps, fixed, last_activation, len(maps), *flat)
    return out, list(zip(statistics[0::2], statistics[1::2], strict=True))


_BUFFERS = Buffers()


@dataclass
class _Norm:
    """A batch norm with its statistics: z = gain y + offset."""

    mean: Tensor
    variance: Tensor
    gamma: Tensor
    beta: Tensor
    eps: float

    def __post_init__(self) -> None:
        self.inverse = torch.rsqrt(self.variance + self.eps)
        self.gain = self.gamma * self.inverse
        self.offset = self.beta - self.gain * self.mean

    def gradients(self, total: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
        """dL/dgamma and dL/dbeta from sum g and sum g y."""
        return self.inverse * (product - self.mean * total), total

    def backward(
        self, total: Tensor, product: Tensor, rows: int, fixed: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A, B and C of dL/dy = A g + B y + C."""
        if fixed:
            return self.gain, torch.zeros_like(self.gain), torch.zeros_like(self.gain)
        b = -self.gain * self.inverse * self.gradients(total, product)[0] / rows
        return self.gain, b, -self.gain * total / rows - b * self.mean


class _PairNetwork(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        eps: float,
        fixed: Sequence[tuple[Tensor, Tensor]] | None,
        last_activation: bool,
        layers: int,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        weights, biases = parameters[0 : 2 * layers : 2], parameters[1 : 2 * layers : 2]
        gammas, betas = parameters[2 * layers :: 2], parameters[2 * layers + 1 :: 2]
        rows = len(features)
        variance, mean = torch.var_mean(features, dim=0, correction=0) if fixed is None else fixed[0][::-1]
        statistics = [mean, variance]
        first = (features - mean) * torch.rsqrt(variance + eps)
        norms: list[_Norm] = []
        kept: list[Tensor] = []
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            # What is kept is W h alone; constants (the bias, and the first norm's shift) only move the mean.
            constant = bias if layer else bias + weight @ betas[0]
            turned = (weight if layer else weight * gammas[0]).t().contiguous()
            y = _BUFFERS.take(rows, len(weight), features.dtype)
            sums = features.new_zeros((2, len(weight)), dtype=torch.float64)
            z, h = features.new_empty((2, PIECE, weight.shape[1]))
            square = features.new_empty((PIECE, len(weight)))
            for start in range(0, rows, PIECE):
                piece = slice(start, min(start + PIECE, rows))
                x = _activated(kept[-1][piece], norms[-1], z, h)[1] if layer else first[piece]
                made = torch.mm(x, turned, out=y[piece])
                if fixed is None:
                    sums[0] += made.sum(0)
                    sums[1] += torch.mul(made, made, out=square[: len(made)]).sum(0)
            if fixed is None:
                average = sums[0] / rows
                variance = (sums[1] / rows - average**2).clamp_min_(0).to(y.dtype)
                mean = average.to(y.dtype) + constant
            else:
                mean, variance = fixed[layer + 1]
            norms.append(_Norm(mean - constant, variance, gammas[layer + 1], betas[layer + 1], eps))
            kept.append(y)
            statistics += [mean, variance]
        out = torch.addcmul(norms[-1].offset, kept[-1], norms[-1].gain)
        if last_activation:
            out = torch.ops.aten.gelu(out)
        ctx.save_for_backward(first, gammas[0], betas[0], *weights)
        ctx.kept, ctx.norms, ctx.fixed, ctx.last_activation = kept, norms, fixed is not None, last_activation
        ctx.mark_non_differentiable(*statistics)
        return (out, *statistics)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        first, gamma, beta, *weights = ctx.saved_tensors
        kept, norms, ctx.kept = ctx.kept, ctx.norms, None
        rows, layers, g = len(first), len(weights), gradients[0].contiguous()
        if ctx.last_activation:
            g = torch.ops.aten.gelu_backward(g, torch.addcmul(norms[-1].offset, kept[-1], norms[-1].gain))
        total, product = g.sum(0), (g * kept[-1]).sum(0)
        of_maps: list[Tensor] = []
        of_norms: list[Tensor] = []
        for layer in reversed(range(layers)):
            norm, weight, y = norms[layer], weights[layer], kept[layer]
            of_norms = [*norm.gradients(total, product), *of_norms]
            a, b, c = norm.backward(total, product, rows, ctx.fixed)
            of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight[:, 0])
            dy = y.new_empty((PIECE, len(weight)))
            if layer:
                source = kept[layer - 1]
                reused = layer + 1 < layers and g.shape == source.shape  # the first g is not ours
                below = g if reused else _BUFFERS.take(source.shape[0], source.shape[1], g.dtype)
                sums = below.new_zeros((2, below.shape[1]), dtype=torch.float64)
                z, h, dh = below.new_empty((3, PIECE, below.shape[1]))
            for start in range(0, rows, PIECE):
                piece = slice(start, min(start + PIECE, rows))
                size = piece.stop - start
                d = torch.addcmul(c, g[piece], a, out=dy[:size])
                if ctx.fixed:
                    of_bias += d.sum(0)
                else:
                    d.addcmul_(y[piece], b)
                if not layer:
                    of_weight.addmm_(d.t(), first[piece])
                    continue
                before, after = _activated(source[piece], norms[layer - 1], z, h)
                of_weight.addmm_(d.t(), after)
                passed = torch.mm(d, weight, out=dh[:size])
                made = torch.ops.aten.gelu_backward.grad_input(passed, before, grad_input=below[piece])
                sums[0] += made.sum(0)
                sums[1] += torch.mul(made, source[piece], out=passed).sum(0)
            if not layer:
                of_norms = [(weight * of_weight).sum(0), of_bias @ weight, *of_norms]
                of_weight = of_weight * gamma + of_bias[:, None] * beta
            of_maps = [of_weight, of_bias, *of_maps]
            if layer:
                g, (total, product) = below, sums.to(g.dtype)
        for buffer in (*kept, *([g] if layers > 1 else [])):
            _BUFFERS.give(buffer)
        return None, None, None, None, None, *of_maps, *of_norms


def _activated(y: Tensor, norm: _Norm, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """gain y + offset and its GELU, in the buffers z and h."""
    before = torch.addcmul(norm.offset, y, norm.gain, out=z[: len(y)])
    return before, torch.ops.aten.gelu.out(before, out=h[: len(y)])
