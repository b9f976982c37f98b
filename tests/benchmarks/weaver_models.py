"""weaver-core's own ParticleNet and ParT as models that hepml trains: the peers' rows of the scoreboard.

A plugin (`plugins: [tests/benchmarks/weaver_models.py]`): the networks are weaver's, untouched, on jets
padded to 128 constituents as its users give them; jets, loader, loss, optimizer and metrics are hepml's, so
that rows differ in the network alone.
"""

from __future__ import annotations

import torch
from padded import dense_features
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.features import KINEMATIC
from hepml.data.inputs import Inputs
from hepml.models import register
from hepml.packed.rectangle import to_dense

LENGTH = 128


class _Padded(nn.Module):
    """Jets as weaver's loader makes them: the 128 leading constituents, padded with zeros."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inputs = Inputs(features=KINEMATIC, max_constituents=LENGTH)
        self.network = network

    def padded(self, batch: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
        """(features [B, 7, P], four-vectors (px, py, pz, E) [B, 4, P], mask [B, 1, P])."""
        width = max(LENGTH, batch.max_count)
        x, mask = dense_features(batch, KINEMATIC, width)
        p = to_dense(batch.four_momenta, batch.offsets, width)[..., [1, 2, 3, 0]]
        return tuple(t[:, :LENGTH].transpose(1, 2).contiguous() for t in (x, p, mask[..., None].to(x.dtype)))  # type: ignore[return-value]


@register("weaver_particlenet", paper="arXiv:1902.08570", symmetries=("permutation", "azimuthal-rotation"))
class WeaverParticleNet(_Padded):
    """weaver-core's ParticleNet in its top-tagging configuration."""

    def __init__(self, outputs: int = 2, dropout: float = 0.1) -> None:
        from weaver.nn.model.ParticleNet import ParticleNet

        layers = [(16, (64,) * 3), (16, (128,) * 3), (16, (256,) * 3)]
        super().__init__(ParticleNet(len(KINEMATIC), outputs, layers, [(256, dropout)], use_fusion=False))

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        x, _, mask = self.padded(batch)
        points = x[:, [KINEMATIC.index("delta_eta"), KINEMATIC.index("delta_phi")]]
        return self.network(points, x, mask)  # type: ignore[no-any-return]


@register("weaver_part", paper="arXiv:2202.03772", symmetries=("permutation", "azimuthal-rotation"))
class WeaverParT(_Padded):
    """weaver-core's Particle Transformer in its top-tagging configuration."""

    def __init__(self, outputs: int = 2) -> None:
        from weaver.nn.model.ParticleTransformer import ParticleTransformer

        super().__init__(
            ParticleTransformer(
                input_dim=len(KINEMATIC),
                num_classes=outputs,
                pair_input_dim=4,
                embed_dims=[128, 512, 128],
                pair_embed_dims=[64, 64, 64],
                num_heads=8,
                num_layers=8,
                num_cls_layers=2,
                fc_params=[],
                activation="gelu",
                trim=True,
                for_inference=False,
            )
        )

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        x, p, mask = self.padded(batch)
        return self.network(x, v=p, mask=mask.to(torch.bool))  # type: ignore[no-any-return]
