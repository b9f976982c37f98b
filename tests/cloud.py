"""Random jets as packed clouds, made on the fly, and the changes that symmetry tests make to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hepml.data.batch import JetBatch

COUNTS = (30, 0, 12, 1, 41, 2, 17, 25)


def cloud(
    counts: Sequence[int] = COUNTS,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    spread: float | Sequence[float] = 0.3,
) -> JetBatch:
    """Jets of massless constituents with these counts, 600 GeV or so, scattered by `spread` about random
    axes; sorted by pT."""
    g = torch.Generator().manual_seed(seed)
    jets = len(counts)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    jet_of = torch.repeat_interleave(torch.arange(jets), torch.tensor(counts))
    n = int(offsets[-1])

    def uniform(size: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=g, dtype=torch.float64)

    pt = torch.empty(n, dtype=torch.float64).exponential_(generator=g) + 0.02
    pt = pt * 600 / torch.zeros(jets, dtype=torch.float64).index_add_(0, jet_of, pt)[jet_of]
    order = torch.argsort(-pt + 1e6 * jet_of)
    width = torch.as_tensor(spread, dtype=torch.float64).expand(jets)[jet_of]
    eta = uniform(jets, -1.5, 1.5)[jet_of] + width * torch.randn(n, generator=g, dtype=torch.float64)
    phi = uniform(jets, -3.1, 3.1)[jet_of] + width * torch.randn(n, generator=g, dtype=torch.float64)
    p = torch.stack((pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()), dim=-1)[order]
    return JetBatch.from_arrays(p.to(dtype), offsets, labels=torch.arange(jets) % 2)


def shuffled(batch: JetBatch, seed: int = 1) -> JetBatch:
    """The constituents of each jet in random order."""
    keys = torch.rand(len(batch.jet_of), generator=torch.Generator().manual_seed(seed)) + batch.jet_of
    return batch.permute(torch.argsort(keys))


def turned(batch: JetBatch, angle: float = 1.1) -> JetBatch:
    """Rotated about the beam."""
    c, s = (
        torch.cos(torch.tensor(angle, dtype=batch.dtype)),
        torch.sin(torch.tensor(angle, dtype=batch.dtype)),
    )
    e, x, y, z = batch.four_momenta.unbind(-1)
    return batch.with_four_momenta(torch.stack((e, c * x - s * y, s * x + c * y, z), dim=-1))


def tilted(batch: JetBatch, angle: float = 0.3) -> JetBatch:
    """Rotated about the x axis, which moves the beam."""
    c, s = (
        torch.cos(torch.tensor(angle, dtype=batch.dtype)),
        torch.sin(torch.tensor(angle, dtype=batch.dtype)),
    )
    e, x, y, z = batch.four_momenta.unbind(-1)
    return batch.with_four_momenta(torch.stack((e, x, c * y - s * z, s * y + c * z), dim=-1))


def with_emission(batch: JetBatch, share: float) -> JetBatch:
    """Each jet with one more massless constituent of `share` of its momentum, 0.5 from its axis in eta."""
    jet = batch.jets
    pt = torch.hypot(jet[:, 1], jet[:, 2])
    eta, phi = torch.asinh(jet[:, 3] / pt.clamp_min(1e-9)) + 0.5, torch.atan2(jet[:, 2], jet[:, 1])
    soft = share * pt[:, None] * torch.stack((eta.cosh(), phi.cos(), phi.sin(), eta.sinh()), dim=-1)
    return _joined(batch, soft)


def with_splitting(batch: JetBatch, share: float, angle: float = 0.0) -> JetBatch:
    """The leading constituent of each jet replaced by two with `share` and 1 - `share` of it, apart by
    `angle` in phi; no empty jets."""
    lead = batch.offsets[:-1]
    p = batch.four_momenta.clone()
    part = share * p[lead]
    p[lead] = p[lead] - part
    c, s = (
        torch.cos(torch.tensor(angle, dtype=batch.dtype)),
        torch.sin(torch.tensor(angle, dtype=batch.dtype)),
    )
    e, x, y, z = part.unbind(-1)
    return _joined(batch.with_four_momenta(p), torch.stack((e, c * x - s * y, s * x + c * y, z), dim=-1))


def _joined(batch: JetBatch, extra: Tensor) -> JetBatch:
    jets = torch.cat((batch.jet_of, torch.arange(len(batch))))
    order = torch.argsort(jets, stable=True)
    p = torch.cat((batch.four_momenta, extra))[order]
    return JetBatch.from_arrays(p, batch.offsets + torch.arange(len(batch) + 1))
