"""A network of blocks on pairs in the memory of two tensors of pairs, however many blocks there are.

Batch norms tie all pairs of a batch together, layer by layer. Once their statistics are known, every piece of
the batch is a network of its own, whose tensors can be recomputed from any earlier one. So the backward pass
goes through layers, and in each through the pieces: it keeps the gradient of one layer, in that layer's
place, and makes what it needs below from the products, or from one layer in the middle that was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hepml.nn.across_ranks import gain_and_bias
from hepml.nn.kernels import pelican_blocks as pair_blocks
from hepml.nn.kernels.pelican_blocks import BlockWeights, Gradients, Scratch, normalise
from hepml.nn.lorentz.aggregations import Aggregate2to2
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.halves import Halves


@dataclass(frozen=True, eq=False)
class Piece:
    """A few jets: their pairs, the products of their M particles and U pairs i < j, [M + U], and which
    species each particle is, [M]."""

    halves: Halves
    products: Tensor
    species: Tensor


@dataclass(frozen=True, eq=False)
class PairNetwork:
    """Messages of pairs, then blocks between batch norms, then a pooling: L norms and L - 1 blocks.

    Args:
        embed: messages of the first layer, [M + 2 U, C]; of a piece and the dtype of matrix products.
        norms, blocks: in turns; of a block the aggregation and the linear map of its message.
        pool: from normalised messages to [B, C'].
        embed_weights, pool_weights: the parameters of these two.
        dropout: probability, after each norm.
        keep_all: keep every layer's tensor, for less time.
    """

    embed: Callable[[Piece, torch.dtype], Tensor]
    norms: Sequence[PackedBatchNorm]
    blocks: Sequence[tuple[Aggregate2to2, nn.Linear]]
    pool: Callable[[Tensor, Halves], Tensor]
    embed_weights: list[Tensor]
    pool_weights: list[Tensor]
    dropout: float
    keep_all: bool

    @property
    def channels(self) -> int:
        """C."""
        return self.norms[0].num_features

    @property
    def weights(self) -> list[Tensor]:
        """All parameters."""
        inner = [q for pair in self.blocks for module in pair for q in module.parameters()]
        norms = [q for norm in self.norms for q in norm.parameters()]
        return [*self.embed_weights, *norms, *inner, *self.pool_weights]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, pieces: list[Piece], *, training: bool) -> Tensor:
        """Pooled channels of the jets of all pieces, [B, C']; in training by the statistics of all their
        pairs."""
        device = pieces[0].products.device.type
        dtype = self.norms[0].weight.dtype
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
        seed = int(torch.randint(2**62, ())) if training and self.dropout > 0 else 0
        with torch.autocast(device, enabled=False):
            run = _Run(self, pieces, training, low, seed)
            given = [*(piece.products for piece in pieces), *self.weights]
            if torch.is_grad_enabled() and any(t.requires_grad for t in given):
                out: Tensor = _Pooled.apply(run, *given)
                return out
            return run.forward(keep=False)


@dataclass(eq=False)
class _Level:
    """A batch norm as gain t + bias, times 1 / (1 - p); mean and variance over so many rows, where it learns
    from them."""

    gain: Tensor
    bias: Tensor
    mean: Tensor | None = None
    variance: Tensor | None = None
    rows: int = 0


class _Run:
    """One forward pass and its backward pass. Tensors of pairs are rows of a few large ones, which are
    written over."""

    def __init__(
        self, net: PairNetwork, pieces: list[Piece], training: bool, low: torch.dtype, seed: int
    ) -> None:
        self.net, self.pieces, self.training, self.low, self.seed = net, pieces, training, low, seed
        self.p = net.dropout if training else 0.0
        self.last = len(net.norms) - 1
        self.levels: list[_Level] = []
        self.kept: dict[int, list[Tensor]] = {}

    @torch.no_grad()
    def forward(self, *, keep: bool) -> Tensor:
        """[B, C']; also again, with the statistics of the first time."""
        net, scratch, first_time = self.net, Scratch(), not self.levels
        now = self._tensors()
        wanted = range(self.last) if net.keep_all else ((self.last + 1) // 2,)
        weights: BlockWeights | None = None
        for k in range(self.last + 1):
            moments = []
            for i, t in enumerate(now):
                if weights is None:
                    t.copy_(net.embed(self.pieces[i], self.low))
                else:
                    self._block(weights, k - 1, i, t, scratch, out=t)
                if first_time and self.training and len(t):
                    moments.append(_moments(t, scratch))
            if first_time:
                self.levels.append(self._level(net.norms[k], moments))
            if keep and k in wanted:
                self.kept[k] = self._tensors()
                for known, t in zip(self.kept[k], now, strict=True):
                    known.copy_(t)
            if k < self.last:
                weights = BlockWeights.of(*net.blocks[k], self.low)
        if keep:
            self.kept[self.last] = now
        normed = (self._normed(self.last, i, t, scratch).x for i, t in enumerate(now))
        return torch.cat([net.pool(x, piece.halves) for x, piece in zip(normed, self.pieces, strict=True)])

    def backward(self, g_pooled: Tensor) -> tuple[list[Tensor | None], Gradients]:
        """Gradients with respect to the products of each piece, and to weights."""
        if not self.kept:  # the first backward pass wrote over it
            self.forward(keep=True)
        net, collected, scratch = self.net, Gradients(), Scratch()
        weights = [BlockWeights.of(*block, self.low) for block in net.blocks]
        gradients = self.kept.pop(self.last)
        sums = self._through_pool(g_pooled, gradients, collected, scratch)
        for k in range(self.last - 1, -1, -1):
            after = self._through(k + 1, sums, collected)
            sums = _Sums()
            for i, given in enumerate(gradients):
                t = self._tensor(k, i, weights, scratch)
                g = self._through_block(
                    weights[k], k, i, t, partial(after, scratch, given), collected, scratch
                )
                sums.add(g, t)
                given.copy_(g)
            weights.pop().finish(collected)
            self.kept.pop(k, None)
        after = self._through(0, sums, collected)
        of_products = [
            self._through_embedding(i, partial(after, scratch, given), collected)
            for i, given in enumerate(gradients)
        ]
        return of_products, collected

    def _through_pool(
        self, g_pooled: Tensor, last: list[Tensor], collected: Gradients, scratch: Scratch
    ) -> _Sums:
        """Writes the gradients of the last layer over it."""
        asked, sums = _wanted(self.net.pool_weights), _Sums()
        shares = g_pooled.split([len(piece.halves.offsets) - 1 for piece in self.pieces])
        for i, (piece, t, share) in enumerate(zip(self.pieces, last, shares, strict=True)):
            x, dropped = self._normed(self.last, i, t, scratch)
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                g, *rest = torch.autograd.grad(self.net.pool(x, piece.halves), [x, *asked], share)
            for weight, gradient in zip(asked, rest, strict=True):
                collected.add(weight, gradient)
            if dropped is not None:
                g.view(-1).index_fill_(0, dropped, 0.0)
            sums.add(g, t)
            t.copy_(g)
        return sums

    def _through_block(
        self,
        weights: BlockWeights,
        k: int,
        i: int,
        t: Tensor,
        after: Callable[[Tensor], Tensor],
        collected: Gradients,
        scratch: Scratch,
    ) -> Tensor:
        level, halves, linear = self.levels[k], self.pieces[i].halves, self.net.blocks[k][1]
        norm = level.gain, level.bias, self.p, self._seed(k, i)
        return pair_blocks.backward(weights, linear, t, *norm, halves, after, collected, scratch)

    def _through_embedding(
        self, i: int, after: Callable[[Tensor], Tensor], collected: Gradients
    ) -> Tensor | None:
        piece = self.pieces[i]
        with torch.enable_grad():
            products = piece.products.detach().requires_grad_(piece.products.requires_grad)
            t = self.net.embed(Piece(piece.halves, products, piece.species), self.low)
            asked = _wanted([products, *self.net.embed_weights])
            gradients = torch.autograd.grad(t, asked, after(t.detach())) if asked else ()
        for weight, gradient in zip(asked, gradients, strict=True):
            collected.add(weight, gradient)
        return collected.of(products)

    def _tensors(self) -> list[Tensor]:
        """A tensor of pairs of the whole batch, as its pieces."""
        rows = [piece.halves.rows for piece in self.pieces]
        return list(
            torch.empty(
                (sum(rows), self.net.channels), dtype=self.low, device=self.pieces[0].products.device
            ).split(rows)
        )

    def _block(
        self, weights: BlockWeights, k: int, i: int, t: Tensor, scratch: Scratch, out: Tensor | None = None
    ) -> Tensor:
        level = self.levels[k]
        halves, seed = self.pieces[i].halves, self._seed(k, i)
        return pair_blocks.forward(weights, t, level.gain, level.bias, self.p, seed, halves, scratch, out)

    def _normed(self, k: int, i: int, t: Tensor, scratch: Scratch) -> pair_blocks.Normalised:
        return normalise(t, self.levels[k].gain, self.levels[k].bias, self.p, self._seed(k, i), scratch)

    def _seed(self, k: int, i: int) -> int:
        return self.seed + k * len(self.pieces) + i

    @torch.no_grad()
    def _tensor(self, k: int, i: int, weights: list[BlockWeights], scratch: Scratch) -> Tensor:
        """t_k of a piece, recomputed from the nearest that is known."""
        if k in self.kept:
            return self.kept[k][i]
        below = max((j for j in self.kept if j < k), default=None)
        t = self.net.embed(self.pieces[i], self.low) if below is None else self.kept[below][i]
        out = scratch.take("recomputed", t.shape, like=t) if below is not None else t
        for j in range(below or 0, k):
            t = self._block(weights[j], j, i, t, scratch, out=out)
        return t

    def _level(self, norm: PackedBatchNorm, moments: list[tuple[int, Tensor, Tensor]]) -> _Level:
        rows = sum(n for n, _, _ in moments)
        scale = 1 / (1 - self.p)
        if rows < 2:  # of evaluation too
            gain, bias = norm.gain_and_bias()
            return _Level(scale * gain, scale * bias)
        mean = sum(mean * (n / rows) for n, mean, _ in moments)
        assert isinstance(mean, Tensor)
        variance = sum((v + (m - mean).square()) * (n / rows) for n, m, v in moments)
        assert isinstance(variance, Tensor)
        norm.remember(mean, variance, rows)
        gain, bias = gain_and_bias(scale * norm.weight, scale * norm.bias, mean, variance, norm.eps)
        return _Level(gain, bias, mean, variance, rows)

    def _through(
        self, k: int, sums: _Sums, collected: Gradients
    ) -> Callable[[Scratch, Tensor, Tensor], Tensor]:
        """The backward pass of a norm: from the gradient with respect to its result, and t, to that with
        respect to t."""
        norm, level, scale = self.net.norms[k], self.levels[k], 1 / (1 - self.p)
        with torch.enable_grad():
            asked = [*_wanted([norm.weight, norm.bias])]
            if level.mean is None or level.variance is None:
                gain, bias = norm.gain_and_bias()
                mean = variance = None
            else:
                mean, variance = level.mean.clone().requires_grad_(), level.variance.clone().requires_grad_()
                gain, bias = gain_and_bias(norm.weight, norm.bias, mean, variance, norm.eps)
                asked += [mean, variance]
            gradients = (
                torch.autograd.grad((gain, bias), asked, (scale * sums.gain, scale * sums.bias))
                if asked
                else ()
            )
        own = dict(zip(map(id, asked), gradients, strict=True))
        for weight in (norm.weight, norm.bias):
            if id(weight) in own:
                collected.add(weight, own[id(weight)])
        slope = shift = None
        if mean is not None and level.mean is not None:
            slope = own[id(variance)] * (2 / level.rows)
            shift = own[id(mean)] / level.rows - slope * level.mean

        def through(scratch: Scratch, given: Tensor, t: Tensor) -> Tensor:
            g = torch.mul(given, level.gain, out=scratch.take("through", t.shape, like=level.gain))
            if slope is not None and shift is not None:
                g.addcmul_(t, slope).add_(shift)
            return g.to(self.low)

        return through


class _Sums:
    """sum of g t and of g over rows: the gradients with respect to gain and bias."""

    gain: Tensor
    bias: Tensor

    def __init__(self) -> None:
        self.first = True

    def add(self, g: Tensor, t: Tensor) -> None:
        gain, bias = (g * t).sum(0), g.sum(0)
        self.gain, self.bias = (gain, bias) if self.first else (self.gain + gain, self.bias + bias)
        self.first = False


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: _Run, *given: Tensor) -> Tensor:
        ctx.run = run
        ctx.save_for_backward(*given)
        return run.forward(keep=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        run, given = ctx.run, ctx.saved_tensors  # which complains of weights that have changed since
        with torch.autocast(gradients[0].device.type, enabled=False):
            of_products, collected = run.backward(gradients[0])
        weights = run.net.weights
        assert len(given) == len(of_products) + len(weights)
        return (None, *of_products, *(collected.of(w) for w in weights))


def _wanted(tensors: list[Tensor]) -> list[Tensor]:
    return [t for t in tensors if t.requires_grad]


def _moments(t: Tensor, scratch: Scratch) -> tuple[int, Tensor, Tensor]:
    """Rows, mean and biased variance."""
    dtype = torch.promote_types(t.dtype, torch.float32)
    rows = len(t)
    mean = t.sum(0, dtype=dtype) / rows
    away = torch.sub(t, mean, out=scratch.take("x", t.shape, like=mean))
    return rows, mean, away.square_().sum(0) / rows
