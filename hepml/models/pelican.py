"""PELICAN (arXiv:2211.00454, 2307.16506): permutation-equivariant maps of the matrix of Minkowski products of
a jet's particles.

The input is nothing but p_i·p_j, so every output is a Lorentz scalar; the layers alternate networks on each
pair's channels with the fifteen linear maps that respect permutations. Written from the papers' equations.
Pairs are real pairs, taken some jets at a time; what a training step keeps of them is two tensors, whatever
the depth, and the rest is recomputed (`hepml.nn.kernels.pelican_network`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register, variant
from hepml.models.identity import Tagger
from hepml.nn import kernels
from hepml.nn.kernels.pelican_network import PairNetwork, Piece
from hepml.nn.lorentz import gram_matrix, reference_vectors, with_references
from hepml.nn.lorentz import rectangular_pairs as dense
from hepml.nn.lorentz.aggregations import Aggregate1to2, Aggregate2to0, Aggregate2to2
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.halves import Halves
from hepml.packed.rectangle import to_dense, to_packed
from hepml.packed.rectangular import known_mask, mask_behind

# Numbers of the widest tensor of pairs that is taken at a time.
_NUMBERS = {"cpu": 2**20}
_NUMBERS_ELSEWHERE = 2**28


@register(
    "pelican",
    paper="arXiv:2307.16506",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam",)},
    parameters=208_797,
)
class PELICAN(Tagger):
    """Permutation-equivariant and Lorentz-invariant network of Minkowski products.

    Where the published code activates the outputs, the activation here is before the last map. The default
    size is its 208k configuration.

    Args:
        outputs: columns of the result.
        hidden: channels of pairs between blocks.
        messages: channels of pairs within blocks, between the network on channels and the aggregation.
        blocks: number of blocks from rank 2 to rank 2.
        scalars: channels that are made of what a particle is (a constituent, or which reference vector), not
            of products.
        references: names of reference vectors given as further particles (see `hepml.nn.lorentz.REFERENCES`),
            such as `[lightlike_beam]`, which the published network has; none keeps the full Lorentz symmetry.
        normalisation: of sums over particles: `mean`, times a trainable power of their number N / nodes, or
            `sum`, divided by `nodes`.
        nodes: a typical number of particles.
        dropout: of pairs' channels, and of the jet's.
        recompute: keep two tensors of pairs in training, whatever the depth, and make the others again; or
            keep one a layer, for less time.
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
            Block(messages, hidden, Aggregate2to2(messages, hidden, normalisation, nodes))
            for _ in range(blocks)
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = Aggregate2to0(messages, hidden, normalisation, nodes)
        self.head = nn.Sequential(nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, batch: JetBatch) -> Tensor:
        """Jets -> outputs. Shapes: B jets -> [B, outputs]."""
        logits: Tensor = self.head(self._read_out(batch))
        return logits

    def _read_out(self, batch: JetBatch) -> Tensor:
        """What the head reads of each jet: by the definition, the kernel, or on matrices for an exported
        graph. Shapes: B jets -> [B, hidden]."""
        dtype = self.readout.bias.dtype
        if mask_behind(batch.offsets) is not None:
            return self._in_rectangle(batch, dtype)
        across = self.training and any(
            norm.synchronised for norm in self.norms
        )  # ranks measure layer by layer
        if across or not kernels.allows(
            "pelican_network", batch.four_momenta, accelerator=True, autocast=True
        ):
            return self._pooled(self._whole(batch, dtype))
        pieces = list(self._pieces(batch, dtype))
        network = self._network()
        if not pieces:
            return self.readout.bias.new_zeros((0, self.hidden))
        if self.training:  # batch norms need the statistics of all pairs before the next layer
            pooled: Tensor = network(pieces, training=True)
            return pooled
        return torch.cat([network([piece], training=False) for piece in pieces])

    def _pooled(self, piece: Piece) -> Tensor:
        """The definition: layer by layer, of all pairs at once. Shapes: -> [B, hidden]."""
        halves = piece.halves
        t = self._embedded(piece, piece.products.dtype)
        for norm, block in zip(self.norms[:-1], self.blocks, strict=True):
            t = block(self.dropout(norm(t)), halves)
        out: Tensor = self.readout(self.dropout(self.norms[-1](t)), halves)
        return out

    def _in_rectangle(self, batch: JetBatch, dtype: torch.dtype) -> Tensor:
        """The same for an exported graph, on matrices. Shapes: B jets -> [B, hidden]."""
        x, offsets, is_reference = with_references(batch.four_momenta, batch.offsets, self.references)
        mask = known_mask(offsets)
        exact = is_reference.view(mask.shape)
        products = gram_matrix(x.masked_fill(~mask.flatten()[:, None], 0.0).view(*mask.shape, 4), exact)
        rank = torch.arange(1, mask.shape[1] + 1, device=x.device).where(exact, 0)  # references stand first
        species = (rank[..., None] == torch.arange(self.species, device=x.device)).to(dtype)
        labels = F.leaky_relu(dense.one_to_two(self.labels, species, mask))
        encoded = self.encoder(products.to(dtype).flatten()).unflatten(0, products.shape)
        t = self.first(torch.cat((encoded, labels), dim=-1))
        for norm, block in zip(self.norms[:-1], self.blocks, strict=True):
            t = dense.two_to_two(block.aggregate, dense.normalised(norm, t), mask)  # type: ignore[arg-type]
            t = block.message(F.leaky_relu(t))  # type: ignore[operator]
        return dense.two_to_zero(self.readout, dense.normalised(self.norms[-1], t), mask)  # type: ignore[arg-type]

    def _whole(self, batch: JetBatch, dtype: torch.dtype) -> Piece:
        x, offsets, is_reference = with_references(batch.four_momenta, batch.offsets, self.references)
        (largest, squares), extra, rows = batch.sizes, len(self.references), batch.four_momenta.shape[0]
        total = (squares + (2 * extra - 1) * rows + extra * (extra - 1) * len(batch)) // 2
        return self._piece(x, is_reference, Halves.of(offsets, len(x), total, largest + extra), dtype)

    def _pieces(self, batch: JetBatch, dtype: torch.dtype) -> Iterator[Piece]:
        x, offsets, is_reference = with_references(batch.four_momenta, batch.offsets, self.references)
        size = offsets.diff().square().cumsum(0) * self.hidden
        share = torch.div(size, _NUMBERS.get(x.device.type, _NUMBERS_ELSEWHERE), rounding_mode="floor")
        cuts = [0, *(torch.nonzero(share.diff() > 0)[:, 0] + 1).tolist(), len(batch)]
        for (first, last), (low, high) in zip(pairwise(cuts), pairwise(offsets[cuts].tolist()), strict=True):
            if last > first:
                halves = Halves.of(offsets[first : last + 1] - low)
                yield self._piece(x[low:high], is_reference[low:high], halves, dtype)

    def _piece(self, x: Tensor, is_reference: Tensor, halves: Halves, dtype: torch.dtype) -> Piece:
        offsets, width = halves.offsets, halves.width
        exact = to_dense(is_reference[:, None], offsets, width, fill=False)[..., 0]
        gram = gram_matrix(to_dense(x, offsets, width), exact)
        own = to_packed(gram.diagonal(dim1=-2, dim2=-1)[..., None], offsets, len(x))[:, 0]
        products = torch.cat((own, gram.flatten()[halves.in_dense])).to(dtype)
        start = torch.repeat_interleave(offsets[:-1], offsets.diff(), output_size=len(x))
        rank = torch.arange(1, len(x) + 1, device=x.device) - start  # references stand first
        return Piece(halves, products, torch.where(is_reference, rank, 0))

    def _network(self) -> PairNetwork:
        return PairNetwork(
            self._embedded,
            list(self.norms),  # type: ignore[arg-type]
            [(block.aggregate, block.message[0]) for block in self.blocks],  # type: ignore[misc, index]
            self.readout,
            [q for module in (self.encoder, self.labels, self.first) for q in module.parameters()],
            list(self.readout.parameters()),
            self.dropout.p,
            keep_all=not self.recompute,
        )

    def _embedded(self, piece: Piece, low: torch.dtype) -> Tensor:
        """Messages of the first layer, [M + 2 U, messages]; what is made of products is the same for T_ij and
        T_ji."""
        species = F.one_hot(piece.species, self.species).to(piece.products.dtype)
        labels = F.leaky_relu(self.labels(species, piece.halves)).to(low)
        encoded = self.encoder(piece.products).to(low)
        linear: nn.Linear = self.first[0]  # type: ignore[assignment]
        of_products, of_labels = linear.weight.to(low).split((encoded.shape[1], labels.shape[1]), dim=1)
        t = encoded @ of_products.T
        t = torch.cat((t, t[piece.halves.nodes :]))
        return F.leaky_relu(t + F.linear(labels, of_labels, linear.bias.to(low)))


pelican_small = variant(
    "pelican_small",
    PELICAN,
    "PELICAN with about a thousand parameters.",
    head_scale=0.1,
    hidden=7,
    messages=4,
    blocks=3,
    scalars=3,
    dropout=0.0,
)


class ProductEncoder(nn.Module):
    """x -> sign(y) ((1 + |y|)^β - 1) / β of y = w x + b for each channel, with trainable exponents β = α².

    Almost a logarithm where α is small. Shapes: [R] -> [R, channels].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.alphas = nn.Parameter(torch.linspace(0.05, 0.5, channels))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(
            x.device.type, enabled=False
        ):  # products span too many orders of magnitude for 16 bits
            y = torch.addcmul(self.bias, x[:, None], self.weight)
            power = self.alphas.square() + 1e-6
            return torch.expm1(power * torch.log1p(y.abs())) / power * y.sign()


class Block(nn.Module):
    """Aggregation of normalised messages, and the next messages: LeakyReLU(W LeakyReLU(aggregate(x)) + w)."""

    def __init__(self, messages: int, hidden: int, aggregate: Aggregate2to2) -> None:
        super().__init__()
        self.aggregate = aggregate
        self.message = message(hidden, messages)

    def forward(self, x: Tensor, halves: Halves) -> Tensor:
        """Shapes: [M + 2 U, messages], kept; what `hepml.nn.kernels.pelican_blocks` does by hand."""
        out: Tensor = self.message(F.leaky_relu(self.aggregate(x, halves)))
        return out


def message(inputs: int, outputs: int) -> nn.Sequential:
    """The network on a pair's channels."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
    return nn.Sequential(layer, nn.LeakyReLU(inplace=True))
