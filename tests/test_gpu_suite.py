"""The GPU benchmark goes through without a GPU too, so that it runs as it is where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu_suite import _jets, count_synchronisations, measure


def test_the_suite_measures_every_row_it_is_asked_for(toptag: Path) -> None:
    found = measure(
        _jets(toptag / "test.root", 8), torch.device("cpu"), models=("pfn", "nonsense"), rounds=1,
        compile_them=False, small=True,
    )  # fmt: skip
    rows = {(row.model, row.precision): row for row in found.rows}
    assert len(rows) == 4
    good = rows["pfn", "float32"]
    assert good.problem is None
    assert good.training is not None
    assert good.training > 0
    assert good.share is not None
    assert "nonsense" in (rows["nonsense", "float32"].problem or "")


def test_rows_that_the_time_limit_does_not_reach_are_named(toptag: Path) -> None:
    found = measure(
        _jets(toptag / "test.root", 4), torch.device("cpu"), models=("pfn",), limit=-1.0, small=True
    )
    assert found.rows == []
    assert "pfn, float32, compiled" in found.not_reached


@pytest.mark.gpu
def test_no_step_waits_for_the_device(toptag: Path) -> None:
    found = measure(
        _jets(toptag / "test.root", 64), torch.device("cuda"), models=("pfn", "particlenet"), rounds=1
    )
    assert {row.synchronisations for row in found.rows} == {0}
    assert count_synchronisations(lambda: torch.ones(1, device="cuda").item()) == 1
