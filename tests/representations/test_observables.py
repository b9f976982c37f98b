"""Jet observables against sums written out by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hepml.data.batch import JetBatch
from hepml.errors import HepmlError
from hepml.representations.observables import OBSERVABLES, columns_needed, extras_needed, observables


def jets(counts: tuple[int, ...], seed: int = 0) -> JetBatch:
    rng = np.random.default_rng(seed)
    n = sum(counts)
    pt, eta, phi = rng.exponential(20, n) + 1, rng.normal(0.5, 0.3, n), rng.normal(1.0, 0.3, n)
    p = np.stack((pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)), axis=1)
    return JetBatch.from_arrays(p, np.concatenate([[0], np.cumsum(counts)]))


def by_hand(p: np.ndarray) -> dict[str, float]:
    pt, phi = np.hypot(p[:, 1], p[:, 2]), np.arctan2(p[:, 2], p[:, 1])
    eta = np.arcsinh(p[:, 3] / pt)
    z = pt / pt.sum()
    e, x, y, w = p.sum(0)
    axis = (math.asinh(w / math.hypot(x, y)), math.atan2(y, x))

    def apart(i: int, j: int) -> float:
        return math.hypot(eta[i] - eta[j], phi[i] - phi[j])

    e2 = sum(z[i] * z[j] * apart(i, j) for i, j in itertools.combinations(range(len(p)), 2))
    e3 = sum(
        z[i] * z[j] * z[k] * apart(i, j) * apart(j, k) * apart(i, k)
        for i, j, k in itertools.combinations(range(len(p)), 3)
    )
    r = np.hypot(eta - axis[0], phi - axis[1])
    around = np.stack((eta - axis[0], phi - axis[1]))
    tensor = (z * around) @ around.T
    small, large = np.linalg.eigvalsh(tensor)
    held = np.cumsum(np.sort(z)[::-1])
    return {
        "jet_width": float((z * r).sum()),
        "jet_lha": float((z * np.sqrt(r)).sum()),
        "jet_thrust": float((z * r**2).sum()),
        "jet_eccentricity": float(1 - small / large),
        "jet_ptd": float(np.sqrt((z**2).sum())),
        "jet_leading_fraction": float(z.max()),
        "jet_entropy": float(-(z * np.log(z)).sum()),
        "jet_n50": float(np.searchsorted(held, 0.5) + 1),
        "jet_n90": float(np.searchsorted(held, 0.9) + 1),
        "jet_mass_over_pt": math.sqrt(e * e - x * x - y * y - w * w) / math.hypot(x, y),
        "jet_c2": e3 / e2**2,
        "jet_d2": e3 / e2**3,
    }


def test_every_observable_is_the_sum_written_out() -> None:
    batch = jets((9, 3, 14))
    found = observables(batch, tuple(OBSERVABLES))
    for b, (low, high) in enumerate(itertools.pairwise(batch.offsets.tolist())):
        expected = by_hand(batch.four_momenta[low:high].numpy())
        assert set(expected) == set(OBSERVABLES)
        for name, value in zip(OBSERVABLES, found[b].tolist(), strict=True):
            assert value == pytest.approx(expected[name], rel=1e-8), name


def test_jets_with_no_one_or_two_constituents_have_finite_observables() -> None:
    batch = jets((0, 1, 2, 5))
    found = observables(batch, tuple(OBSERVABLES))
    assert torch.isfinite(found).all()
    assert torch.equal(found[0], torch.zeros(len(OBSERVABLES), dtype=found.dtype))


def test_columns_of_the_file_are_read_and_declared() -> None:
    batch = jets((4, 5))
    stored = JetBatch.from_arrays(
        batch.four_momenta,
        batch.offsets,
        jet_features=torch.tensor([[170.0], [80.0]]),
        jet_feature_names=("jet_sdmass",),
    )
    assert observables(stored, ("jet_ptd", "jet_sdmass"))[:, 1].tolist() == [170.0, 80.0]
    assert columns_needed(("jet_ptd", "jet_mass", "jet_sdmass")) == ("jet_sdmass",)
    with pytest.raises(HepmlError, match="jet_sdmass"):
        observables(batch, ("jet_sdmass",))


def test_correlations_made_at_loading_are_those_of_the_jets() -> None:
    batch = jets((10, 2, 0, 1, 17))
    names = ["jet_c2", "jet_width", "jet_d2"]
    fresh = observables(batch, names)
    (name,) = extras_needed(names)
    kept = replace(batch, extras={name: batch.extra(name)})
    torch.testing.assert_close(observables(kept, names), fresh)
    marked = replace(batch, extras={name: torch.full((5, 2), 7.0, dtype=batch.dtype)})
    assert observables(marked, ["jet_c2"])[:, 0].tolist() == [7.0] * 5
    assert extras_needed(["jet_width"]) == ()
