"""The jet-level view: classic substructure observables, computed from constituents on the device.

Each name is one column [B]. z_i is the share of constituent i in the scalar sum of transverse momenta, R_ij
the distance of two constituents in (eta, phi). A jet without constituents, or with too few for an observable,
gives zero.

    jet_width             sum_i z_i R_i, R_i to the jet axis (girth)
    jet_lha, jet_thrust   sum_i z_i sqrt(R_i) and sum_i z_i R_i^2: further angularities (arXiv:1408.3122)
    jet_eccentricity      1 - l/L, of the smaller and larger eigenvalue of sum_i z_i x_i x_i^T with x_i =
                          (delta_eta, delta_phi)
    jet_ptd               sqrt(sum_i z_i^2)
    jet_leading_fraction  max_i z_i
    jet_entropy           -sum_i z_i ln z_i
    jet_n50, jet_n90      constituents, hardest first, that hold 50 and 90 % of the scalar sum of pT
    jet_mass_over_pt      m / pT, at most 100
    jet_c2, jet_d2        e3 / e2^2 and e3 / e2^3 from energy correlation functions with beta = 1
                          (arXiv:1305.0007, arXiv:1409.6298): e2 = sum_{i<j} z_i z_j R_ij, e3 = sum_{i<j<k}
                          z_i z_j z_k R_ij R_jk R_ik

Other names are jet columns of the batch (`JetBatch.select_jets`): `jet_mass`, `jet_pt`, `jet_nparticles`, or
any the file has, such as `jet_sdmass`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.extras import Extra, register
from hepml.data.jet_columns import needed_from_file
from hepml.packed.pooling import segment_max
from hepml.packed.rectangle import to_dense
from hepml.packed.rectangular import mask_behind, spread
from hepml.packed.segments import segment_sum

# Entries of the pair matrices taken at a time.
_ENTRIES = 1 << 22
_LARGEST_RATIO = 100.0  # of mass to transverse momentum
CORRELATIONS = "jet_correlations"  # the extra of c2 and d2
# Names whose value neither a soft emission nor a collinear splitting changes.
SAFE = (
    "jet_mass", "jet_mass_over_pt", "jet_pt", "jet_width", "jet_lha", "jet_thrust", "jet_eccentricity",
    "jet_c2", "jet_d2",
)  # fmt: skip


def observables(batch: JetBatch, names: Sequence[str]) -> Tensor:
    """Jet-level observables by name, [B, len(names)].

    Raises:
        LayoutError: a name is neither an observable nor a column of the batch.
    """
    cached: dict[str, Tensor] = {}
    parts = []
    with torch.autocast(batch.device.type, enabled=False):
        for name in names:
            if name not in cached and name in OBSERVABLES:
                cached.update(OBSERVABLES[name](batch))
            parts.append(cached[name] if name in cached else batch.select_jets([name])[:, 0])
    return torch.stack(parts, dim=-1) if parts else batch.four_momenta.new_zeros((len(batch), 0))


def extras_needed(names: Sequence[str]) -> tuple[str, ...]:
    """What is computed once, at loading, for these names: a sum over triplets takes longer than a training
    step of a small network."""
    return (CORRELATIONS,) if {"jet_c2", "jet_d2"} & set(names) else ()


def columns_needed(names: Sequence[str]) -> tuple[str, ...]:
    """Of these names, those that the file must have: neither observables of the constituents nor sums over
    them."""
    return needed_from_file([name for name in names if name not in OBSERVABLES])


def _shares(batch: JetBatch) -> Tensor:
    pt = kinematics.pt(batch.four_momenta)
    total = segment_sum(pt[:, None], batch.offsets)[:, 0]
    return pt / spread(total.clamp_min(torch.finfo(pt.dtype).tiny), batch.offsets, pt.shape[0])


def _moments(batch: JetBatch) -> dict[str, Tensor]:
    z = _shares(batch)
    eta, phi = batch.columns["delta_eta"], batch.columns["delta_phi"]
    sums = segment_sum(torch.stack((z * kinematics.length(eta, phi), z * z), dim=-1), batch.offsets)
    leading = segment_max(z[:, None], batch.offsets)[:, 0]
    return {"jet_width": sums[:, 0], "jet_ptd": sums[:, 1].sqrt(), "jet_leading_fraction": leading}


def _angularities(batch: JetBatch) -> dict[str, Tensor]:
    z = _shares(batch)
    eta, phi = batch.columns["delta_eta"], batch.columns["delta_phi"]
    squared = eta * eta + phi * phi
    # a power of zero has no gradient
    root = torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).pow(0.25), 0.0)
    columns = (z * root, z * squared, z * eta * eta, z * phi * phi, z * eta * phi)
    lha, thrust, a, b, c = segment_sum(torch.stack(columns, dim=-1), batch.offsets).unbind(-1)
    # eigenvalues t/2 +- w of [[a, c], [c, b]], t the trace
    difference = ((a - b) / 2).square() + c * c
    w = torch.where(difference > 0, torch.where(difference > 0, difference, 1.0).sqrt(), 0.0)
    largest = (a + b) / 2 + w
    eccentric = torch.where(largest > 0, 2 * w / largest.clamp_min(torch.finfo(w.dtype).tiny), 0.0)
    return {"jet_lha": lha, "jet_thrust": thrust, "jet_eccentricity": eccentric}


def _entropy(batch: JetBatch) -> dict[str, Tensor]:
    z = _shares(batch)
    terms = -z * torch.log(z.clamp_min(torch.finfo(z.dtype).tiny))
    return {"jet_entropy": segment_sum(terms[:, None], batch.offsets)[:, 0]}


def _numbers(batch: JetBatch) -> dict[str, Tensor]:
    z = to_dense(_shares(batch).detach()[:, None], batch.offsets, batch.max_count)[..., 0]
    hardest = z.sort(dim=1, descending=True).values
    before = hardest.cumsum(dim=1) - hardest  # what the harder ones hold
    return {
        f"jet_n{percent}": ((before < percent / 100) & (hardest > 0)).sum(dim=1).to(z.dtype)
        for percent in (50, 90)
    }


def _mass_over_pt(batch: JetBatch) -> dict[str, Tensor]:
    pt, mass = kinematics.pt(batch.jets), kinematics.mass(batch.jets)
    beyond = mass >= _LARGEST_RATIO * pt  # where constituents balance; a bound in place of a huge gradient
    ratio = mass / pt.masked_fill(beyond, 1.0)
    bound = (mass > 0).to(mass.dtype) * _LARGEST_RATIO
    return {"jet_mass_over_pt": torch.where(beyond, bound, ratio)}


def _correlations(batch: JetBatch) -> dict[str, Tensor]:
    differentiated = torch.is_grad_enabled() and batch.four_momenta.requires_grad
    if CORRELATIONS not in batch.extras or differentiated:
        return _correlations_of(batch)
    c2, d2 = batch.extras[CORRELATIONS].unbind(-1)
    return {"jet_c2": c2, "jet_d2": d2}


def _correlations_of(batch: JetBatch) -> dict[str, Tensor]:
    table = torch.stack((_shares(batch), batch.columns["delta_eta"], batch.columns["delta_phi"]), dim=-1)
    if mask_behind(batch.offsets) is not None:
        return _ratios(*_correlators(to_dense(table, batch.offsets)))
    step = max(1, _ENTRIES // max(1, batch.max_count) ** 2)
    e2, e3 = [table.new_zeros(0)], [table.new_zeros(0)]
    cuts = [*range(0, len(batch), step), len(batch)]
    for (start, stop), (low, high) in zip(
        pairwise(cuts), pairwise(batch.offsets[cuts].tolist()), strict=True
    ):
        offsets, own = batch.offsets[start : stop + 1], table[low:high]
        two, three = _correlators(to_dense(own, offsets - offsets[0]))
        e2.append(two)
        e3.append(three)
    return _ratios(torch.cat(e2), torch.cat(e3))


def _correlators(dense: Tensor) -> tuple[Tensor, Tensor]:
    """e2 and e3, [B] each, of (z, delta_eta, delta_phi) [B, P, 3], zero where there is no constituent."""
    z, eta, phi = dense.unbind(-1)
    r = kinematics.delta_r(eta[:, :, None], phi[:, :, None], eta[:, None, :], phi[:, None, :])
    weighted = r * z[:, None, :]  # R_ij z_j
    three = ((weighted @ weighted) * r.transpose(1, 2) * z[:, :, None]).sum(dim=(1, 2)) / 6
    return 0.5 * (z[:, :, None] * weighted).sum(dim=(1, 2)), three


def _ratios(two: Tensor, three: Tensor) -> dict[str, Tensor]:
    safe = two.clamp_min(1e-6)
    return {
        "jet_c2": torch.where(two > 1e-6, three / safe**2, 0.0),
        "jet_d2": torch.where(two > 1e-6, three / safe**3, 0.0),
    }


OBSERVABLES: dict[str, Callable[[JetBatch], dict[str, Tensor]]] = {
    "jet_width": _moments,
    "jet_lha": _angularities,
    "jet_thrust": _angularities,
    "jet_eccentricity": _angularities,
    "jet_ptd": _moments,
    "jet_leading_fraction": _moments,
    "jet_entropy": _entropy,
    "jet_n50": _numbers,
    "jet_n90": _numbers,
    "jet_mass_over_pt": _mass_over_pt,
    "jet_c2": _correlations,
    "jet_d2": _correlations,
}


def _make_correlations(four_momenta: Tensor, offsets: Tensor) -> Tensor:
    return torch.stack(tuple(_correlations_of(JetBatch(four_momenta, offsets)).values()), dim=-1)


register(Extra(CORRELATIONS, "jet", _make_correlations, in_graph=True))
