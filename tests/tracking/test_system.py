"""System metrics are taken in the background and cannot end a run."""

from __future__ import annotations

import logging
import threading

import psutil
import pytest

from hepml.tracking.system import Sampler, sample


def test_a_sample_has_the_machine_and_this_process() -> None:
    values = sample(psutil.Process())
    assert 0 < values["system/process_memory_megabytes"] < values["system/system_memory_usage_megabytes"] * 10
    assert 0 <= values["system/system_memory_usage_percentage"] <= 100
    assert 0 <= values["system/cpu_utilization_percentage"] <= 100


def test_samples_are_numbered_and_one_is_taken_at_the_end() -> None:
    taken: list[int] = []
    several = threading.Event()

    def report(values: dict[str, float], step: int) -> None:
        taken.append(step)
        if step >= 2:
            several.set()

    sampler = Sampler(report, 0.01)
    assert several.wait(30)
    sampler.stop()
    assert taken == list(range(len(taken)))
    single: list[int] = []
    Sampler(lambda values, step: single.append(step), 3600).stop()
    assert single == [0]


def test_a_sampler_that_fails_says_so_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    def report(values: dict[str, float], step: int) -> None:
        raise RuntimeError("no more room")

    with caplog.at_level(logging.WARNING):
        Sampler(report, 3600).stop()
    assert "system metrics stop: no more room" in caplog.text
