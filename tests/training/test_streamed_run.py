"""A run whose jets stay in their files: the same jets held out and scored as in memory, and one that
is killed goes on bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stopping import resumed_as_uninterrupted

from hepml.data import shards, stream_loader
from hepml.errors import ConfigError
from hepml.training.run import train
from hepml.training.run_config import RunConfig

Tiny = Callable[..., RunConfig]


def test_a_killed_streamed_run_ends_as_one_that_was_not(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 30)
    monkeypatch.setattr(stream_loader, "POOL_BYTES", 60_000)
    config = tiny("data.stream=true", "data.workers=0", "data.val=0.2", "training.epochs=2")

    whole, resumed = resumed_as_uninterrupted(config, tmp_path, (1, 2))
    assert resumed["test"] == whole["test"]
    assert 0 < whole["loader_seconds"] <= whole["seconds"]
    in_memory = train(tiny("data.val=0.2", "training.epochs=1"), tmp_path / "memory")
    assert in_memory["jets"] == whole["jets"]
    assert in_memory["jets_per_epoch"] == whole["jets_per_epoch"]
    assert in_memory["loader_seconds"] > 0


@pytest.mark.parametrize(
    "setting", ["data.cache=jets", "data.max_jets=50", "data.reweight={columns: {jet_pt: [0, 1]}}"]
)
def test_what_needs_all_jets_at_hand_is_refused_beside_streaming(
    tiny: Tiny, tmp_path: Path, setting: str
) -> None:
    with pytest.raises(ConfigError, match=r"and data\.stream do not go together"):
        train(tiny("data.stream=true", setting), tmp_path / "run")
    assert not (tmp_path / "run").exists()
