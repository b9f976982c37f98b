"""Declared symmetries, measured in float64, each beside a change or a model that breaks it."""

from __future__ import annotations

import pytest
import torch
from cloud import cloud, shuffled, tilted, turned, with_emission, with_splitting
from test_taggers import NAMES, built

from hepml.data.batch import JetBatch
from hepml.models import entry

EXACT = 1e-9


def change(name: str, before: JetBatch, after: JetBatch) -> float:
    """Largest change of a logit."""
    model = built(name)
    with torch.no_grad():
        return float((model(after) - model(before)).abs().max())


@pytest.mark.parametrize("name", [n for n in NAMES if "permutation" in entry(n).symmetries])
def test_scores_are_unchanged_by_permuting_constituents(name: str) -> None:
    batch = cloud()
    assert change(name, batch, shuffled(batch)) < EXACT


def test_permuting_moves_the_constituents_at_all() -> None:
    batch = cloud()
    assert not torch.equal(batch.four_momenta, shuffled(batch).four_momenta)


@pytest.mark.parametrize("name", [n for n in NAMES if "azimuthal-rotation" in entry(n).symmetries])
def test_scores_are_unchanged_by_rotations_about_the_beam_only(name: str) -> None:
    batch = cloud()
    assert change(name, batch, turned(batch)) < EXACT
    assert change(name, batch, tilted(batch)) > 1e-4


def test_efn_score_is_unchanged_by_a_collinear_splitting_and_pfn_is_not() -> None:
    batch = cloud((30, 12, 41, 5, 1))
    for share in (0.5, 0.1, 0.01):
        split = with_splitting(batch, share)
        assert change("efn", batch, split) < EXACT
        assert change("pfn", batch, split) > 1e-3


def test_efn_score_tends_to_the_unsplit_one_as_the_angle_closes() -> None:
    batch = cloud((30, 12, 41, 5, 1))
    wide, narrow, closed = (change("efn", batch, with_splitting(batch, 0.3, angle)) for angle in (1e-1, 1e-3, 1e-6))
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


def test_efn_is_the_only_tagger_here_that_claims_infrared_and_collinear_safety() -> None:
    assert [n for n in NAMES if "irc-safe" in entry(n).symmetries] == ["efn"]
    batch = cloud((30, 12, 41))
    for name in NAMES:
        if name != "efn":
            assert change(name, batch, with_splitting(batch, 0.5)) > 1e-4, name
