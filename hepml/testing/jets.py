"""Jets for symmetry tests, made on the fly: massless constituents in a few prongs, no two alike and no two
in the same direction."""

from __future__ import annotations

import torch

from hepml import kinematics
from hepml.data.batch import JetBatch


def sample_jets(
    jets: int = 8,
    *,
    mass: float = 0.0,
    dtype: torch.dtype = torch.float64,
    smallest: int = 3,
    largest: int = 40,
    seed: int = 0,
) -> JetBatch:
    """Toy jets of about 600 GeV with `smallest` to `largest` constituents.

    Args:
        jets: how many.
        mass: of every constituent, in GeV. Massless ones keep their Lorentz products to the last digits under
            any boost; for massive ones a large boost rounds the mass away, whatever the model.
        dtype: of the four-momenta.
        smallest, largest: constituents of the first and of the last jet.
        seed: of everything random.

    Examples:
        >>> len(hepml.testing.sample_jets(5))
        5
    """
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=g, dtype=torch.float64)

    counts = torch.linspace(smallest, largest, jets).round().to(torch.int64)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    n = int(offsets[-1])
    jet_of = torch.repeat_interleave(torch.arange(jets), counts)
    eta, phi = uniform(jets, low=-1.8, high=1.8), uniform(jets, low=-3.1, high=3.1)
    prong = torch.randint(3, (n,), generator=g)
    centre = 0.4 * torch.randn(jets, 3, 2, generator=g, dtype=torch.float64)[jet_of, prong]
    spread = centre + 0.1 * torch.randn(n, 2, generator=g, dtype=torch.float64)
    share = -torch.log(uniform(n, low=1e-3, high=1.0)) + 0.01
    share = 600 * share / torch.zeros(jets, dtype=torch.float64).index_add_(0, jet_of, share)[jet_of]
    p = kinematics.from_pt_eta_phi(share, eta[jet_of] + spread[:, 0], phi[jet_of] + spread[:, 1], mass)
    return JetBatch.from_arrays(p.to(dtype), offsets)
