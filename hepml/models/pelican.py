"""PELICAN (arXiv:2211.00454, 2307.16506): permutation-equivariant maps of the matrix of Minkowski products of a jet's particles.

The input is nothing but p_i·p_j, so every output is a Lorentz scalar; the layers alternate networks on each pair's channels with the
fifteen linear maps that respect permutations. Written from the papers' equations. Pairs are real pairs, taken some jets at a time; what is
kept for the backward pass is one tensor of pairs a layer, and the rest is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.nn.lorentz import Pairs, gram_matrix, reference_vectors, with_references
from hepml.nn.lorentz.aggregations import Aggregate1to2, Aggregate2to0, Aggregate2to2
from hepml.nn.norm import PackedBatchNorm
from hepml.representations.dense import to_dense, to_packed

# Numbers of the widest tensor of pairs that is taken at a time.
_NUMBERS = {"cpu": 2**20}
_NUMBERS_ELSEWHERE = 2**28


@dataclass(frozen=True, eq=False)
class Piece:
    """A few jets: their pairs, and the products of their M particles and P pairs, [M + P], and which species each particle is, [M]."""

    pairs: Pairs
    products: Tensor
    species: Tensor


@register(
    "pelican",
    paper="arXiv:2307.16506",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam",)},
    parameters=208_797,
)
class PELICAN(nn.Module):
    """Permutation-equivariant and Lorentz-invariant network of Minkowski products.

    Where the published code activates the outputs, the activation here is before the last map. The default size is its 208k configuration.

    Args:
        outputs: columns of the result.
        hidden: channels of pairs between blocks.
        messages: channels of pairs within blocks, between the network on channels and the aggregation.
        blocks: number of blocks from rank 2 to rank 2.
        scalars: channels that are made of what a particle is (a constituent, or which reference vector), not of products.
        references: names of reference vectors given as further particles (see `hepml.nn.lorentz.REFERENCES`), such as
            `[lightlike_beam]`, which the published network has; none keeps the full Lorentz symmetry.
        normalisation: of sums over particles: `mean`, times a trainable power of their number N / nodes, or `sum`, divided by `nodes`.
        nodes: a typical number of particles.
        dropout: of pairs' channels, and of the jet's.
        recompute: keep one tensor of pairs a layer in training and make the others again, for a third of the memory; or keep all.
    """

    references: Tensor

    def __init__(
        self,
        outputs: int = 2,
        hidden: int = 132,
        messages: int = 78,
        blocks: int = 5,
        scalars: int = 10,
        references: tuple[str, ...] = (),
        normalisation: Literal["mean", "sum"] = "mean",
        nodes: float = 49.0,
        dropout: float = 0.025,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < scalars < hidden:
            raise ConfigError(
                f"pelican: {scalars} scalar channels of {hidden} hidden ones leave none for products",
                mend=f"give 1 to {hidden - 1} scalars",
            )
        self.inputs = Inputs()
        self.hidden, self.recompute = hidden, recompute
        fixed = reference_vectors(references)
        self.register_buffer("references", fixed, persistent=False)
        self.species = 1 + len(fixed)
        self.encoder = ProductEncoder(hidden - scalars)
        self.labels = Aggregate1to2(self.species, scalars, normalisation, nodes)
        self.first = message(hidden, messages)
        self.norms = nn.ModuleList(PackedBatchNorm(messages) for _ in range(blocks + 1))
        self.blocks = nn.ModuleList(
            Block(messages, hidden, dropout, Aggregate2to2(messages, hidden, normalisation, nodes))
            for _ in range(blocks)
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = Aggregate2to0(messages, hidden, normalisation, nodes)
        self.head = nn.Sequential(nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, batch: JetBatch) -> Tensor:
        """Jets -> outputs. Shapes: B jets -> [B, outputs]."""
        dtype = self.readout.bias.dtype
        pieces = self._pieces(batch, dtype)
        if self.training:  # batch norms need the statistics of all pairs before the next layer
            pooled = [self._network(list(pieces))]
        else:
            pooled = [self._network([piece]) for piece in pieces]
        pooled = [rows for rows in pooled if len(rows)]
        return self.head(torch.cat(pooled) if pooled else self.readout.bias.new_zeros((0, self.hidden)))  # type: ignore[no-any-return]

    def _pieces(self, batch: JetBatch, dtype: torch.dtype) -> Iterator[Piece]:
        x, jets, is_reference = with_references(batch.four_momenta, batch.offsets, self.references)
        size = jets.diff().square().cumsum(0) * self.hidden
        share = torch.div(size, _NUMBERS.get(x.device.type, _NUMBERS_ELSEWHERE), rounding_mode="floor")
        cuts = [0, *(torch.nonzero(share.diff() > 0)[:, 0] + 1).tolist(), len(batch)]
        for (first, last), (low, high) in zip(pairwise(cuts), pairwise(jets[cuts].tolist()), strict=True):
            if last > first:
                pairs = Pairs.of(jets[first : last + 1] - low)
                yield self._piece(x[low:high], is_reference[low:high], pairs, dtype)

    def _piece(self, x: Tensor, is_reference: Tensor, pairs: Pairs, dtype: torch.dtype) -> Piece:
        exact = to_dense(is_reference[:, None], pairs.jets, pairs.width, fill=False)[..., 0]
        gram = gram_matrix(to_dense(x, pairs.jets, pairs.width), exact)
        own = to_packed(gram.diagonal(dim1=-2, dim2=-1)[..., None], pairs.jets)[:, 0]
        products = torch.cat((own, gram.flatten()[pairs.in_dense])).to(dtype)
        start = torch.repeat_interleave(pairs.jets[:-1], pairs.jets.diff(), output_size=len(x))
        rank = torch.arange(1, len(x) + 1, device=x.device) - start  # references stand first
        return Piece(pairs, products, torch.where(is_reference, rank, 0))

    def _network(self, pieces: list[Piece]) -> Tensor:
        """Pooled channels of the jets of some pieces, [B, hidden]."""
        edges = [self._made(self._embedded, piece) for piece in pieces]
        for norm, block in zip(self.norms, self.blocks, strict=False):
            gain, bias = shared_normalisation(edges, norm)  # type: ignore[arg-type]
            edges = [self._made(block, t, gain, bias, p.pairs) for t, p in zip(edges, pieces, strict=True)]
        gain, bias = shared_normalisation(edges, self.norms[-1])  # type: ignore[arg-type]
        pooled = [self._made(self._pooled, t, gain, bias, p.pairs) for t, p in zip(edges, pieces, strict=True)]
        return torch.cat(pooled) if pooled else self.readout.bias.new_zeros((0, self.hidden))

    def _made(self, function: Callable[..., Tensor], *arguments: Tensor | Pairs | Piece) -> Tensor:
        if self.training and self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)  # type: ignore[no-any-return]
        return function(*arguments)

    def _embedded(self, piece: Piece) -> Tensor:
        """Messages of the first layer, [M + P, messages]."""
        species = F.one_hot(piece.species, self.species).to(piece.products.dtype)
        labels = F.leaky_relu(self.labels(species, piece.pairs))
        return self.first(torch.cat((self.encoder(piece.products), labels), dim=1))  # type: ignore[no-any-return]

    def _pooled(self, t: Tensor, gain: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
        return self.readout(self.dropout(torch.addcmul(bias, t, gain)), pairs)  # type: ignore[no-any-return]


@register("pelican_small", paper="arXiv:2307.16506", symmetries=("permutation", "lorentz"))
def pelican_small(
    outputs: int = 2,
    hidden: int = 7,
    messages: int = 4,
    blocks: int = 3,
    scalars: int = 3,
    references: tuple[str, ...] = (),
    normalisation: Literal["mean", "sum"] = "mean",
    nodes: float = 49.0,
    dropout: float = 0.0,
    recompute: bool = True,
) -> PELICAN:
    """PELICAN with about a thousand parameters. Arguments as for `PELICAN`."""
    return PELICAN(outputs, hidden, messages, blocks, scalars, references, normalisation, nodes, dropout, recompute)


class ProductEncoder(nn.Module):
    """x -> sign(y) ((1 + |y|)^β - 1) / β of y = w x + b for each channel, with trainable exponents β = α².

    Almost a logarithm where α is small. Shapes: [R] -> [R, channels].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.alphas = nn.Parameter(torch.linspace(0.05, 0.5, channels))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # products span too many orders of magnitude for 16 bits
            y = torch.addcmul(self.bias, x[:, None], self.weight)
            power = self.alphas.square() + 1e-6
            return torch.expm1(power * torch.log1p(y.abs())) / power * y.sign()


class Block(nn.Module):
    """Aggregation of normalised messages, and the next messages: LeakyReLU(W LeakyReLU(aggregate(g t + b)) + w)."""

    def __init__(self, messages: int, hidden: int, dropout: float, aggregate: Aggregate2to2) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.aggregate = aggregate
        self.message = message(hidden, messages)

    def forward(self, t: Tensor, gain: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
        """Shapes: [M + P, messages], the batch norm's gain and bias [messages] -> [M + P, messages]."""
        t = self.aggregate(self.dropout(torch.addcmul(bias, t, gain)), pairs)
        return self.message(F.leaky_relu(t, inplace=True))  # type: ignore[no-any-return]


def message(inputs: int, outputs: int) -> nn.Sequential:
    """The network on a pair's channels."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
    return nn.Sequential(layer, nn.LeakyReLU(inplace=True))


def shared_normalisation(pieces: list[Tensor], norm: PackedBatchNorm) -> tuple[Tensor, Tensor]:
    """Gain and bias of a batch norm over the rows of all pieces; in training from their statistics, which the running ones learn from."""
    rows = [len(piece) for piece in pieces]
    if not norm.training or sum(rows) < 2:
        return norm.gain_and_bias()
    with torch.autocast(pieces[0].device.type, enabled=False):
        dtype = norm.weight.dtype
        some = [torch.var_mean(piece.to(dtype), dim=0, correction=0) for piece in pieces if len(piece)]
        share = torch.tensor([r for r in rows if r], dtype=dtype, device=norm.weight.device)[:, None] / sum(rows)
        variances, means = (torch.stack(values) for values in zip(*some, strict=True))
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        norm.remember(mean.detach(), variance.detach(), sum(rows))
        gain = norm.weight * torch.rsqrt(variance + norm.eps)
        return gain, norm.bias - gain * mean
