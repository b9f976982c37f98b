"""LorentzNet (arXiv:2201.08187): messages on the complete graph of a jet's particles, weighted by Minkowski
products alone.

Written from the paper's equations 3.2 to 3.7. Scalars h_i and four-vectors x_i of the particles are updated
together; all that the network reads of the vectors are the products ||x_i - x_j||² and <x_i, x_j>, so its
output is a Lorentz scalar. Reference vectors (the beam) break that on request, by name. Where the published
network averages over the padding of its batch, the average here is over a fixed number of nodes, so that a
jet's score never depends on its neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn import kernels
from hepml.nn.kernels.lorentznet_messages import Maps, messages, messages_in_pieces
from hepml.nn.lorentz import (
    ComponentVectors,
    GramVectors,
    Pairs,
    Vectors,
    reference_vectors,
    root,
    signed_log,
    with_references,
)
from hepml.nn.lorentz.statistics import normalised
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.rectangular import counts_of, jets_of
from hepml.packed.segments import segment_sum


@register(
    "lorentznet",
    paper="arXiv:2201.08187",
    symmetries=("permutation", "lorentz"),
    published={"references": ("beam",)},
    parameters=224_072,
)
class LorentzNet(Tagger):
    """Lorentz group equivariant message passing on scalars and four-vectors.

    Args:
        outputs: columns of the result.
        n_hidden: width of the scalars.
        n_blocks: number of Lorentz group equivariant blocks.
        references: names of reference vectors given as further particles (see `hepml.nn.lorentz.REFERENCES`),
            such as `[beam]`, which the published network has; none keeps the full Lorentz symmetry.
        c: step of the vector update.
        dropout: in the decoder, between its two maps.
        nodes: the sum over particles is divided by this fixed number; None takes each jet's own number of
            nodes.
        vectors: `gram` carries the Lorentz products of the vectors, which keeps the symmetry to the rounding
            of the input; `components` carries the vectors with the arithmetic of the published network, for
            its weights.
        features: constituent features given as scalars in place of the masses, such as `identity` (one-hot,
            as published for quark and gluon jets). Those that change under a boost break the symmetry.
        update_limit: with `components`, bound on each component of a vector update in GeV (published: 100).
            It depends on the frame, so it breaks the symmetry where it acts; None leaves it out.
    """

    references: Tensor

    def __init__(
        self,
        outputs: int = 2,
        n_hidden: int = 72,
        n_blocks: int = 6,
        references: tuple[str, ...] = (),
        c: float = 5e-3,
        dropout: float = 0.2,
        nodes: int | None = 202,
        vectors: Literal["gram", "components"] = "gram",
        update_limit: float | None = None,
        features: str | Sequence[str] = (),
    ) -> None:
        super().__init__()
        if update_limit is not None and vectors != "components":
            raise ConfigError(
                "lorentznet: update_limit bounds components, which vectors: gram does not have",
                mend="leave update_limit out, or set vectors: components",
            )
        self.features = feature_table.resolve(features)
        self.inputs = Inputs(self.features)
        self.nodes, self.vectors, self.update_limit = nodes, vectors, update_limit
        fixed = reference_vectors(references)
        self.register_buffer("references", fixed, persistent=False)
        n_scalars = 2 if len(fixed) else 1
        if self.features:
            if len(fixed):
                raise ConfigError(
                    "lorentznet: reference vectors have no features", mend="leave references or features out"
                )
            n_scalars = len(self.features)
        self.embedding = nn.Linear(n_scalars, n_hidden)
        self.blocks = nn.ModuleList(
            LorentzBlock(n_hidden, n_scalars, c, last=i == n_blocks - 1) for i in range(n_blocks)
        )
        self.head = nn.Sequential(
            nn.Linear(n_hidden, n_hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(n_hidden, outputs)
        )

    def forward(self, batch: JetBatch) -> Tensor:
        """Jets -> outputs. Shapes: B jets -> [B, outputs]."""
        dtype = self.embedding.weight.dtype
        x, offsets, is_reference = with_references(batch.four_momenta, batch.offsets, self.references)
        largest = batch.sizes[0] + len(self.references)
        pairs = Pairs.of(offsets, x.shape[0], self._pairs_of(batch), largest)
        vectors = self._vectors(x, pairs, is_reference)
        m = signed_log(root(vectors.mass_squared().abs()))
        scalars = torch.stack((m * ~is_reference, m * is_reference), dim=-1)[
            :, : self.embedding.in_features
        ].to(dtype)
        if self.features:
            scalars = batch.select(self.features).to(dtype)
        h = self.embedding(scalars)
        for block in self.blocks:
            h, vectors = block(h, vectors, scalars, pairs)
        pooled = segment_sum(h, offsets)
        logits: Tensor = self.head(pooled / (self.nodes or counts_of(offsets).clamp_min(1)[:, None]))
        return logits

    def _pairs_of(self, batch: JetBatch) -> int:
        """How many ordered pairs the nodes of these jets have, the reference vectors among them."""
        extra, rows = len(self.references), batch.four_momenta.shape[0]
        jets = jets_of(batch.offsets)
        return batch.sizes[1] + (2 * extra - 1) * rows + extra * (extra - 1) * jets

    def _vectors(self, x: Tensor, pairs: Pairs, is_reference: Tensor) -> Vectors:
        if self.vectors == "gram":
            return GramVectors.of(x, pairs, self.embedding.weight.dtype, exact=is_reference)
        return ComponentVectors(x, pairs, self.update_limit)


class LorentzBlock(nn.Module):
    """One Lorentz group equivariant block, equations 3.3 to 3.6 of arXiv:2201.08187.

    m_ij = phi_e(h_i, h_j, psi(||x_i - x_j||²), psi(<x_i, x_j>)),  gated by phi_m(m_ij)
    x_i <- x_i + c mean_j phi_x(m_ij) (x_i - x_j)
    h_i <- h_i + phi_h(h_i, sum_j phi_m(m_ij) m_ij, scalars_i)
    """

    def __init__(self, width: int, n_scalars: int, c: float, *, last: bool) -> None:
        super().__init__()
        self.c = c
        self.phi_e = nn.Sequential(
            nn.Linear(2 * width + 2, width, bias=False),
            PackedBatchNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.phi_m = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())
        self.phi_h = nn.Sequential(
            nn.Linear(2 * width + n_scalars, width),
            PackedBatchNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        self.phi_x: nn.Sequential | None = None  # the last block's vectors are read by nobody
        if not last:
            out = nn.Linear(width, 1, bias=False)
            nn.init.xavier_uniform_(out.weight, gain=1e-3)  # vectors move little at the start of a training
            self.phi_x = nn.Sequential(nn.Linear(width, width), nn.ReLU(), out)

    def forward(self, h: Tensor, vectors: Vectors, scalars: Tensor, pairs: Pairs) -> tuple[Tensor, Vectors]:
        """Shapes: h [ΣM, width], scalars [ΣM, S] -> h, vectors."""
        # The first map of phi_e splits into one map a node for each end and two columns for the
        # products: no [P, 146] is ever made. Its batch norm is folded into these.
        s = signed_log(vectors.products()).to(h.dtype)
        first: Tensor = self.phi_e[0].weight  # type: ignore[assignment]
        own, other, products = first.split((h.shape[1], h.shape[1], 2), dim=1)
        a, b, products = normalised(h @ own.T, h @ other.T, s, products, pairs, self.phi_e[1])  # type: ignore[arg-type]
        in_pieces = kernels.allows("lorentznet_messages", h, autocast=True)
        total, weights = (messages_in_pieces if in_pieces else messages)(a, b, s, self._maps(products), pairs)
        if weights is not None:
            vectors = vectors.moved(weights, self.c)
        return h + self.phi_h(torch.cat((h, total, scalars), dim=-1)), vectors

    def _maps(self, products: Tensor) -> Maps:
        hidden, gate = self.phi_e[3], self.phi_m[0]
        maps = Maps(products, hidden.weight, hidden.bias, gate.weight, gate.bias)  # type: ignore[arg-type]
        if self.phi_x is None:
            return maps
        position, out = self.phi_x[0], self.phi_x[2]
        return maps._replace(position=position.weight, position_shift=position.bias, position_out=out.weight)  # type: ignore[arg-type]
