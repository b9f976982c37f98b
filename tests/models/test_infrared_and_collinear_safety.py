"""Infrared and collinear safety as it fades in and out; that it holds, as all declared symmetries, is
measured in `test_declared_symmetries.py`."""

from __future__ import annotations

import torch
from cloud import cloud, with_emission, with_splitting
from small_taggers import seen

from hepml.data.batch import JetBatch

EXACT = 1e-9


def change(name: str, before: JetBatch, after: JetBatch) -> float:
    """Largest change of a logit."""
    model = seen(name)
    with torch.no_grad():
        return float((model(after) - model(before)).abs().max())


def test_efn_score_is_unchanged_by_a_collinear_splitting_and_pfn_is_not() -> None:
    batch = cloud((30, 12, 41, 5, 1))
    for share in (0.5, 0.1, 0.01):
        split = with_splitting(batch, share)
        assert change("efn", batch, split) < EXACT
        assert change("pfn", batch, split) > 1e-3


def test_efn_score_tends_to_the_unsplit_one_as_the_angle_closes() -> None:
    batch = cloud((30, 12, 41, 5, 1))
    wide, narrow, closed = (
        change("efn", batch, with_splitting(batch, 0.3, angle)) for angle in (1e-1, 1e-3, 1e-6)
    )
    assert wide > 10 * narrow > 100 * closed
    assert closed < 1e-5


def test_efn_score_forgets_a_soft_emission_linearly_and_pfn_remembers_it() -> None:
    batch = cloud((30, 12, 41, 5, 1))
    moved = {
        name: [change(name, batch, with_emission(batch, share)) for share in (1e-2, 1e-4, 1e-6)]
        for name in ("efn", "pfn")
    }
    for before, after in zip(moved["efn"][:-1], moved["efn"][1:], strict=True):
        assert after < 0.02 * before  # a hundred times softer, a hundred times less
    assert moved["efn"][-1] < 1e-5
    assert moved["pfn"][-1] > 1e-2
