"""Blocks on the pairs of some jets, by hand: forward and backward passes that stay in the cache and store no
tensor of pairs.

    x = dropout(gain t + bias),   t' = LeakyReLU(W LeakyReLU(aggregate(x)) + w),

with the fifteen aggregations of `hepml.nn.lorentz.aggregations` and t in the layout of `Halves`. T_ij A +
T_ji B for all pairs is (T_ij + T_ji) (A + B) / 2 ± (T_ij - T_ji) (A - B) / 2, half the multiplications and no
transposed copy. What belongs to particles and jets is left to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.lorentz.aggregations import Aggregate2to2
from hepml.packed.halves import Halves

SLOPE = 0.01  # of LeakyReLU


class Scratch:
    """Memory by name, used again from piece to piece; what is in it lasts until the same name is taken
    again."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uninitialised, of the dtype and device of `like`."""
        size, key = math.prod(shape), (name, like.dtype)
        if key not in self._flat or self._flat[key].numel() < size:
            self._flat[key] = like.new_empty(size)
        return self._flat[key][:size].view(shape)


class Normalised(NamedTuple):
    """x = dropout(gain t + bias) of a piece, and which entries were dropped."""

    x: Tensor
    dropped: Tensor | None


def normalise(t: Tensor, gain: Tensor, bias: Tensor, p: float, seed: int, scratch: Scratch) -> Normalised:
    """Shapes: [R, C], gain and bias [C] times 1 / (1 - p). The same seed drops the same entries."""
    x = torch.addcmul(bias, t, gain, out=scratch.take("x", t.shape, like=gain))
    if p <= 0:
        return Normalised(x, None)
    dropped = drops(x.numel(), p, seed, x.device)
    x.view(-1).index_fill_(0, dropped, 0.0)
    return Normalised(x, dropped)


def drops(entries: int, p: float, seed: int, device: torch.device) -> Tensor:
    """Which of so many entries are dropped, each with probability p: the gaps between them are geometric, so
    few numbers are drawn."""
    generator = torch.Generator(device).manual_seed(seed)
    expected = entries * p
    gaps = torch.empty(int(expected + 8 * expected**0.5) + 32, dtype=torch.int64, device=device)
    positions = gaps.geometric_(p, generator=generator).cumsum(0) - 1
    return positions[: int((positions < entries).sum())]


class BlockWeights(NamedTuple):
    """The weights of a block as they are used, and the sums of their gradients.

    Args:
        weight: [15, C, C'] of the aggregations, a leaf.
        sums, differences: [C, C'] for T_ij ± T_ji.
        message, shift: the linear map of the message.
    """

    aggregate: Aggregate2to2
    whole: Tensor
    weight: Tensor
    sums: Tensor
    differences: Tensor
    message: Tensor
    shift: Tensor

    @classmethod
    def of(cls, aggregate: Aggregate2to2, linear: nn.Linear, low: torch.dtype) -> BlockWeights:
        """In the dtype `low` for pairs."""
        with torch.enable_grad():
            whole = aggregate.weight
        own = whole.detach()
        return cls(
            aggregate,
            whole,
            own.requires_grad_(),
            ((own[0] + own[1]) / 2).detach().to(low),
            ((own[0] - own[1]) / 2).detach().to(low),
            linear.weight.detach().to(low),
            linear.bias.detach().to(low),
        )

    def finish(self, gradients: Gradients) -> None:
        """The gradients of the bases that the weight is made of."""
        bases = [q for q in self.aggregate.bases() if q.requires_grad]
        if bases:
            for basis, gradient in zip(
                bases, torch.autograd.grad(self.whole, bases, gradients.of(self.weight)), strict=True
            ):
                gradients.add(basis, gradient)


class Hidden(NamedTuple):
    """What the backward pass of a block needs of the forward pass."""

    sums: Tensor
    differences: Tensor
    h: Tensor
    of_particles: tuple[Tensor, ...]
    given: tuple[Tensor, ...]


def hidden(w: BlockWeights, x: Tensor, halves: Halves, scratch: Scratch, *, differentiable: bool) -> Hidden:
    """LeakyReLU(aggregate(x)), [M + 2 U, C']."""
    m, u, c, low = halves.nodes, len(halves), x.shape[1], w.sums
    off, up, down = x[m:], x[m : m + u], x[m + u :]
    diagonal = x[:m].clone()
    given = (diagonal, halves.received(off).add_(diagonal), halves.sent(off).add_(diagonal))
    with torch.set_grad_enabled(differentiable):
        if differentiable:
            for g in given:
                g.requires_grad_()
        aggregates = w.aggregate.of_particles(*given, halves.offsets, w.weight)
    receiver, sender, own = (t.detach() for t in aggregates)
    s, d = (scratch.take(name, (u, c), like=low) for name in ("sums", "differences"))
    torch.add(up, down, out=s)
    torch.sub(up, down, out=d)
    p = halves.sums(((receiver + sender) / 2).to(low.dtype)).addmm_(s, w.sums)
    q = halves.differences(((receiver - sender) / 2).to(low.dtype)).addmm_(d, w.differences)
    h = scratch.take("hidden", (len(x), p.shape[1]), like=low)
    h[:m] = own
    torch.add(p, q, out=h[m : m + u])
    torch.sub(p, q, out=h[m + u :])
    return Hidden(s, d, F.leaky_relu_(h, SLOPE), aggregates, given)


def message(w: BlockWeights, h: Tensor, out: Tensor | None = None) -> Tensor:
    """LeakyReLU(W h + w)."""
    return F.leaky_relu_(torch.addmm(w.shift, h, w.message.t(), out=out), SLOPE)


def forward(
    w: BlockWeights,
    t: Tensor,
    gain: Tensor,
    bias: Tensor,
    p: float,
    seed: int,
    halves: Halves,
    scratch: Scratch,
    out: Tensor | None = None,
) -> Tensor:
    """t -> t' of a piece, [M + 2 U, C], which may be written over t."""
    x = normalise(t, gain, bias, p, seed, scratch).x
    return message(w, hidden(w, x, halves, scratch, differentiable=False).h, out)


class Gradients:
    """Sums of gradients over pieces, for each tensor."""

    def __init__(self) -> None:
        self._sums: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # with the tensor itself, whose id is its own while it lives

    def add(self, to: Tensor, gradient: Tensor) -> None:
        known = self._sums.get(id(to))
        self._sums[id(to)] = (to, gradient if known is None else known[1] + gradient)

    def of(self, what: Tensor) -> Tensor | None:
        known = self._sums.get(id(what))
        return None if known is None else known[1]


def backward(
    w: BlockWeights,
    linear: nn.Linear,
    t: Tensor,
    gain: Tensor,
    bias: Tensor,
    p: float,
    seed: int,
    halves: Halves,
    after: Callable[[Tensor], Tensor],
    gradients: Gradients,
    scratch: Scratch,
) -> Tensor:
    """The gradient with respect to gain t + bias, [M + 2 U, C] in scratch memory; those of weights, gain and
    bias are added.

    Args:
        after: from t' to the gradient with respect to it, which may be written upon.
    """
    m, u = halves.nodes, len(halves)
    normed = normalise(t, gain, bias, p, seed, scratch)
    s, d, h, aggregates, given = hidden(w, normed.x, halves, scratch, differentiable=True)
    made_next = message(w, h, scratch.take("next", (len(h), len(w.shift)), like=h))
    g = after(made_next)
    g = torch.ops.aten.leaky_relu_backward.grad_input(g, made_next, SLOPE, True, grad_input=g)
    gradients.add(linear.weight, (g.t() @ h).to(linear.weight.dtype))
    gradients.add(linear.bias, g.sum(0, dtype=gain.dtype))
    y = torch.mm(g, w.message, out=scratch.take("hidden gradient", h.shape, like=h))
    y = torch.ops.aten.leaky_relu_backward.grad_input(y, h, SLOPE, True, grad_input=y)

    up, down = y[m : m + u], y[m + u :]
    ends = (halves.received(y[m:]).to(gain.dtype), halves.sent(y[m:]).to(gain.dtype), y[:m].to(gain.dtype))
    rest = [
        q
        for q in (w.aggregate.scales.alphas, w.aggregate.bias, w.aggregate.diagonal_bias)
        if q is not None and q.requires_grad
    ]
    of_given = torch.autograd.grad(aggregates, (*given, w.weight, *rest), ends)
    g_diagonal, g_rows, g_columns, of_weight = of_given[:4]
    for parameter, gradient in zip(rest, of_given[4:], strict=True):
        gradients.add(parameter, gradient)

    # h holds nothing that is needed any more
    total = torch.add(up, down, out=h[m : m + u])
    change = torch.sub(up, down, out=h[m + u :])
    of_sums, of_differences = (s.t() @ total).to(gain.dtype), (d.t() @ change).to(gain.dtype)
    of_weight[0] += (of_sums + of_differences) / 2
    of_weight[1] += (of_sums - of_differences) / 2
    gradients.add(w.weight, of_weight)
    even = halves.sums(((g_rows + g_columns) / 2).to(s.dtype)).addmm_(total, w.sums.t())
    odd = halves.differences(((g_rows - g_columns) / 2).to(s.dtype)).addmm_(change, w.differences.t())
    x = normed.x
    torch.add(g_diagonal, g_rows, out=x[:m]).add_(g_columns)
    torch.add(even, odd, out=x[m : m + u])
    torch.sub(even, odd, out=x[m + u :])
    if normed.dropped is not None:
        x.view(-1).index_fill_(0, normed.dropped, 0.0)
    return x
