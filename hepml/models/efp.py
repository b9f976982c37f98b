"""A linear classifier on energy-flow polynomials (arXiv:1712.07124), infrared and collinear safe like all
that is linear in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.whitening import Whiten
from hepml.representations.efp import energy_flow_polynomials, extra
from hepml.representations.efp_graphs import multigraphs


@register(
    "efp",
    paper="arXiv:1712.07124",
    symmetries=("permutation", "azimuthal-rotation", "irc-safe"),
    published={"outputs": 1},
    parameters=1000,
)
class EnergyFlowPolynomials(Tagger):
    """Energy-flow polynomials of up to `degree` edges, and one weight for each: sum_G w_G EFP_G.

    The multigraph without vertices is the constant one, and its weight the bias. The other polynomials are
    standardised and whitened by the first jets seen in training (`hepml.nn.whitening`), a linear map that
    changes what a step of the optimizer does, as in Fisher's discriminant, and not what the classifier can
    be.

    Symmetry: permutations of the constituents, rotations about the beam; infrared and collinear safe.
    Inputs: four-momenta, of which the polynomials read pT shares, rapidities and azimuths; they are
    computed once, at loading, or on demand where the batch has none.

    Args:
        outputs: columns of the result; the published classifier has one.
        degree: most edges of a multigraph, 1 to 7; with 7 there are 1,000 polynomials.
        beta: angular exponent, theta = R^beta.

    Raises:
        ConfigError: a degree out of range, or a beta that is not positive.
    """

    def __init__(self, outputs: int = 2, degree: int = 7, beta: float = 0.5) -> None:
        super().__init__()
        if not 1 <= degree <= 7:
            raise ConfigError(
                f"efp has multigraphs of 1 to 7 edges, degree is {degree}", mend="choose one of those"
            )
        if beta <= 0:
            raise ConfigError(
                f"beta is {beta}", mend="infrared and collinear safety needs a positive one, 0.5 or 1 say"
            )
        self.degree, self.beta = degree, beta
        self.inputs = Inputs(extras=(extra(degree, beta),))
        count = len(multigraphs(degree))
        self.whiten = Whiten(count - 1)
        self.weights = nn.Linear(count, outputs, bias=False)
        with torch.no_grad():
            self.weights.weight[:, 0] = 0

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        values = energy_flow_polynomials(batch, self.degree, self.beta)
        one, rest = values[:, :1], values[:, 1:]
        with torch.autocast(
            batch.device.type, enabled=False
        ):  # whitening takes differences of nearly equal numbers
            logits: Tensor = self.weights(torch.cat((one, self.whiten(rest)), dim=1))
            return logits
