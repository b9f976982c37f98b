"""L-GATr-slim (arXiv:2512.17011): the Lorentz-equivariant transformer reduced to scalars and four-vectors.

What the geometric algebra gave L-GATr beyond these was hardly used in tagging; without it the network is
several times faster, and as good. Written from the paper; with the same weights its outputs are those of
`LGATrSlim` of the `lgatr` package (`tests/models/test_lgatr.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.kernels.scalar_vector import Places
from hepml.nn.lorentz import reference_vectors
from hepml.nn.lorentz.scalar_vector import PairBlock, PairLinear
from hepml.nn.lorentz.tokens import TokenGroup, jet_tokens


@register(
    "lgatr_slim",
    paper="arXiv:2512.17011",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam", "time")},
)
class LGATrSlim(Tagger):
    """Lorentz-equivariant transformer of scalars and four-vectors.

    Symmetry: permutations and the Lorentz group with its reflections; reference vectors break it to what
        leaves them in place.

    Args:
        outputs: columns of the result.
        vectors: vector channels.
        scalars: scalar channels.
        blocks: attention and MLP in turns.
        heads: attention heads.
        expansion: hidden channels of the MLP, in units of these.
        references: names of reference vectors given as further tokens (see `hepml.nn.lorentz.REFERENCES`),
            such as `[lightlike_beam, time]`; none keeps the full Lorentz symmetry.
        features: constituent features given as scalars, such as `[charge, is_photon]`. Those that change
            under a boost break the symmetry.
        dropout: after attention and MLP.
        scale: momenta in GeV are multiplied by it (published: 1/20). The larger, the more digits a boost
            costs.
        max_constituents: keep only so many leading constituents; None keeps all.
    """

    references: Tensor

    def __init__(
        self,
        outputs: int = 2,
        vectors: int = 32,
        scalars: int = 96,
        blocks: int = 12,
        heads: int = 8,
        expansion: int = 4,
        references: tuple[str, ...] = (),
        features: Sequence[str] = (),
        dropout: float = 0.0,
        scale: float = 0.03,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        self.features = feature_table.resolve(features)
        self.inputs = Inputs(self.features, max_constituents=max_constituents)
        self.scale, self.heads = scale, heads
        self.register_buffer("references", reference_vectors(references), persistent=False)
        self.embed = PairLinear((1, vectors), (1 + len(self.references) + len(self.features), scalars))
        self.blocks = nn.ModuleList(
            PairBlock(vectors, scalars, heads, expansion, dropout, last=i == blocks - 1)
            for i in range(blocks)
        )
        self.head = nn.Linear(scalars, outputs)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        tokens = jet_tokens(batch, self.references, self.scale, self.head.weight.dtype, self.features)
        pooled = tokens.jets.restore(self._pooled(list(tokens)), self.head.in_features)
        logits: Tensor = self.head(pooled.to(self.head.weight.dtype))
        return logits

    def _pooled(self, groups: list[TokenGroup]) -> list[Tensor]:
        """The scalars of the class tokens of the jets of each group."""
        places = [Places(group.where, self.heads) for group in groups]
        embedded = [self.embed(group.vectors[..., None], group.scalars) for group in groups]
        v, s = [v for v, _ in embedded], [s for _, s in embedded]
        for block in self.blocks:
            v, s = block.of_groups(v, s, places)  # type: ignore[operator]
        return s
