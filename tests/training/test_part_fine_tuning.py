"""`model: {pretrained: PATH}` starts a training from a Particle Transformer that weaver made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hepml import load_model, pretrained
from hepml.training.run import train
from hepml.training.run_config import RunConfig

WEIGHTS = Path(__file__).resolve().parents[1] / "pretrained" / "data"


@pytest.mark.parametrize("how", ["training.freeze_norms=true", "training.freeze=[embed, pair_embed]"])
def test_weavers_weights_are_fine_tuned(tiny: Callable[..., RunConfig], tmp_path: Path, how: str) -> None:
    """The stored weights are random ones of weaver's network with 7 inputs; frozen norms keep its statistics,
    and the rest learns."""
    path = WEIGHTS / "weaver_part_7.pt"
    config = tiny(f"model={{pretrained: '{path}'}}", "training.epochs=1", "training.learning_rate=1e-3", how)
    train(config, tmp_path / "run")
    model, given = load_model(tmp_path / "run"), pretrained.load(path)
    assert model.hepml_name == "part"
    assert model.rounded_masses, "as what the weights were trained with"
    before, after = given.state_dict(), model.state_dict()
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 10
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    moved = (after["blocks.0.fc1.weight"] - before["blocks.0.fc1.weight"]).abs()
    assert 1e-5 < float(moved.max()) < 0.1
