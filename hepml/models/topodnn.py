"""TopoDNN: a multilayer perceptron on the leading constituents of a jet, turned into a standard pose
(arXiv:1704.02124)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.feedforward import feedforward, he_uniform
from hepml.packed.rectangle import to_dense
from hepml.packed.rectangular import counts_of, spread
from hepml.packed.segments import segment_sum
from hepml.representations.sequence import leading

# Directions closer than this (in eta and phi) are the same: float32 keeps an angle of 2 to 2e-7.
_RESOLVED = 1e-5


@register(
    "topodnn",
    paper="arXiv:1704.02124",
    symmetries=("permutation", "azimuthal-rotation"),
    published={"outputs": 1},
    parameters=59323,
)
class TopoDNN(Tagger):
    """TopoDNN: (pT, eta, phi) of the leading constituents, in a standard pose, into one multilayer
    perceptron.

    Symmetry: permutations of the constituents, since they are put in order of transverse momentum first
    (up to exact ties), rotations about the beam. Inputs: four-momenta. The pose (`standard_pose`) puts
    the hardest constituent at the origin of the (eta, phi) plane, turns the second onto the negative phi
    axis by a rotation of space, which keeps the mass of the jet, and mirrors eta so that most of the
    transverse momentum has positive eta. Absent constituents are zeros. The published network has one
    output, for the Bernoulli objective: 59,323 parameters.

    Args:
        outputs: columns of the result.
        constituents: leading constituents that are read.
        hidden: units of the hidden layers.
        pt_scale: transverse momentum in GeV that becomes 1. The paper's 1,679 GeV is the hardest constituent
            of its jets of 600 to 2,500 GeV.
        dropout: after each hidden layer, in training.
    """

    def __init__(
        self,
        outputs: int = 2,
        constituents: int = 30,
        hidden: Sequence[int] = (300, 102, 12, 6),
        pt_scale: float = 1679.1593231,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(max_constituents=constituents)
        self.constituents, self.pt_scale = constituents, pt_scale
        self.mlp = feedforward(3 * constituents, hidden, outputs, dropout=dropout, initialise=he_uniform)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        with torch.autocast(batch.device.type, enabled=False):
            rows, offsets = leading(batch, self.constituents)
            x = standard_pose(batch.four_momenta[rows], offsets)
            x = torch.cat((x[:, :1] / self.pt_scale, x[:, 1:]), dim=1)
        logits: Tensor = self.mlp(to_dense(x, offsets, self.constituents).flatten(1))
        return logits


def standard_pose(four_momenta: Tensor, offsets: Tensor) -> Tensor:
    """(pT, eta, phi) of constituents after the published translation, rotation and reflection.

    Args:
        four_momenta: [M, 4] (E, px, py, pz) in GeV, by falling transverse momentum within each jet.
        offsets: [B + 1].

    Returns:
        [M, 3]; pT in GeV. The first constituent of a jet is at (0, 0), the second at negative phi and eta
        zero.
    """
    counts = counts_of(offsets)
    first, second = offsets[:-1], offsets[:-1] + (counts > 1)
    jets = torch.arange(counts.shape[0], device=offsets.device)
    jet_of = spread(jets, offsets, four_momenta.shape[0])
    pt, eta, phi = kinematics.pt(four_momenta), kinematics.eta(four_momenta), kinematics.phi(four_momenta)
    lead = first[jet_of]
    eta = eta - eta[lead]
    phi = kinematics.delta_phi(phi, phi[lead])
    px, py, pz = pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()
    other = second[jet_of]
    # At the origin no rotation moves it, and within rounding of the origin its angle is rounding.
    alone = (other == lead) | (kinematics.length(py, pz) < _RESOLVED * pt)[other]
    angle = torch.atan2(torch.where(alone, 0.0, py[other]), torch.where(alone, 1.0, pz[other])) + math.pi / 2
    py, pz = py * angle.cos() - pz * angle.sin(), pz * angle.cos() + py * angle.sin()
    pt = kinematics.length(px, py)
    eta = kinematics.eta_of(pz, pt)
    phi = torch.atan2(py, px)
    side = segment_sum((pt * eta)[:, None], offsets)[:, 0]
    return torch.stack((pt, torch.where(side[jet_of] < 0, -eta, eta), phi), dim=1)
