"""Particle Flow Network: deep sets on the constituents (arXiv:1810.05165)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.clouds import collection_of, named
from hepml.nn.feedforward import feedforward, he_uniform
from hepml.nn.kernels.pieces import sum_of


@register(
    "pfn",
    head_scale=0.1,
    paper="arXiv:1810.05165",
    symmetries=("permutation", "azimuthal-rotation"),
    parameters=82458,
)
class ParticleFlowNetwork(Tagger):
    """Particle Flow Network: F(sum_i Phi(p_i)), deep sets with any function of each constituent.

    Symmetry: permutations of the constituents, rotations about the beam. It is not infrared and collinear
        safe (see `efn`).
    Inputs: momentum fraction and position relative to the jet axis of each constituent. A jet without
        constituents has a sum of zero.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set.
        phi: units of the layers applied to each constituent; the last is the width of the sum.
        f: units of the hidden layers applied to the sum.
        latent_dropout: of the sum, in training.
        dropout: after each hidden layer of F, in training.
        max_constituents: keep only so many leading constituents; None keeps all.
        multiplicity: F's first weights are drawn so many times smaller, so that with as many constituents the
            sum begins as an average: features of unit spread then do not begin with logits of 30. Only the
            start of a training depends on it.
        collections: further collections that are inputs of their own (secondary vertices), each with the
            names of its features; each has a Phi of its own, and all are summed.
    """

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = ("pt_fraction", "delta_eta", "delta_phi"),
        phi: Sequence[int] = (100, 100, 256),
        f: Sequence[int] = (100, 100, 100),
        latent_dropout: float = 0.0,
        dropout: float = 0.0,
        max_constituents: int | None = None,
        multiplicity: float = 1.0,
        collections: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        names = feature_table.resolve(features)
        further = named(collections)
        self.inputs = Inputs(
            names, four_momenta=False, max_constituents=max_constituents, collections=further
        )
        self.phi = feedforward(len(names), phi, initialise=he_uniform)
        self.phi_of = nn.ModuleDict(
            {f"of_{name}": feedforward(len(wanted), phi, initialise=he_uniform) for name, wanted in further}
        )
        self.latent_dropout = nn.Dropout(latent_dropout)
        self.f = feedforward(phi[-1], f, outputs, dropout=dropout, initialise=he_uniform)
        if not multiplicity > 0:
            raise ConfigError(
                f"multiplicity is {multiplicity}", mend="give a number of constituents above 0, such as 50"
            )
        first = next(layer for layer in self.f.modules() if isinstance(layer, nn.Linear))
        with torch.no_grad():
            first.weight /= multiplicity

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        latent = sum_of(self.phi, batch.select(self.inputs.features), batch.offsets)
        for name, wanted in self.inputs.collections:
            other = collection_of(batch, name)
            latent = latent + sum_of(self.phi_of[f"of_{name}"], other.select(wanted), other.offsets)
        logits: Tensor = self.f(self.latent_dropout(latent))
        return logits
