"""LLoCa (arXiv:2505.20280): any registered model, made Lorentz-equivariant by local canonical frames.

A small network predicts a frame for each constituent, equivariantly. What a constituent looks like from its
own frame is the same whatever the frame of the jet, and so is everything that a model makes of it: messages
between constituents are scalars. The model itself stays as it is. Frames are predicted from momenta in the
jet's rest frame, in float64, which keeps the digits that a boost would take.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED
from hepml.errors import ConfigError
from hepml.models.catalogue import create, register
from hepml.models.identity import Tagger, inputs_of
from hepml.nn.lorentz import reference_vectors
from hepml.nn.lorentz.canonical import follows_from_momenta, frame_vectors, local_features, seen_from
from hepml.nn.lorentz.frames import FrameNetwork, frames
from hepml.packed.segments import segment_mean


@register(
    "lloca",
    paper="arXiv:2505.20280",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam", "time")},
)
class LLoCa(Tagger):
    """Local canonicalisation of the input of another model.

    Symmetry: SO+(1,3), and permutations if the backbone respects them; reference vectors break it to what
    leaves them in place. Features that follow from momenta are computed in the constituents' frames,
    others (charge, displacement) are given on. Where the backbone reads four-momenta, they are those seen
    from one frame of the jet, so that pairs of them fit together. Jets of fewer than three constituents
    have an axis, but no frame: for them the symmetry holds where a backbone reads features alone.

    Args:
        outputs: columns of the result.
        backbone: name of a registered model.
        backbone_arguments: its hyperparameters, `outputs` excepted.
        frame: `constituent`, or `jet` for one frame a jet, the same for all constituents.
        hidden: width of the network that predicts frames.
        depth: its hidden layers.
        dropout: in it.
        references: names of reference vectors that frames may depend on (see `hepml.nn.lorentz.REFERENCES`),
            such as `[lightlike_beam, time]`; none keeps the full Lorentz symmetry.
    """

    references: Tensor

    def __init__(
        self,
        outputs: int = 2,
        backbone: str = "transformer",
        backbone_arguments: dict[str, Any] | None = None,
        frame: Literal["constituent", "jet"] = "constituent",
        hidden: int = 128,
        depth: int = 2,
        dropout: float = 0.0,
        references: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        arguments = dict(backbone_arguments or {})
        if "outputs" in arguments:
            raise ConfigError("lloca: backbone_arguments has 'outputs'", mend="give outputs to lloca itself")
        self.frame = frame
        self.backbone = create(backbone, outputs=outputs, **arguments)
        self.wanted = wanted = inputs_of(self.backbone)
        self.inputs = Inputs(
            tuple(name for name in wanted.features if not follows_from_momenta(name)),
            tuple(name for name in wanted.jet_features if name not in DERIVED),
            max_constituents=wanted.max_constituents,
        )
        self.register_buffer("references", reference_vectors(references), persistent=False)
        self.predict = FrameNetwork(len(self.references), hidden, depth, dropout)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        logits: Tensor = self.backbone(self.canonical(batch))
        return logits

    def canonical(self, batch: JetBatch) -> JetBatch:
        """The jets as the backbone sees them."""
        with torch.autocast(batch.device.type, enabled=False):  # frames are made of products of momenta
            momenta, vectors, jets = frame_vectors(self.predict, batch, self.references)
            parallel = torch.finfo(batch.dtype).eps ** 0.5
            own = frames(segment_mean(vectors.flatten(1), batch.offsets).unflatten(1, (3, 4)), parallel)[
                batch.jet_of
            ]
            local = own if self.frame == "jet" else frames(vectors, parallel)
            local_batch = batch.with_four_momenta(seen_from(own, momenta, batch.dtype))
            names = self.wanted.features
            if names:
                local_batch = replace(
                    local_batch,
                    features=local_features(batch, names, local, momenta, jets),
                    feature_names=names,
                )
            if batch.jet_features is not None:
                local_batch = replace(
                    local_batch,
                    jet_features=batch.select_jets(self.inputs.jet_features),
                    jet_feature_names=self.inputs.jet_features,
                )
        return local_batch
