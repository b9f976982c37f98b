"""The early veto keeps its books: which events went on, and with what weight."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hepml.generation.events import start_pythia
from hepml.generation.recipes import find_recipe, recipes
from hepml.generation.veto import SURVIVAL, PartonWindow, event_weights


def test_weights_find_their_events_in_any_order_and_are_used_once() -> None:
    hook = SimpleNamespace(weights={9.0: 1.0, 4.0: 2.0, 16.0: 3.0})
    assert event_weights(hook, np.array([16.0, 4.0, 9.0])).tolist() == [3.0, 2.0, 1.0]
    assert hook.weights == {}


def test_an_event_that_the_veto_has_not_seen_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="has not seen"):
        event_weights(SimpleNamespace(weights={4.0: 1.0, 9.0: 1.0}), np.array([5.0]))


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_process_leaves_a_margin_around_its_window_and_slices_without_gaps(name: str) -> None:
    for process in find_recipe(name).processes:
        window, selection = process.parton_window, process.selection
        assert (
            window.outer[0]
            < window.inner[0]
            < selection.pt_min
            < selection.pt_max
            < window.inner[1]
            < window.outer[1]
        )
        assert sum(piece.share for piece in process.slices) == pytest.approx(1.0)
        for below, above in zip(process.slices, process.slices[1:], strict=False):
            assert below.high == above.low


def test_the_roulette_does_not_change_the_cross_section() -> None:
    settings = (
        "HardQCD:all = on",
        "PartonLevel:MPI = off",
        "HadronLevel:all = off",
        "PhaseSpace:pTHatMin = 500",
        "PhaseSpace:pTHatMax = 600",
    )
    narrow = PartonWindow(outer=(480.0, 800.0), inner=(560.0, 640.0))
    wide = PartonWindow(outer=(480.0, 800.0), inner=(480.0, 800.0))
    sections = []
    for window in (narrow, wide):
        generator = start_pythia(settings, 7, window, np.random.default_rng(7))
        weights = np.concatenate([batch.weight for batch in generator.batches(600, None)])
        sections.append(generator.cross_section() * weights.mean())
    assert set(np.unique(weights)) == {1.0}
    assert SURVIVAL < 1
    # both count the same events; the error of 600 events with weights of one or 1/SURVIVAL is about 6 %
    assert sections[0] == pytest.approx(sections[1], rel=0.2)
