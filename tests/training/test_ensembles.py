"""Ensembles put together from runs: saved, loaded, predicted with; the spread of their members."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import hepml
from hepml.errors import ConfigError
from hepml.inference.exporting import export
from hepml.inference.prediction import predict
from hepml.inference.spread import WithSpread
from hepml.training.ensembles import join_runs
from hepml.training.run import train
from hepml.training.run_config import RunConfig, load_run_config


def test_an_ensemble_of_runs_is_a_run_that_scores_by_the_mean_of_the_logits(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    runs = [tmp_path / name for name in ("a", "b")]
    train(tiny("training.epochs=1"), runs[0])
    train(tiny("training.epochs=1", "training.seed=1", "model={name: efn, phi: [8], f: [8]}"), runs[1])
    summary = join_runs(runs, tmp_path / "both")
    jets = tiny().data.tests()["test"]
    members = [predict(hepml.load_model(run), jets) for run in runs]
    logits = np.mean([np.log(rows[:, 1] / rows[:, 0]) for rows in members], axis=0)
    model = hepml.load_model(tmp_path / "both")
    np.testing.assert_allclose(predict(model, jets)[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-4)
    rows = predict(WithSpread(model), jets)
    np.testing.assert_allclose(rows[:, :2], predict(model, jets), rtol=1e-5)
    np.testing.assert_allclose(rows[:, 2:], np.std(members, axis=0, ddof=1), rtol=1e-3, atol=1e-7)
    assert summary["test"]["spread"] == pytest.approx(rows[:, 3].mean(), rel=1e-3)
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())
    opened = hepml.open_run(tmp_path / "both")
    assert opened.summary["test"]["auc"] == summary["test"]["auc"]
    assert opened.scores["test"].labels.shape == (240,)
    before = (tmp_path / "both" / "checkpoints" / "best.ckpt").read_bytes()
    with pytest.raises(ConfigError, match="no checkpoint to go on from"):
        train(load_run_config(tmp_path / "both" / "config.yaml"), tmp_path / "both", resume=True)
    assert (tmp_path / "both" / "checkpoints" / "best.ckpt").read_bytes() == before


def test_what_cannot_be_joined_is_refused(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "a")
    with pytest.raises(ConfigError, match="at least two"):
        join_runs([tmp_path / "a"], tmp_path / "both")
    with pytest.raises(ConfigError, match="twice"):
        join_runs([tmp_path / "a", tmp_path / "a"], tmp_path / "both")
    export(hepml.load_model(tmp_path / "a"), tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match=r"a\.onnx does not hold the weights of a pfn"):
        join_runs([tmp_path / "a", tmp_path / "a.onnx"], tmp_path / "both")
    with pytest.raises(ConfigError, match="no spread"):
        WithSpread(hepml.load_model(tmp_path / "a"))
    other = hepml.load_model(tmp_path / "a")
    other.hepml_classes = ("quark", "gluon")  # type: ignore[assignment]
    from hepml.training.ensembles import assemble

    with pytest.raises(ConfigError, match="quark, gluon"):
        assemble([hepml.load_model(tmp_path / "a"), other], ["one", "two"])
    assert isinstance(assemble([hepml.load_model(tmp_path / "a")] * 2), torch.nn.Module)
    assert not (tmp_path / "both").exists()
