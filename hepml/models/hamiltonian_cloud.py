"""Jets as clouds in phase space: features from the flow of a learned Hamiltonian, and the counterpart without
a flow, which shows what the flow contributes.

Each constituent gets a position, a momentum and some charges from its features; the cloud then moves under a
learned Hamiltonian (`hepml.nn.symplectic`), and an invariant pooling reads it out. The twin has the same
embedding and readout and as many parameters in between, but moves by an unconstrained vector field.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.feedforward import feedforward
from hepml.nn.kernels.pair_sums import differences, products, spread
from hepml.nn.symplectic import CloudHamiltonian, flow
from hepml.packed.pairs import UnorderedPairs
from hepml.packed.rectangular import mask_behind
from hepml.packed.segments import segment_mean, segment_sum

POSITIONS = ("delta_eta", "delta_phi", "log_pt_rel")


class _Cloud(Tagger):
    """Embedding and readout, which both models share; what happens in between is `move`."""

    def __init__(
        self,
        outputs: int,
        features: str | Sequence[str],
        positions: str,
        dimension: int,
        interactions: int,
        steps: int,
        step_size: float,
        embedding: Sequence[int],
        phi: Sequence[int],
        f: Sequence[int],
        dropout: float,
        max_constituents: int | None,
    ) -> None:
        super().__init__()
        if positions not in ("learned", "physical"):
            raise ConfigError(
                f"positions '{positions}'", mend="use learned or physical (delta eta, delta phi, ln pT)"
            )
        if steps < 0 or step_size <= 0:
            raise ConfigError(f"{steps} steps of {step_size}", mend="give steps ≥ 0 and step_size > 0")
        self.features = feature_table.resolve(features)
        self.physical = positions == "physical"
        self.dimension = len(POSITIONS) if self.physical else dimension
        names = tuple(dict.fromkeys((*self.features, *(POSITIONS if self.physical else ()))))
        self.inputs = Inputs(names, four_momenta=False, max_constituents=max_constituents)
        self.read = [names.index(name) for name in self.features]
        self.place = [names.index(name) for name in POSITIONS] if self.physical else []
        self.steps, self.step_size, self.interactions = steps, step_size, interactions
        size = self.dimension * (1 if self.physical else 2) + interactions
        self.embed = feedforward(len(self.features), embedding, size, activation=nn.GELU)
        self.phi = feedforward(2 * self.dimension + interactions, phi, activation=nn.GELU)
        self.f = feedforward(2 * phi[-1], f, outputs, activation=nn.GELU, dropout=dropout)

    def phase_space(self, batch: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Positions [ΣN, d], momenta [ΣN, d] and charges [ΣN, K] at the beginning."""
        x = batch.select(self.inputs.features)
        coordinates = self.embed(x[:, self.read])
        if self.physical:
            p, charges = coordinates.split((self.dimension, self.interactions), dim=-1)
            return x[:, self.place], p, charges
        q, p, charges = coordinates.split((self.dimension, self.dimension, self.interactions), dim=-1)
        return q, p, charges

    def move(self, q: Tensor, p: Tensor, charges: Tensor, pairs: UnorderedPairs) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        q, p, charges = self.phase_space(batch)
        q, p = self.move(q, p, charges, pairs_of(batch))
        latent = self.phi(torch.cat((q, p, charges), dim=-1))
        # sum grows with the number of constituents, the mean does not: both are invariant, and the head sees
        # both
        pooled = torch.cat(
            (0.1 * segment_sum(latent, batch.offsets), segment_mean(latent, batch.offsets)), dim=-1
        )
        logits: Tensor = self.f(pooled)
        return logits


def pairs_of(batch: JetBatch) -> UnorderedPairs:
    """The pairs of the jets of a batch."""
    if mask_behind(batch.offsets) is not None:
        return UnorderedPairs.of(batch.offsets)
    rows = batch.four_momenta.shape[0]
    return UnorderedPairs.of(batch.offsets, rows, (batch.sizes[1] - rows) // 2)


@register(
    "hamiltonian_cloud",
    paper="arXiv:1906.01563",
    symmetries=("permutation", "azimuthal-rotation", "energy-conserving"),
)
class HamiltonianCloud(_Cloud):
    """Hamiltonian cloud: the symplectic flow of a learned, permutation-invariant Hamiltonian over the
    constituents, then invariant pooling.

    The flow is exactly reversible and preserves phase-space volume; it conserves the learned energy up to the
    step size squared. Its memory in training does not depend on the number of steps.

    Symmetry: permutations of the constituents, rotations about the beam; conserves the learned energy. Ours,
        after arXiv:1906.01563.
    Inputs: constituent features relative to the jet. A jet without constituents is read out as zero.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set.
        positions: `learned` from the features, or `physical`: (delta eta, delta phi, ln pT/pT jet).
        dimension: of a constituent's position and of its momentum, where positions are learned.
        hidden: units of the single-particle potential.
        interactions: number of charges of a constituent, and of pair potentials between them.
        steps: of the integrator.
        step_size: of the integrator.
        embedding: hidden units of the embedding.
        phi: units of the layers that read a constituent out.
        f: hidden units of the head.
        dropout: in the head, in training.
        reversible: walk the flow back in the backward pass, with constant memory; false keeps every step,
            which is a little faster.
        max_constituents: keep only so many leading constituents; None keeps all.
    """

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        positions: str = "learned",
        dimension: int = 6,
        hidden: int = 128,
        interactions: int = 8,
        steps: int = 4,
        step_size: float = 0.25,
        embedding: Sequence[int] = (64, 64),
        phi: Sequence[int] = (100, 128),
        f: Sequence[int] = (100, 100),
        dropout: float = 0.0,
        reversible: bool = True,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__(
            outputs,
            features,
            positions,
            dimension,
            interactions,
            steps,
            step_size,
            embedding,
            phi,
            f,
            dropout,
            max_constituents,
        )
        self.hamiltonian = CloudHamiltonian(self.dimension, hidden, interactions)
        self.reversible = reversible

    def move(self, q: Tensor, p: Tensor, charges: Tensor, pairs: UnorderedPairs) -> tuple[Tensor, Tensor]:
        return flow(
            self.hamiltonian,
            q,
            p,
            charges,
            pairs,
            steps=self.steps,
            step_size=self.step_size,
            reversible=self.reversible,
        )

    def energy(self, batch: JetBatch, *, after: bool = True) -> Tensor:
        """The learned energy of each jet, [B], after or before the flow."""
        q, p, charges = self.phase_space(batch)
        pairs = pairs_of(batch)
        if after:
            q, p = self.move(q, p, charges, pairs)
        return self.hamiltonian.energy(q, p, charges, pairs, batch.offsets)


@register("residual_cloud", paper="arXiv:1906.01563", symmetries=("permutation", "azimuthal-rotation"))
class ResidualCloud(_Cloud):
    """Residual cloud: the plain twin of `hamiltonian_cloud`, whose constituents move by an unconstrained
    vector field.

    z_i <- z_i + h [ MLP(z_i) + B 1/n sum_j w_ij (z_i - z_j) ] with the same pair weights w; as many
    parameters as the Hamiltonian's.

    Symmetry: permutations of the constituents, rotations about the beam. It conserves nothing and cannot be
        run back.
    Inputs: as `hamiltonian_cloud`.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set.
        positions: `learned` from the features, or `physical`: (delta eta, delta phi, ln pT/pT jet).
        dimension: of a constituent's position and of its momentum, where positions are learned.
        hidden: units of the twin's single-particle potential; those of the vector field follow from it so
            that sizes agree.
        interactions: number of charges of a constituent, and of pair weights between them.
        steps: of the integrator.
        step_size: of the integrator.
        embedding: hidden units of the embedding.
        phi: units of the layers that read a constituent out.
        f: hidden units of the head.
        dropout: in the head, in training.
        max_constituents: keep only so many leading constituents; None keeps all.
    """

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        positions: str = "learned",
        dimension: int = 6,
        hidden: int = 128,
        interactions: int = 8,
        steps: int = 4,
        step_size: float = 0.25,
        embedding: Sequence[int] = (64, 64),
        phi: Sequence[int] = (100, 128),
        f: Sequence[int] = (100, 100),
        dropout: float = 0.0,
        max_constituents: int | None = None,
    ) -> None:
        super().__init__(
            outputs,
            features,
            positions,
            dimension,
            interactions,
            steps,
            step_size,
            embedding,
            phi,
            f,
            dropout,
            max_constituents,
        )
        width = 2 * self.dimension
        twin = sum(p.numel() for p in CloudHamiltonian(self.dimension, hidden, interactions).parameters())
        units = max(1, round((twin - 2 * width - 2 * interactions) / (2 * width + 1)))
        self.inner, self.outer = nn.Linear(width, units), nn.Linear(units, width)
        self.pull = nn.Parameter(torch.full((width,), 0.1))
        self.strength = nn.Parameter(torch.randn(interactions) * 0.5)
        self.log_width = nn.Parameter(torch.linspace(-1.2, 1.1, max(interactions, 1)))

    def move(self, q: Tensor, p: Tensor, charges: Tensor, pairs: UnorderedPairs) -> tuple[Tensor, Tensor]:
        z = torch.cat((q, p), dim=-1)
        coupling = products(charges, pairs)
        for _ in range(self.steps):
            apart = differences(z, pairs)
            squared = apart[:, : self.dimension].square().sum(-1, keepdim=True)
            weight = (coupling * torch.exp(squared * (-0.5 * torch.exp(-2 * self.log_width)))) @ self.strength
            pulled = pairs.share(z.dtype)[:, None] * spread(weight[:, None] * apart, pairs) * self.pull
            z = z + self.step_size * (self.outer(torch.tanh(self.inner(z))) + pulled)
        return z[:, : self.dimension], z[:, self.dimension :]
