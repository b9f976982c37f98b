"""The LLoCa-Transformer (arXiv:2505.20280): a transformer whose messages are tensors that travel between
local frames.

Each constituent has a frame of its own, predicted equivariantly, and features as seen from it. Attention
passes scalars and vectors: what one constituent says in its frame is turned into the frame of the one who
listens. So nothing of the output depends on the frame of the jet, while directions are told from constituent
to constituent. With the same weights its blocks are those of the transformer of the `lloca` package
(`tests/models/test_lloca_transformer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.encoder import grouped
from hepml.nn.lorentz import reference_vectors
from hepml.nn.lorentz.canonical import follows_from_momenta, frame_vectors, local_features
from hepml.nn.lorentz.frames import FrameNetwork, frames
from hepml.nn.lorentz.tensorial import FrameMaps, TensorialBlock
from hepml.packed.rectangle import Rectangle
from hepml.packed.segments import segment_mean

_ROWS = 768  # constituents of a group on a CPU: a rectangle of more has more padding


@register(
    "lloca_transformer",
    head_scale=0.1,
    paper="arXiv:2505.20280",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam", "time")},
)
class LLoCaTransformer(Tagger):
    """LLoCa-Transformer: tensorial messages between local frames, pooled by a mean over constituents.

    Symmetry: SO+(1,3), and permutations; reference vectors break it to what leaves them in place.
    Features that follow from momenta are computed in the constituents' frames, others (charge,
    displacement) are given on. A jet without constituents has the head's answer to zero.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set: kinematic (7), kinematic_pid (13), full
            (17).
        width: C of the blocks, a multiple of heads.
        heads: attention heads.
        vectors: vectors of each head; the rest of its width / heads numbers are scalars. 0 leaves messages of
            scalars only.
        blocks: of attention and feed-forward part.
        expansion: hidden units of a block, in units of C.
        dropout: after both branches of a block and of its hidden units.
        balanced: divide what is turned to and from a frame by the frame's Lorentz factor, as the authors'
            package does since 2.0; the paper does not.
        hidden: width of the network that predicts frames.
        depth: its hidden layers.
        frame_dropout: in it.
        references: names of reference vectors that frames may depend on (see `hepml.nn.lorentz.REFERENCES`),
            such as `[lightlike_beam, time]`; none keeps the full Lorentz symmetry.
        max_constituents: keep only so many leading constituents; None keeps all.
    """

    references: Tensor
    sharded_blocks = ("blocks",)

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        width: int = 128,
        heads: int = 8,
        vectors: int = 2,
        blocks: int = 10,
        expansion: int = 4,
        dropout: float = 0.0,
        balanced: bool = True,
        hidden: int = 128,
        depth: int = 2,
        frame_dropout: float = 0.0,
        references: tuple[str, ...] = (),
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        self.features = feature_table.resolve(features)
        given = tuple(name for name in self.features if not follows_from_momenta(name))
        self.inputs = Inputs(given, max_constituents=max_constituents)
        self.balanced = balanced
        self.register_buffer("references", reference_vectors(references), persistent=False)
        self.predict = FrameNetwork(len(self.references), hidden, depth, frame_dropout)
        self.embed = nn.Linear(len(self.features), width)
        self.blocks = nn.ModuleList(
            TensorialBlock(width, heads, vectors, expansion, dropout) for _ in range(blocks)
        )
        self.fc = nn.Linear(width, outputs)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        jets = grouped(batch, _ROWS)
        features, maps = self._canonical(jets.batch)
        rows = [group.rows for group in jets]
        pooled = [
            self.pooled(x, own, group.where)
            for x, own, group in zip(features.split(rows), maps.split(rows), jets, strict=True)
        ]
        logits: Tensor = self.fc(jets.restore(pooled, self.fc.in_features).to(self.fc.weight.dtype))
        return logits

    def pooled(self, features: Tensor, maps: FrameMaps, where: Rectangle) -> Tensor:
        """What the head reads of a few jets, [B, C], from local features [M, F] of their constituents."""
        x = self.embed(features).to(self.fc.weight.dtype)
        for block in self.blocks:
            x = block(x, maps, where)
        return segment_mean(x, where.offsets)

    def _canonical(self, batch: JetBatch) -> tuple[Tensor, FrameMaps]:
        """Features of the constituents in their frames, [ΣN, F], and these frames with respect to the jets'
        rest frames."""
        dtype = self.fc.weight.dtype
        with torch.autocast(batch.device.type, enabled=False):  # frames are made of products of momenta
            momenta, vectors, jets = frame_vectors(self.predict, batch, self.references)
            own = frames(vectors, torch.finfo(batch.dtype).eps ** 0.5)
            features = local_features(batch, self.features, own, momenta, jets)
            return features.to(dtype), FrameMaps.of(own, dtype, balanced=self.balanced)
