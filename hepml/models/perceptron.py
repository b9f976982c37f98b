"""The soft perceptron on jet observables: the smallest tagger, and the baseline that every other must
beat."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.norm import Standardise
from hepml.representations.observables import columns_needed, extras_needed, observables

OBSERVABLES = ("jet_mass", "jet_mass_over_pt", "jet_nparticles", "jet_width", "jet_ptd", "jet_c2", "jet_d2")


@register("perceptron", paper="doi:10.1037/h0042519", symmetries=("permutation", "azimuthal-rotation"))
class Perceptron(Tagger):
    """Soft perceptron: sigma(w.x + b) on jet observables, one linear map.

    With one output and the Bernoulli objective it is Rosenblatt's perceptron with a logistic in place of the
    step. Symmetry: permutations of the constituents, rotations about the beam (with the default observables).
    Inputs: jet-level observables, computed from constituents or read from the file, standardised inside by
    statistics learnt from the first training jets (buffers, kept in the checkpoint).

    Args:
        outputs: columns of the result; 1 for the lecture's sigma(w.x + b).
        observables: names of jet-level observables (`hepml.representations.observables`) or jet columns of
            the file.
    """

    def __init__(self, outputs: int = 2, observables: Sequence[str] = OBSERVABLES) -> None:
        super().__init__()
        self.observables = tuple(observables)
        self.inputs = Inputs(
            jet_features=columns_needed(self.observables), extras=extras_needed(self.observables)
        )
        self.standardise = Standardise(len(self.observables))
        self.linear = nn.Linear(len(self.observables), outputs)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        logits: Tensor = self.linear(self.standardise(observables(batch, self.observables)))
        return logits
