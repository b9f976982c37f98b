"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

import pytest

from hepml.training.schedules import SCHEDULES, learning_rate


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_zero_and_the_configured_rate(name: str) -> None:
    rates = [learning_rate(name, 100)(step) for step in range(100)]
    assert all(0 < r <= 1 + 1e-12 for r in rates)
    assert max(rates) > 0.95


@pytest.mark.parametrize("name", ["cosine", "exponential", "flat_decay", "particlenet"])
def test_a_decaying_schedule_ends_at_the_final_fraction(name: str) -> None:
    assert learning_rate(name, 1000, final=0.03)(999) == pytest.approx(0.03, rel=1e-6)


def test_one_cycle_has_the_published_three_pieces() -> None:
    rate = learning_rate("one_cycle", 1001, final=0.01)
    assert [rate(s) for s in (0, 200, 400, 600, 800, 1000)] == pytest.approx(
        [0.1, 0.55, 1.0, 0.55, 0.1, 0.001]
    )


def test_particlenet_rises_stays_and_falls() -> None:
    rate = learning_rate("particlenet", 1001)
    assert [rate(s) for s in (0, 100, 400, 699)] == pytest.approx([0.1, 1.0, 1.0, 1.0])
    assert rate(850) == pytest.approx(0.1)


def test_a_warm_up_rises_linearly_and_hands_over_to_the_schedule() -> None:
    rate = learning_rate("cosine", 110, warmup_steps=10)
    rises = [rate(s) for s in range(10)]
    assert rises == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert rate(10) == pytest.approx(1.0)
