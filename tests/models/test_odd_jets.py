"""Every registered tagger, and its variants, is finite in outputs, gradients and running statistics on odd
jets: those that the reader's rule lets through, and those that only arrays given by hand can bring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_taggers import CASES, random_tagger

from hepml.data.batch import JetBatch
from hepml.data.reading.screen import unphysical


def massless(pt: list[float], eta: list[float] | float, phi: list[float] | float) -> np.ndarray:
    pt_, eta_, phi_ = np.broadcast_arrays(np.asarray(pt, dtype=float), eta, phi)
    momenta = (pt_ * np.cosh(eta_), pt_ * np.cos(phi_), pt_ * np.sin(phi_), pt_ * np.sinh(eta_))
    return np.stack(momenta, axis=1)


def usual(constituents: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    p = massless(
        rng.exponential(20, constituents) + 1,
        rng.normal(0, 0.3, constituents),
        rng.normal(0, 0.3, constituents),
    )
    p[:, 0] = np.hypot(p[:, 0], 0.14)
    return p


# What passes the reader's rule (`hepml.data.reading.screen`).
PASSING = {
    "no constituent": np.zeros((0, 4)),
    "one constituent": usual(1, 1),
    "one massless constituent": massless([30.0], 0.5, 1.0),
    "collinear constituents": massless([30.0, 60.0, 90.0], 0.5, 1.0),
    "equal momenta": np.repeat(usual(1, 2), 8, axis=0),
    "very forward": massless([0.5, 1.0, 2.0], [9.9, 9.8, -9.9], [0.0, 1.0, 2.0]),
    "one very forward constituent": massless([0.5], 9.95, 0.0),
    "no transverse momentum, but for rounding": massless([20.0, 20.0], 0.3, [0.0, np.pi]),
    "no transverse momentum": np.array([[30.0, 30.0, 0.0, 0.0], [30.0, -30.0, 0.0, 0.0]]),
    "no momentum, all mass": np.array([[10.0, 1e-3, 0.0, 0.0], [10.0, -1e-3, 0.0, 0.0]]),
    "huge transverse momentum": massless([1e7, 3e6, 10.0], [0.1, 0.0, 2.0], [0.0, 0.1, 0.2]),
    "tiny transverse momentum": massless([1e-6, 1e-5], [0.1, 0.0], [0.0, 0.1]),
    "constituents on both sides of the detector": massless([50.0, 40.0], [5.0, -5.0], [0.0, 3.0]),
}
# What is screened in files; by hand it can still be given.
BY_HAND = {
    "on the beam line": np.array([[100.0, 0.0, 0.0, 100.0]]),
    "back to back on the beam line": np.array([[50.0, 0.0, 0.0, 50.0], [50.0, 0.0, 0.0, -50.0]]),
    "zero": np.zeros((1, 4)),
    "at rest": np.array([[1.0, 0.0, 0.0, 0.0]]),
}


def batch_of(jets: list[np.ndarray]) -> JetBatch:
    offsets = np.cumsum([0] + [len(jet) for jet in jets])
    return JetBatch.from_arrays(
        np.concatenate(jets).astype(np.float32), offsets, labels=np.arange(len(jets)) % 2
    )


def test_the_odd_jets_are_those_that_the_rule_lets_through_and_those_that_it_does_not() -> None:
    for name, jet in PASSING.items():
        assert not any(rows.any() for _, rows in unphysical(jet.astype(np.float32))), name
    for name, jet in BY_HAND.items():
        assert any(rows.any() for _, rows in unphysical(jet.astype(np.float32))), name


@pytest.mark.parametrize("case", CASES)
def test_outputs_gradients_and_statistics_are_finite_on_odd_jets(case: str) -> None:
    model = random_tagger(case)
    odd = {**PASSING, **BY_HAND}
    batch = batch_of([jet for i, jet in enumerate(odd.values()) for jet in (jet, usual(12, 10 + i))])
    with torch.no_grad():
        scores = model.eval()(batch)
    bad = [name for name, row in zip(odd, scores[::2], strict=True) if not torch.isfinite(row).all()]
    assert not bad
    out = model.train()(batch)
    assert torch.isfinite(out).all()
    torch.nn.functional.cross_entropy(out, batch.labels).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(torch.isfinite(b).all() for b in model.buffers() if b.is_floating_point())


@pytest.mark.parametrize("case", CASES)
def test_each_odd_jet_alone_has_finite_gradients(case: str) -> None:
    model = random_tagger(case).eval()
    for name, jet in PASSING.items():
        model.zero_grad()
        batch = batch_of([jet])
        momenta = batch.four_momenta.requires_grad_()
        model(batch.with_four_momenta(momenta)).square().sum().backward()
        grads = [p.grad for p in (momenta, *model.parameters()) if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in grads), name
