"""The moving average of weights is what is measured and saved; steps of several batches; Muon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import resumed_as_uninterrupted
from torch import nn

from hepml.training.averages import WeightAverage
from hepml.training.checkpoints import load_model, read_checkpoint
from hepml.training.module import TrainingModule
from hepml.training.optimizers import Together, build_optimizer
from hepml.training.run import train
from hepml.training.run_config import RunConfig
from hepml.training.training_config import TrainingConfig

Tiny = Callable[..., RunConfig]


def test_the_average_is_that_of_the_weights_at_every_step() -> None:
    model, average = nn.Linear(2, 1), WeightAverage(0.9)
    expected, steps = None, 30
    for n in range(1, steps + 1):
        with torch.no_grad():
            model.weight.normal_()
        average.update(model)
        now = model.weight.detach().clone()
        keep = min(0.9, (1 + n) / (10 + n))
        expected = now if expected is None else keep * expected + (1 - keep) * now
    torch.testing.assert_close(average.values["weight"], expected)
    with average.in_place_of(model):
        torch.testing.assert_close(model.weight.detach(), expected)
    torch.testing.assert_close(model.weight.detach(), now)


def test_the_saved_model_is_the_average_and_its_validation_loss_is_the_one_reported(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny("training.average=0.9", "training.epochs=2", "training.schedule=constant")
    summary = train(config, tmp_path / "run")
    content = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    own, saved = content["hepml_own_weights"]["values"], content["state_dict"]
    assert any(not torch.equal(own[name], saved[f"model.{name}"]) for name in own)
    model = load_model(tmp_path / "run/checkpoints/best.ckpt")
    from hepml.data.dataset import JetDataset

    val = JetDataset.open(config.data.val, model.inputs)  # type: ignore[arg-type]
    batch = val.batch(slice(None))
    with torch.no_grad():
        loss = model.hepml_objective.loss(model(batch), batch.labels)  # type: ignore[operator, union-attr]
    assert float(loss) == pytest.approx(summary["validation"]["val_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ("training.average=0.9", "training.optimizer=muon"),
        ("training.average=0.9", "training.accumulate=2"),
        ("data.class_weights=equal", "training.optimizer=soap"),
    ],
    ids=["muon", "accumulate", "soap"],
)
def test_a_killed_run_goes_on_with_the_same_average_and_optimizer(
    tiny: Tiny, tmp_path: Path, words: tuple[str, ...]
) -> None:
    resumed_as_uninterrupted(tiny(*words), tmp_path)


def test_a_killed_run_goes_on_with_the_same_average_of_its_heads(tiny: Tiny, tmp_path: Path) -> None:
    resumed_as_uninterrupted(tiny("training.average=0.9", "auxiliary.mass.target=jet_mass"), tmp_path)
    kept = read_checkpoint(tmp_path / "broken/checkpoints/last.ckpt")
    own = kept["hepml_own_heads"]["values"]
    assert any(name.startswith("side.heads.") for name in kept["state_dict"])
    assert any(not torch.equal(own[name], kept["state_dict"][f"side.{name}"]) for name in own)


@pytest.mark.parametrize(
    "parts", [(100, 4), (150, 3), (150, 8)], ids=["full", "a smaller last batch", "a step of few batches"]
)
def test_accumulated_gradients_make_the_step_of_the_whole_batch(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[int, int]
) -> None:
    seen: dict[str, list[float]] = {}
    step = TrainingModule.optimizer_step
    for name, (jets, batches) in {"whole": (400, 1), "parts": parts}.items():
        norms: list[float] = []

        def watched(self: TrainingModule, *arguments: object, norms: list[float] = norms) -> None:
            before = [p.detach().clone() for p in self.model.parameters()]
            step(self, *arguments)
            moved = (p.detach() - b for p, b in zip(self.model.parameters(), before, strict=True))
            norms.append(float(sum(m.double().square().sum() for m in moved)))

        monkeypatch.setattr(TrainingModule, "optimizer_step", watched)
        words = (f"training.batch_size={jets}", f"training.accumulate={batches}")
        config = tiny("training.epochs=1", "training.optimizer=sgd", "training.schedule=constant", *words)
        train(config, tmp_path / name)
        seen[name] = norms
    assert len(seen["whole"]) == len(seen["parts"]) == 1
    np.testing.assert_allclose(seen["whole"], seen["parts"], rtol=1e-4)


def test_muon_takes_hidden_matrices_and_adamw_the_rest() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    optimizer = build_optimizer(model, TrainingConfig(optimizer="muon", learning_rate=0.01))
    assert isinstance(optimizer, Together)
    muon, adam = optimizer.parts
    assert {id(p) for g in muon.param_groups for p in g["params"]} == {
        id(model[0].weight),
        id(model[2].weight),
    }
    count = sum(p.numel() for g in adam.param_groups for p in g["params"])
    assert count == 4 + 3 + 2 + 6
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert {g["lr"] for part in optimizer.parts for g in part.param_groups} == {0.005}
    x = torch.randn(64, 5)
    before = float(model(x).detach().square().mean())
    for _ in range(50):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        schedule.step()
    assert float(model(x).detach().square().mean()) < 0.5 * before
