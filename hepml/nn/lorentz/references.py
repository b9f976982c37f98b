"""Reference vectors: fixed four-vectors that break Lorentz symmetry in a named way.

A detector singles out the beam axis and its own rest frame. A network of invariants is told so by giving it
these vectors as further particles; it then stays invariant only under what leaves them in place (rotations
about the beam, for the beam). The default everywhere is no reference vector: a broken symmetry is asked for
by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hepml.errors import ConfigError, did_you_mean
from hepml.packed.rectangular import mask_behind, rectangular, widened
from hepml.packed.segments import jet_of_rows

# (E, px, py, pz), no unit: they enter products beside momenta in GeV.
REFERENCES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "beam": (
        (math.sqrt(2.0), 0.0, 0.0, 1.0),
        (math.sqrt(2.0), 0.0, 0.0, -1.0),
    ),  # two beams of unit mass, arXiv:2201.08187
    "lightlike_beam": ((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, -1.0)),  # arXiv:2307.16506
    "time": ((1.0, 0.0, 0.0, 0.0),),  # the detector's rest frame
}


def reference_vectors(names: Sequence[str], dtype: torch.dtype = torch.float64) -> Tensor:
    """The reference vectors of these names, one below the other. Shape: [R, 4].

    Raises:
        ConfigError: a name that is not in `REFERENCES`; names the nearest.
    """
    rows: list[tuple[float, float, float, float]] = []
    for name in [names] if isinstance(names, str) else names:
        if name not in REFERENCES:
            raise ConfigError(f"unknown reference vector '{name}'", mend=did_you_mean(name, REFERENCES))
        rows.extend(REFERENCES[name])
    return torch.tensor(rows, dtype=dtype).reshape(-1, 4)


def with_references(
    four_momenta: Tensor, offsets: Tensor, references: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Reference vectors put before the constituents of each jet.

    Args:
        four_momenta: [ΣN, 4].
        offsets: [B + 1].
        references: [R, 4], the same for all jets.

    Returns:
        vectors [ΣN + B R, 4] in the dtype of the momenta, their offsets [B + 1], and which of them are
        reference vectors [ΣN + B R] bool.
    """
    mask, extra = mask_behind(offsets), len(references)
    if mask is not None:
        fixed = references.to(four_momenta).expand(mask.shape[0], extra, 4)
        x = torch.cat((fixed, four_momenta.view(*mask.shape, 4)), dim=1).flatten(0, 1)
        first = torch.arange(extra + mask.shape[1], device=four_momenta.device) < extra
        return x, rectangular(widened(mask, extra)), first.expand(mask.shape[0], -1).flatten()
    jets = len(offsets) - 1
    device = four_momenta.device
    is_reference = torch.zeros(len(four_momenta) + extra * jets, dtype=torch.bool, device=device)
    if not extra:
        return four_momenta, offsets, is_reference
    shifted = offsets + extra * torch.arange(jets + 1, device=device)
    first = (shifted[:-1, None] + torch.arange(extra, device=device)).flatten()
    own = torch.arange(len(four_momenta), device=device) + extra * (
        jet_of_rows(offsets, len(four_momenta)) + 1
    )
    is_reference[first] = True
    x = four_momenta.new_empty((len(is_reference), 4))
    x[first] = references.to(four_momenta).repeat(jets, 1)
    x[own] = four_momenta
    return x, shifted, is_reference
