"""Two ranks take the step that one process takes, for every registered model: batch norms and whitenings
measure the jets of both, and weights that are shared out (FSDP2) learn what whole ones learn.

Real processes, started by torchrun: `pytest -m slow tests/training/test_models_on_ranks.py`. In the default
suite the exchange is tested with a stand-in for the other rank."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_taggers import CASES, NAMES, random_tagger
from torch import nn

from hepml.nn import across_ranks
from hepml.nn.across_ranks import synchronise

WORKER = Path(__file__).with_name("rank_gradients.py")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fsdp by blocks"])
def test_two_ranks_find_the_gradients_of_one_process(tmp_path: Path, kind: str) -> None:
    with_blocks = [name for name in CASES if getattr(random_tagger(name), "sharded_blocks", None)]
    names = with_blocks if kind == "fsdp by blocks" else list(CASES)
    assert names
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*start, str(WORKER), kind, str(tmp_path / "found.json"), *names],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == set(names)
    bad = {
        name: told
        for name, told in found.items()
        if isinstance(told, str) or told["gradients"] > 1e-6 or told["statistics"] > 1e-6
    }
    assert not bad


def test_every_norm_of_every_registered_model_can_measure_all_ranks() -> None:
    """A plain `nn.BatchNorm1d` would measure each rank's jets without a word."""
    counts = {name: synchronise(random_tagger(name)) for name in NAMES}
    assert {name: apart for name, (_, apart) in counts.items() if apart} == {}
    assert counts["particlenet"][0] > 3
    assert counts["pfn"] == (0, 0)


def test_norms_of_other_libraries_and_unsynchronised_ones_are_counted() -> None:
    assert synchronise(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) == (0, 1)
    model = random_tagger("particlenet")
    many, _ = synchronise(model)
    assert synchronise(model, False) == (0, many)


@pytest.mark.parametrize("rows", [(5, 7), (0, 7), (1, 1)])
def test_statistics_of_two_ranks_are_those_of_all_rows(
    rows: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rank is a stand-in, whose part of each sum is added; a large mean costs no digits."""
    torch.manual_seed(0)
    x = torch.randn(sum(rows), 3) + 1e4
    own, other = x[: rows[0]], x[rows[0] :].double()
    mean = x.double().mean(0)
    theirs = iter(
        [
            torch.cat((torch.tensor([float(rows[1])]).double(), other.sum(0))),
            (other - mean).square().sum(0),
        ]
    )
    monkeypatch.setattr(across_ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(across_ranks, "_summed", lambda part: part + next(theirs))
    own = own.double()
    measured = (own.mean(0), own.var(0, correction=0)) if len(own) else (own.sum(0), own.sum(0))
    found, variance, count = across_ranks.combined(*measured, len(own))
    assert count == sum(rows)
    torch.testing.assert_close(found, mean)
    torch.testing.assert_close(variance, x.double().var(0, correction=0), rtol=1e-9, atol=0)
