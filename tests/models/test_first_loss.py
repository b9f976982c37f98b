"""No network starts lost: the first loss of every registered tagger with its own config is near ln C."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hepml import objectives
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.models import registry
from hepml.training.building import create_model
from hepml.training.run_config import RunConfig, load_run_config

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "configs" / "toptag").glob("*.yaml"))


@cache
def own_configs() -> dict[str, RunConfig]:
    """A config for every registered tagger: its own, or the first that names it, or its defaults."""
    found: dict[str, RunConfig] = {}
    for path in sorted(CONFIGS, key=lambda p: len(p.stem)):
        config = load_run_config(path)
        if config.model_name is not None and config.pretrained is None:
            found.setdefault(config.model_name, config)
    plain = load_run_config(REPOSITORY / "configs" / "toptag" / "mlp.yaml", ["objective=categorical"])
    for name in registry():
        found.setdefault(name, plain.model_copy(update={"model": name}))
    return found


def first_losses(config: RunConfig, jets: int = 64) -> list[float]:
    """In units of ln C, of three initialisations."""
    objective = objectives.objective(config.objective_name, **config.objective_arguments)
    losses = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = create_model(config, None, objective.outputs).train()
        data = JetDataset.open(
            str(config.data.train),
            model.inputs,
            classes=config.data.classes,
            max_jets=jets,  # type: ignore[arg-type]
        )
        batch: JetBatch = data.batch(np.arange(len(data)))
        with torch.no_grad():
            losses.append(float(objective.loss(model(batch), batch.labels)) / math.log(2))  # type: ignore[arg-type]
    return losses


@pytest.mark.parametrize("name", sorted(registry()))
def test_the_first_loss_is_that_of_a_network_that_knows_nothing(name: str) -> None:
    losses = first_losses(own_configs()[name])
    assert max(losses) <= 1.5, losses


def test_the_published_initialisation_can_be_asked_for() -> None:
    config = load_run_config(REPOSITORY / "configs/toptag/lgn.yaml", ["model.initialisation=published"])
    assert max(first_losses(config)) > 1.5 > max(first_losses(own_configs()["lgn"]))
