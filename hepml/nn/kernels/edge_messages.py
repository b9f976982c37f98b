"""The messages of an EdgeConv block in training on a CPU, forward and backward, in pieces that fit the cache.

What it computes is written in `hepml.nn.edgeconv.EdgeConv.messages`; this file computes the same faster, for
a processor whose memory is slow against its matrix unit:

- Edges are taken a megabyte at a time. A piece is gathered, normalised, multiplied and summed while it is
  in the second-level cache; only the results of matrix products travel to memory. Their buffers are kept
  from step to step.
- The first layer is y_ij = a_i + b_j. Its batch statistics, its normalisation and the sums that its
  backward pass needs are all taken over constituents, k times fewer than edges: sum_ij y^2 = k sum_i a^2
  + sum_j d_j b^2 + 2 sum_i a_i sum_j b_j, d_j being the in-degree.
- Normalised layers are recomputed in the backward pass (two elementwise passes), not stored.
- The backward pass of a batch norm needs sum g and sum g z over all edges, with g the gradient at z =
  gamma y^ + beta after the ReLU. For h = ReLU(z) multiplied by W, sum g z = sum_o W_oc (dL/dW)_oc, which
  is there already; for the last layer it follows from the mean over neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.nn.across_ranks import gain_and_bias
from hepml.nn.kernels.buffers import Buffers

# Bytes of a piece of edges, for each thread.
_PIECE = 1 << 20
# A batch norm scale is held this far from zero, since its own gradient is a quotient by it.
_SMALLEST_SCALE = 1e-6


def edge_messages(
    a: Tensor,
    b: Tensor,
    neighbours: Tensor,
    weights: Sequence[Tensor],
    norms: Sequence[tuple[Tensor, Tensor]],
    eps: float,
    fixed: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """mean_{j in N(i)} h(a_i + b_j) with h = batch norm, ReLU, (linear map, batch norm, ReLU) for each
    weight.

    Args:
        a, b: [M, C1] the first linear map at the constituent itself and at a neighbour, float32 or float64.
        neighbours: [M, k] rows of b; M stands for an absent neighbour, b = 0.
        weights: [C2, C1], [C3, C2], ...; at least one.
        norms: (scale, shift) of the batch norm of each layer, one more than `weights`.
        eps: of the batch norms.
        fixed: (mean, variance) of each batch norm that is held fixed (fine-tuning); None takes those of this
            batch.

    Returns:
        [M, C] in the dtype of a, and the (mean, biased variance) that each norm used, over edges unless they
        are fixed. Under autocast the matrix products and what is stored between them are in the autocast
        dtype; statistics and sums stay in that of a.
    """
    compute = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else a.dtype
    with torch.autocast("cpu", enabled=False):
        flat = [p for pair in norms for p in pair]
        out, *statistics = _EdgeMessages.apply(
            a, b, neighbours, eps, fixed, compute, len(weights), *weights, *flat
        )
    return out, list(zip(statistics[0::2], statistics[1::2], strict=True))


_BUFFERS = Buffers()


class _EdgeMessages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        neighbours: Tensor,
        eps: float,
        fixed: Sequence[tuple[Tensor, Tensor]] | None,
        compute: torch.dtype,
        layers: int,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        weights, scales, shifts = parameters[:layers], parameters[layers::2], parameters[layers + 1 :: 2]
        scales = tuple(torch.where(s.abs() < _SMALLEST_SCALE, _SMALLEST_SCALE, s) for s in scales)
        m, k = neighbours.shape
        near = neighbours.flatten()
        degree = torch.bincount(near, minlength=m + 1)
        mean, variance = fixed[0] if fixed else _first_statistics(a, b, neighbours, degree)
        norms = [_Norm(mean, variance, scales[0], shifts[0], eps, fixed is not None)]
        own, other = _first_nodes(a, b, norms[0], compute)
        step = max(
            1,
            _PIECE
            * torch.get_num_threads()
            // (k * compute.itemsize * max(len(w) for w in parameters[layers:])),
        )
        kept: list[Tensor] = []
        for layer, weight in enumerate(weights):
            rows, turned = len(weight), weight.to(compute).t()
            y = _BUFFERS.take(m * k, rows, compute)
            total, squares = a.new_zeros((2, rows), dtype=torch.float64)
            h = torch.empty((step * k, weight.shape[1]), dtype=compute)
            wide = torch.empty((step * k, rows), dtype=a.dtype)
            for start in range(0, m, step):
                stop = min(start + step, m)
                piece = slice(start * k, stop * k)
                if layer == 0:
                    x = _first_layer(own[start:stop], other, near[piece], h)
                else:
                    x = _relu_(norms[layer].apply(kept[-1][piece], h))
                products = torch.mm(x, turned, out=y[piece])
                if fixed:
                    continue
                exact = wide[: len(products)].copy_(products) if compute != a.dtype else products
                total += exact.sum(0)
                squares += torch.mul(exact, exact, out=wide[: len(products)]).sum(0)
            if fixed:
                mean, variance = fixed[layer + 1]
            else:
                mean = total / (m * k)
                variance = (squares / (m * k) - mean**2).clamp_min_(0)
            mean, variance = mean.to(a.dtype), variance.to(a.dtype)
            norms.append(_Norm(mean, variance, scales[layer + 1], shifts[layer + 1], eps, fixed is not None))
            kept.append(y)
        out, active = _last_layer(kept[-1], norms[-1], k, step, a.dtype)
        ctx.save_for_backward(a, b, neighbours, degree, out, *weights)
        ctx.norms, ctx.kept, ctx.active, ctx.own, ctx.other = norms, kept, active, own, other
        ctx.step, ctx.compute = step, compute
        statistics = [s for norm in norms for s in (norm.mean, norm.variance)]
        ctx.mark_non_differentiable(*statistics)
        return (out, *statistics)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.kept is None:
            raise RuntimeError(
                "edge_messages keeps its buffers for one backward pass; run the forward pass again"
            )
        a, b, neighbours, degree, out, *weights = ctx.saved_tensors
        norms, kept, step, compute = ctx.norms, ctx.kept, ctx.step, ctx.compute
        ctx.kept = None
        m, k = neighbours.shape
        near, edges, layers = neighbours.flatten(), m * k, len(weights)
        g_out = gradients[0].to(a.dtype)
        g_weights: list[Tensor] = [a.new_zeros(0)] * layers
        g_norms: list[tuple[Tensor, Tensor]] = [(g_out, g_out)] * (layers + 1)
        g_sum, gz_sum = (g_out * ctx.active).sum(0) / k, (g_out * out).sum(0)
        incoming = g_out * norms[-1].gain / k
        g_kept: Tensor | None = None
        g_own = torch.empty_like(a)
        for layer in reversed(range(layers)):
            norm, below, weight, y = norms[layer + 1], norms[layer], weights[layer].to(compute), kept[layer]
            slope, offset, g_norms[layer + 1] = norm.backward(g_sum, gz_sum, edges)
            gain = norm.gain.to(compute)
            if g_kept is not None:
                slope, offset = slope.to(compute), offset.to(compute)
            target = y if y.shape[1] == weight.shape[1] else _BUFFERS.take(edges, weight.shape[1], compute)
            g_sum, g_weight = torch.zeros_like(below.mean), torch.zeros_like(weights[layer])
            g_y = torch.empty((step * k, len(weight)), dtype=compute)
            wide = torch.empty((step * k, len(weight)), dtype=a.dtype)
            h = torch.empty((step * k, weight.shape[1]), dtype=compute)
            g_h = torch.empty_like(h)
            for start in range(0, m, step):
                stop = min(start + step, m)
                piece = slice(start * k, stop * k)
                n = (stop - start) * k
                products = y[piece]
                if (
                    g_kept is None
                ):  # the last layer: every neighbour has the same share of the mean's gradient
                    exact = wide[:n].copy_(products) if compute != a.dtype else products
                    z = torch.addcmul(norm.bias, exact, norm.gain).view(stop - start, k, -1)
                    passed = torch.ops.aten.threshold_backward(incoming[start:stop, None].expand_as(z), z, 0)
                    g = torch.addcmul(offset, exact, slope, out=wide[:n]).add_(passed.view(n, -1))
                    g = g_y[:n].copy_(g) if compute != a.dtype else g
                else:
                    g = torch.addcmul(offset, products, slope, out=g_y[:n]).addcmul_(g_kept[piece], gain)
                if layer == 0:
                    x = _first_layer(ctx.own[start:stop], ctx.other, near[piece], h)
                else:
                    x = _relu_(below.apply(kept[layer - 1][piece], h))
                if compute == weights[layer].dtype:
                    g_weight.addmm_(g.t(), x)
                else:
                    g_weight += g.t() @ x
                through = torch.mm(g, weight, out=g_h[:n])
                torch.ops.aten.threshold_backward.grad_input(through, x, 0, grad_input=target[piece])
                if layer == 0:
                    torch.sum(
                        target[piece].view(stop - start, k, -1), 1, dtype=a.dtype, out=g_own[start:stop]
                    )
                else:
                    g_sum += target[piece].sum(0)
            if target is not y:
                _BUFFERS.give(y)
            if g_kept is not None:
                _BUFFERS.give(g_kept)
            gz_sum = (weights[layer] * g_weight).sum(0)
            g_weights[layer], g_kept = g_weight, target
        assert g_kept is not None
        g_a, g_b, g_norms[0] = _first_backward(a, b, neighbours, degree, norms[0], g_own, g_kept, gz_sum)
        _BUFFERS.give(g_kept)
        flat = [g for pair in g_norms for g in pair]
        return (g_a, g_b, None, None, None, None, None, *g_weights, *flat)


class _Norm:
    """One batch norm: z = gain y + bias with gain = scale / sigma, from the statistics of its own batch
    unless they are `fixed`."""

    def __init__(
        self, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, eps: float, fixed: bool = False
    ) -> None:
        self.mean, self.variance, self.scale, self.shift, self.eps = mean, variance, scale, shift, eps
        self.fixed = fixed
        self.gain, self.bias = gain_and_bias(scale, shift, mean, variance, eps)

    def apply(self, y: Tensor, out: Tensor) -> Tensor:
        """z, in the first rows of `out`."""
        out = out[: len(y)]
        if y.dtype == torch.bfloat16:  # one pass with float32 gain and bias
            into = (out, self.mean.new_empty(0), self.mean.new_empty(0))
            torch.native_batch_norm(
                y, self.scale, self.shift, self.mean, self.variance, False, 0.0, self.eps, out=into
            )
            return out
        return torch.addcmul(self.bias, y, self.gain, out=out)

    def backward(
        self, g_sum: Tensor, gz_sum: Tensor, edges: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """From sum g and sum g z: (slope, offset) of dL/dy = gain g + slope y + offset, and the gradients of
        scale and shift."""
        g_scale = (gz_sum - self.shift * g_sum) / self.scale
        if self.fixed:  # the statistics do not depend on y
            return torch.zeros_like(self.gain), torch.zeros_like(self.gain), (g_scale, g_sum)
        slope = -self.gain * torch.rsqrt(self.variance + self.eps) * g_scale / edges
        return slope, -self.gain * g_sum / edges - slope * self.mean, (g_scale, g_sum)


def _first_statistics(a: Tensor, b: Tensor, neighbours: Tensor, degree: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of a_i + b_j over all edges, from sums over constituents."""
    m, k = neighbours.shape
    share = (degree.to(a.dtype) / (m * k))[:, None]
    mean_a, mean_b = a.mean(0), (share[:m] * b).sum(0)
    a0, b0 = a - mean_a, F.pad(b, (0, 0, 0, 1)) - mean_b
    cross = (a0 * F.embedding_bag(neighbours, b0, mode="sum")).sum(0) / (m * k)
    return mean_a + mean_b, a0.square().mean(0) + (share * b0.square()).sum(0) + 2 * cross


def _first_nodes(a: Tensor, b: Tensor, norm: _Norm, compute: torch.dtype) -> tuple[Tensor, Tensor]:
    """The normalised first layer split over constituents: z_ij = own_i + other_j; the last row of `other` is
    the absent neighbour."""
    return torch.addcmul(norm.bias, a, norm.gain).to(compute), F.pad(
        (b * norm.gain).to(compute), (0, 0, 0, 1)
    )


def _first_layer(own: Tensor, other: Tensor, near: Tensor, out: Tensor) -> Tensor:
    h = torch.index_select(other, 0, near, out=out[: len(near)])
    h.view(len(own), -1, h.shape[1]).add_(own[:, None])
    return _relu_(h)


def _relu_(x: Tensor) -> Tensor:
    """ReLU in place. A negative number has its sign bit set whatever its format; torch is five times faster
    on int16 than on bfloat16."""
    if x.dtype == torch.bfloat16:
        x.view(torch.int16).clamp_(min=0)
        return x
    return x.relu_()


def _count_positive_(x: Tensor, out: Tensor) -> None:
    """How many of x [M, k, C] are not zero along k, into `out` [M, C]; x, which is not negative, is
    overwritten."""
    if x.dtype == torch.bfloat16:  # the bits of a positive number are a positive integer
        out.copy_(x.view(torch.int16).clamp_(max=1).sum(1, dtype=torch.int16))
    else:
        torch.sum(x.sign_(), 1, dtype=out.dtype, out=out)


def _last_layer(y: Tensor, norm: _Norm, k: int, step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The mean of ReLU(z) over neighbours, and for how many of them z > 0; both [M, C]."""
    m, width = len(y) // k, y.shape[1]
    out, active = torch.empty((2, m, width), dtype=dtype)
    h = torch.empty((step * k, width), dtype=y.dtype)
    for start in range(0, m, step):
        stop = min(start + step, m)
        x = _relu_(norm.apply(y[start * k : stop * k], h)).view(stop - start, k, width)
        torch.sum(x, 1, dtype=dtype, out=out[start:stop])
        _count_positive_(x, active[start:stop])
    return out.div_(k), active


def _first_backward(
    a: Tensor,
    b: Tensor,
    neighbours: Tensor,
    degree: Tensor,
    norm: _Norm,
    g_own: Tensor,
    g: Tensor,
    gz_sum: Tensor,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Gradients of a and b from those at z_ij: `g_own` summed over j, `g` on edges, which is summed over i
    here."""
    m, k = neighbours.shape
    order = torch.argsort(neighbours.flatten())
    starts = F.pad(degree.cumsum(0), (1, 0))[: m + 1]
    order = order[: int(starts[-1])]  # without the absent
    g_other = F.embedding_bag(order, g, starts, mode="sum", include_last_offset=True).to(a.dtype)
    a_around = F.embedding_bag(order // k, a, starts, mode="sum", include_last_offset=True)
    b_around = F.embedding_bag(neighbours, F.pad(b, (0, 0, 0, 1)), mode="sum")
    slope, offset, g_norm = norm.backward(g_own.sum(0), gz_sum, m * k)
    d = degree[:m, None].to(a.dtype)
    g_a = norm.gain * g_own + slope * (k * a + b_around) + k * offset
    g_b = norm.gain * g_other + slope * (a_around + d * b) + d * offset
    return g_a, g_b, g_norm
