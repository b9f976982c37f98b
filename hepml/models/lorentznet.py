"""LorentzNet (arXiv:2201.08187): messages on the complete graph of a jet's particles, weighted by Minkowski products alone.

Written from the paper's equations 3.2 to 3.7. Scalars h_i and four-vectors x_i of the particles are updated together; all that the
network reads of the vectors are the products ||x_i - x_j||² and <x_i, x_j>, so its output is a Lorentz scalar. Reference vectors
(the beam) break that on request, by name. Where the published network averages over the padding of its batch, the average here is over
a fixed number of nodes, so that a jet's score never depends on its neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.nn.lorentz import Pairs, plain_product, reference_vectors, signed_log


@register(
    "lorentznet",
    paper="arXiv:2201.08187",
    symmetries=("permutation", "lorentz"),
    published={"references": ("beam",)},
    parameters=224_072,
)
class LorentzNet(nn.Module):
    """Lorentz group equivariant message passing on scalars and four-vectors.

    Args:
        outputs: columns of the result.
        n_hidden: width of the scalars.
        n_blocks: number of Lorentz group equivariant blocks.
        references: names of reference vectors given as further particles (see `hepml.nn.lorentz.REFERENCES`), such as `[beam]`, which
            the published network has; none keeps the full Lorentz symmetry.
        c: step of the vector update.
        dropout: in the decoder, between its two maps.
        nodes: the sum over particles is divided by this fixed number; None takes each jet's own number of nodes.
        update_limit: bound on each component of a vector update in GeV, as the published network has it (100). It is frame-dependent, so it
            breaks the symmetry where it acts; None leaves it out.
    """

    def __init__(
        self,
        outputs: int = 2,
        n_hidden: int = 72,
        n_blocks: int = 6,
        references: Sequence[str] = (),
        c: float = 5e-3,
        dropout: float = 0.2,
        nodes: int | None = 202,
        update_limit: float | None = None,
    ) -> None:
        super().__init__()
        self.inputs = Inputs()
        self.nodes = nodes
        vectors = reference_vectors(references)
        self.register_buffer("references", vectors, persistent=False)
        n_scalars = 2 if len(vectors) else 1
        self.embedding = nn.Linear(n_scalars, n_hidden)
        self.blocks = nn.ModuleList(
            LorentzBlock(n_hidden, n_scalars, c, update_limit, last=i == n_blocks - 1) for i in range(n_blocks)
        )
        self.head = nn.Sequential(
            nn.Linear(n_hidden, n_hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(n_hidden, outputs)
        )

    def forward(self, batch: JetBatch) -> Tensor:
        """Jets -> outputs. Shapes: B jets -> [B, outputs]."""
        x, offsets, is_reference = self._nodes(batch)
        m = signed_log(plain_product(x, x).abs().sqrt())
        scalars = torch.stack((m * ~is_reference, m * is_reference), dim=-1)[:, : self.embedding.in_features]
        scalars = scalars.to(self.embedding.weight.dtype)
        h = self.embedding(scalars)
        pairs = Pairs.of(offsets)
        for block in self.blocks:
            h, x = block(h, x, scalars, pairs)
        counts = offsets.diff()
        jet_of = torch.repeat_interleave(torch.arange(len(batch), device=h.device), counts, output_size=len(h))
        pooled = h.new_zeros((len(batch), h.shape[1])).index_add_(0, jet_of, h)
        return self.head(pooled / (self.nodes or counts.clamp_min(1)[:, None]))

    def _nodes(self, batch: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Four-vectors [ΣM, 4] of each jet's reference vectors and constituents, offsets [B + 1], and which are reference vectors [ΣM]."""
        p, jets, extra = batch.four_momenta, len(batch), len(self.references)
        if not extra:
            return p, batch.offsets, torch.zeros(len(p), dtype=torch.bool, device=p.device)
        offsets = batch.offsets + extra * torch.arange(jets + 1, device=p.device)
        x = p.new_empty((len(p) + extra * jets, 4))
        at = (offsets[:-1, None] + torch.arange(extra, device=p.device)).flatten()
        x[at] = self.references.to(p).repeat(jets, 1)
        is_reference = torch.zeros(len(x), dtype=torch.bool, device=p.device)
        is_reference[at] = True
        x[~is_reference] = p
        return x, offsets, is_reference


class LorentzBlock(nn.Module):
    """One Lorentz group equivariant block, equations 3.3 to 3.6 of arXiv:2201.08187.

    m_ij = phi_e(h_i, h_j, psi(||x_i - x_j||²), psi(<x_i, x_j>)),  gated by phi_m(m_ij)
    x_i <- x_i + c mean_j phi_x(m_ij) (x_i - x_j)
    h_i <- h_i + phi_h(h_i, sum_j phi_m(m_ij) m_ij, scalars_i)
    """

    def __init__(self, width: int, n_scalars: int, c: float, update_limit: float | None, *, last: bool) -> None:
        super().__init__()
        self.c, self.update_limit = c, update_limit
        self.phi_e = nn.Sequential(
            nn.Linear(2 * width + 2, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.phi_m = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())
        self.phi_h = nn.Sequential(
            nn.Linear(2 * width + n_scalars, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )
        self.phi_x: nn.Sequential | None = None  # the last block's vectors are read by nobody
        if not last:
            out = nn.Linear(width, 1, bias=False)
            nn.init.xavier_uniform_(out.weight, gain=1e-3)  # vectors move little at the start of a training
            self.phi_x = nn.Sequential(nn.Linear(width, width), nn.ReLU(), out)

    def forward(self, h: Tensor, x: Tensor, scalars: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Shapes: h [ΣM, width], x [ΣM, 4], scalars [ΣM, S] -> h, x."""
        xi, xj = x[pairs.receiver], x[pairs.sender]
        difference = xi - xj
        products = torch.stack(
            (
                signed_log(plain_product(difference, difference)),
                signed_log(plain_product(xi, xj)),
            ),
            dim=-1,
        )
        # The first map of phi_e splits into one map a node for each end and two columns for the products: no [P, 146] is ever made.
        width = h.shape[1]
        first = self.phi_e[0].weight  # type: ignore[union-attr]
        ends = h @ torch.cat((first[:, :width], first[:, width : 2 * width])).T
        e = ends[:, :width][pairs.receiver] + ends[:, width:][pairs.sender] + products @ first[:, 2 * width :].T
        m = self.phi_e[1:](e)
        m = m * self.phi_m(m)
        if self.phi_x is not None:
            step = difference * self.phi_x(m)
            if self.update_limit is not None:
                step = step.clamp(-self.update_limit, self.update_limit)
            x = x + self.c * pairs.mean(step)
        return h + self.phi_h(torch.cat((h, pairs.sum(m), scalars), dim=-1)), x
