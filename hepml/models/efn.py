"""Energy Flow Network: infrared- and collinear-safe deep sets (arXiv:1810.05165)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.feedforward import feedforward, he_uniform
from hepml.nn.kernels.pieces import sum_of

ANGLES = ("delta_eta", "delta_phi", "delta_r")


@register(
    "efn",
    paper="arXiv:1810.05165",
    symmetries=("permutation", "azimuthal-rotation", "irc-safe"),
    parameters=82358,
)
class EnergyFlowNetwork(Tagger):
    """Energy Flow Network: F(sum_i z_i Phi(p_i)), deep sets linear in the momentum fraction z.

    Symmetry: permutations of the constituents, rotations about the beam; infrared and collinear safe,
    since a soft constituent adds z Phi -> 0 and a collinear splitting leaves the sum as it is. Inputs:
    momentum fraction (the weight) and position relative to the jet axis.

    Args:
        outputs: columns of the result.
        angles: angular features that Phi reads, of delta_eta, delta_phi, delta_r.
        phi: units of the layers applied to each constituent; the last is the width of the sum.
        f: units of the hidden layers applied to the sum.
        latent_dropout: of the sum, in training.
        dropout: after each hidden layer of F, in training.
        max_constituents: keep only so many leading constituents; None keeps all. A cut breaks the safety.

    Raises:
        ConfigError: `angles` has a feature that depends on momentum.
    """

    def __init__(
        self,
        outputs: int = 2,
        angles: Sequence[str] = ("delta_eta", "delta_phi"),
        phi: Sequence[int] = (100, 100, 256),
        f: Sequence[int] = (100, 100, 100),
        latent_dropout: float = 0.0,
        dropout: float = 0.0,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__()
        unsafe = [name for name in angles if name not in ANGLES]
        if unsafe:
            raise ConfigError(
                f"efn reads angles only, '{unsafe[0]}' would break its infrared and collinear safety",
                mend=f"use some of {', '.join(ANGLES)}, or model pfn",
            )
        self.inputs = Inputs(("pt_fraction", *angles), four_momenta=False, max_constituents=max_constituents)
        self.phi = feedforward(len(angles), phi, initialise=he_uniform)
        self.latent_dropout = nn.Dropout(latent_dropout)
        self.f = feedforward(phi[-1], f, outputs, dropout=dropout, initialise=he_uniform)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        latent = sum_of(
            lambda x: x[:, :1] * self.phi(x[:, 1:]), batch.select(self.inputs.features), batch.offsets
        )
        logits: Tensor = self.f(self.latent_dropout(latent))
        return logits
