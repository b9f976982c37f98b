"""A small multilayer perceptron on logarithms of energy-flow polynomials and on jet observables: what expert
variables give when a network combines them.

Two entries of the register share it: `efp_mlp` reads constituent counts and pT dispersion too, which a soft
emission or a collinear splitting changes; `efp_mlp_safe` reads infrared and collinear safe variables alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.feedforward import feedforward
from hepml.nn.norm import Standardise
from hepml.representations.efp import energy_flow_polynomials, extra
from hepml.representations.efp_graphs import edge_count, multigraphs
from hepml.representations.observables import SAFE, columns_needed, extras_needed, observables

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh}
OBSERVABLES = (
    "jet_mass", "jet_mass_over_pt", "jet_pt", "jet_nparticles", "jet_width", "jet_lha", "jet_thrust",
    "jet_eccentricity", "jet_ptd", "jet_leading_fraction", "jet_entropy", "jet_n50", "jet_n90", "jet_c2",
    "jet_d2",
)  # fmt: skip


@register("efp_mlp", paper="arXiv:1712.07124", symmetries=("permutation", "azimuthal-rotation"))
class EnergyFlowPerceptron(Tagger):
    """Multilayer perceptron on ln EFP of connected multigraphs of up to `degree` edges, and on observables.

    A disconnected multigraph is left out, since its logarithm is the sum of its components' logarithms. Each
    column is standardised by the training jets (`hepml.nn.norm.Standardise`). The logarithm of a polynomial
    of d edges is ln(EFP + floor^d), finite for jets of one constituent and smooth in the momenta, so that
    what is infrared and collinear safe stays so.

    Symmetry: permutations of the constituents, rotations about the beam. Inputs: four-momenta; polynomials
        are computed once, at loading. The default observables hold counts and pT dispersion, which are not
        infrared and collinear safe; `efp_mlp_safe` leaves them out.

    Args:
        outputs: columns of the result.
        degree: most edges of a multigraph, 1 to 7.
        betas: angular exponents, theta = R^beta; all polynomials are taken with each.
        observables: names of jet-level observables (`hepml.representations.observables`) or jet columns of
            the file.
        hidden: units of each hidden layer.
        activation: silu, relu or tanh.
        dropout: after each hidden layer, in training.
        floor: for beta = 1 what is added to a polynomial, to the power of its edges, before the logarithm.
        noise: in training, width of what is added to each standardised column; on a few hundred jets it keeps
            the network from learning them by heart.

    Raises:
        ConfigError: a degree out of range, no beta, or a beta or floor that is not positive.
    """

    connected: Tensor
    floors: Tensor

    def __init__(
        self,
        outputs: int = 2,
        degree: int = 5,
        betas: Sequence[float] = (0.5,),
        observables: Sequence[str] = OBSERVABLES,
        hidden: Sequence[int] = (24, 24),
        activation: Literal["silu", "relu", "tanh"] = "silu",
        dropout: float = 0.0,
        floor: float = 4e-4,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= degree <= 7:
            raise ConfigError(
                f"efp_mlp has multigraphs of 1 to 7 edges, degree is {degree}", mend="choose one of those"
            )
        if not betas or min(betas) <= 0 or floor <= 0:
            raise ConfigError(
                f"efp_mlp has betas {list(betas)} and floor {floor:g}",
                mend="give positive ones, betas: [0.5, 1] say",
            )
        self.noise = noise
        self.degree, self.betas = degree, tuple(float(beta) for beta in betas)
        self.observables = tuple(observables)
        self.inputs = Inputs(
            jet_features=columns_needed(self.observables),
            extras=(*(extra(degree, beta) for beta in self.betas), *extras_needed(self.observables)),
        )
        graphs = multigraphs(degree)
        connected = [i for i, graph in enumerate(graphs) if len(graph) == 1]
        self.register_buffer("connected", torch.tensor(connected), persistent=False)
        edges = torch.tensor([edge_count(graphs[i][0]) for i in connected]).double()
        floors = torch.cat([floor ** (beta * edges) for beta in self.betas])
        self.register_buffer("floors", floors, persistent=False)
        columns = len(floors) + len(self.observables)
        self.standardise = Standardise(columns)
        self.layers = feedforward(
            columns, hidden, outputs, activation=ACTIVATIONS[activation], dropout=dropout
        )

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        parts = [energy_flow_polynomials(batch, self.degree, beta)[:, self.connected] for beta in self.betas]
        polynomials = torch.cat(parts, dim=1)
        with torch.autocast(batch.device.type, enabled=False):
            logarithms = torch.log(polynomials + self.floors.to(polynomials.dtype))
            columns = torch.cat((logarithms, observables(batch, self.observables)), dim=1)
            columns = self.standardise(columns)
            if self.training and self.noise > 0:
                columns = columns + self.noise * torch.randn_like(columns)
            logits: Tensor = self.layers(columns)
            return logits


@register(
    "efp_mlp_safe",
    paper="arXiv:1712.07124",
    symmetries=("permutation", "azimuthal-rotation", "irc-safe"),
)
def efp_mlp_safe(
    outputs: int = 2,
    degree: int = 5,
    betas: Sequence[float] = (0.5,),
    hidden: Sequence[int] = (24, 24),
    activation: Literal["silu", "relu", "tanh"] = "silu",
    dropout: float = 0.0,
    floor: float = 4e-4,
) -> nn.Module:
    """`efp_mlp` on infrared and collinear safe variables alone.

    Symmetry: as `efp_mlp`, and infrared and collinear safe. Inputs: four-momenta.

    Args:
        outputs, degree, betas, hidden, activation, dropout, floor: as for `efp_mlp`.
    """
    return EnergyFlowPerceptron(outputs, degree, betas, SAFE, hidden, activation, dropout, floor)
