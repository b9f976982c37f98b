"""The multilayer perceptron on jet observables: the soft perceptron with hidden layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.models.perceptron import OBSERVABLES
from hepml.nn.feedforward import feedforward
from hepml.nn.norm import Standardise
from hepml.representations.observables import columns_needed, extras_needed, observables


@register("mlp", paper="doi:10.1038/323533a0", symmetries=("permutation", "azimuthal-rotation"))
class MultilayerPerceptron(Tagger):
    """Multilayer perceptron on jet observables, trained by back-propagation.

    Symmetry: permutations of the constituents, rotations about the beam (with the default observables).
    Inputs: as for `perceptron`.

    Args:
        outputs: columns of the result.
        observables: names of jet-level observables (`hepml.representations.observables`) or jet columns of
            the file.
        hidden: units of each hidden layer.
        dropout: after each hidden layer, in training.
    """

    def __init__(
        self,
        outputs: int = 2,
        observables: Sequence[str] = OBSERVABLES,
        hidden: Sequence[int] = (64, 64, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.observables = tuple(observables)
        self.inputs = Inputs(
            jet_features=columns_needed(self.observables), extras=extras_needed(self.observables)
        )
        self.standardise = Standardise(len(self.observables))
        self.layers = feedforward(len(self.observables), hidden, outputs, dropout=dropout)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        logits: Tensor = self.layers(self.standardise(observables(batch, self.observables)))
        return logits
