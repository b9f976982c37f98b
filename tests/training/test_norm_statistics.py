"""Batch norms measured by some batches with the weights as they are: what is measured, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from notes import Notes
from stopping import resumed_as_uninterrupted
from torch import nn

from hepml import models
from hepml.data.dataset import JetDataset
from hepml.data.loader import JetLoader
from hepml.errors import ConfigError
from hepml.models import registry
from hepml.nn.norm import PackedBatchNorm
from hepml.training.checkpoints import load_model, read_checkpoint
from hepml.training.norm_statistics import first_batches, learning_norms, measure_norms
from hepml.training.random_state import random_state
from hepml.training.run import train
from hepml.training.run_config import RunConfig

Tiny = Callable[..., RunConfig]
LITE = ("model={name: particlenet_lite}", "training.average=0.9", "training.norm_batches=2")


def with_norms() -> list[str]:
    """Every registered tagger that has a batch norm."""
    return [name for name in sorted(registry()) if learning_norms(models.create(name).train())]


@pytest.mark.parametrize("name", with_norms())
def test_a_model_measured_by_one_batch_is_in_evaluation_what_it_is_in_training(
    name: str, toy_files: dict[str, Path]
) -> None:
    torch.manual_seed(0)
    model = models.create(name).train()
    for module in model.modules():  # what is drawn at random differs between the two
        for attribute in ("p", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
    batch = JetDataset.open(toy_files["train"], model.inputs).batch(np.arange(64))
    with torch.no_grad():
        live = model(batch)
        before = model.eval()(batch)
        assert measure_norms(model.train(), [batch]) == len(learning_norms(model))
        after = model.eval()(batch)
    assert (after - live).abs().max() < 0.1 * (before - live).abs().max()
    assert (after - live).std() < 0.05 * live.std()  # the variance kept is the unbiased one


def test_statistics_are_the_mean_over_the_batches_and_all_else_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 4), PackedBatchNorm(4), nn.Dropout(0.5), PackedBatchNorm(4)).train()
    frozen = model[3].eval()
    batches = [torch.randn(50, 3), 2 + torch.randn(50, 3)]
    model(batches[0])
    weights = {name: p.clone() for name, p in model.named_parameters()}
    known, count, state = frozen.running_mean.clone(), model[1].num_batches_tracked.clone(), random_state()
    assert measure_norms(model, batches) == 1  # type: ignore[arg-type]
    with torch.no_grad():
        rows = [model[0](x) for x in batches]
    torch.testing.assert_close(model[1].running_mean, torch.stack([r.mean(0) for r in rows]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([r.var(0) for r in rows]).mean(0))
    assert model[1].momentum == 0.1
    assert torch.equal(model[1].num_batches_tracked, count)
    assert torch.equal(frozen.running_mean, known)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert torch.equal(random_state()["torch"], state["torch"])


def test_norms_that_see_no_rows_keep_what_they_know() -> None:
    model = nn.Sequential(PackedBatchNorm(2)).train()
    model(torch.randn(30, 2))
    known = model[0].running_var.clone()
    assert measure_norms(model, []) == 0
    assert torch.equal(model[0].running_var, known)


def test_what_is_learnt_once_is_not_learnt_a_second_time(toy_files: dict[str, Path]) -> None:
    model = models.create("mlp").train()
    batch = JetDataset.open(toy_files["train"], model.inputs).batch(np.arange(50))
    model(batch)
    learnt = {name: value.clone() for name, value in model.named_buffers()}
    assert any(name.endswith("seen") for name in learnt)
    measure_norms(model, [batch])
    assert all(torch.equal(value, learnt[name]) for name, value in model.named_buffers())
    assert all(module.training for module in model.modules())


def test_the_first_batches_of_an_epoch_leave_its_loader_where_it_is(toy_files: dict[str, Path]) -> None:
    loader = JetLoader(JetDataset.open(toy_files["train"]), 20, shuffle=True, seed=3)
    loader.set_epoch(2)
    epoch = [batch.index.tolist() for batch in loader]
    batches = iter(loader)
    seen = [next(batches).index.tolist() for _ in range(3)]
    again = [batch.index.tolist() for batch in first_batches(loader, 2)]
    seen += [batch.index.tolist() for batch in batches]
    assert seen == epoch
    assert again == epoch[:2]


def test_the_saved_model_has_the_statistics_that_were_measured(tiny: Tiny, tmp_path: Path) -> None:
    summary = train(tiny(*LITE, "training.epochs=2", "training.schedule=constant"), tmp_path / "run")
    config = tiny(*LITE)
    model = load_model(tmp_path / "run/checkpoints/last.ckpt")
    val, jets = (JetDataset.open(path, model.inputs) for path in (config.data.val, config.data.train))  # type: ignore[arg-type]
    loader = JetLoader(jets, 50, shuffle=True, seed=config.training.seed, buckets=False)
    loader.set_epoch(1)
    saved = {name: value.clone() for name, value in model.named_buffers()}
    assert measure_norms(model.train(), first_batches(loader, 2)) == len(learning_norms(model))
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, saved[name], rtol=1e-4, atol=1e-5)
    model.eval()
    batch = val.batch(slice(None))
    with torch.no_grad():
        loss = model.hepml_objective.loss(model(batch), batch.labels)  # type: ignore[operator, union-attr]
    last = summary["history"][-1] if "history" in summary else summary["validation"]
    assert float(loss) == pytest.approx(last["val_loss"], rel=1e-3)


@pytest.mark.parametrize("words", [(), ("training.average=null",), ("pretraining={masked: 0.3}",)])
def test_a_killed_run_goes_on_with_the_same_statistics(
    tiny: Tiny, tmp_path: Path, words: tuple[str, ...]
) -> None:
    resumed_as_uninterrupted(tiny(*LITE, *words), tmp_path)


def test_measuring_changes_nothing_of_the_training_itself(tiny: Tiny, tmp_path: Path) -> None:
    words = ("model={name: particlenet_lite}", "training.epochs=2")
    train(tiny(*words), tmp_path / "without")
    train(tiny(*words, "training.norm_batches=2"), tmp_path / "with")
    one, two = (
        read_checkpoint(tmp_path / name / "checkpoints/last.ckpt")["state_dict"]
        for name in ("without", "with")
    )
    moved = [name for name in one if not torch.equal(one[name], two[name])]
    assert moved
    assert all("running_" in name for name in moved)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("training.norm_batches=2",), "no batch norm that learns"),
        ((*LITE, "training.freeze_norms=true"), "no batch norm that learns"),
        ((*LITE, "data.stream=true"), "streamed jets are not read twice"),
    ],
)
def test_what_has_no_norms_to_measure_is_refused(
    tiny: Tiny, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        train(tiny(*words), tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model={name: particlenet_lite}", "training.batch_size=400"), True),
        (("model={name: particlenet_lite}", "training.batch_size=400", "training.norm_batches=1"), False),
        (("model={name: particlenet_lite}", "training.batch_size=20"), False),
        (("training.batch_size=400",), False),
    ],
    ids=["few steps", "measured", "many steps", "no norms"],
)
def test_a_run_with_few_steps_an_epoch_says_that_running_averages_lag(
    tiny: Tiny, tmp_path: Path, words: tuple[str, ...], said: bool
) -> None:
    notes = Notes()
    train(tiny(*words, "training.epochs=1"), tmp_path / "run", progress=notes)
    assert bool(notes.found("training.norm_batches")) is said
