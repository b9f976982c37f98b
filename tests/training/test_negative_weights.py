"""Negative weights are normal: a sample of an NLO generator, a third of whose weights are negative, is
learnt as well in batches of a few jets as in large ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_arrays, write_toy_jets

from hepml.errors import DataError
from hepml.evaluation.roc import auc_with_error
from hepml.objectives import Categorical, weighted_mean
from hepml.training.run import train
from hepml.training.run_config import RunConfig

Tiny = Callable[..., RunConfig]


def write_weighted(path: Path, jets: int, seed: int, negative: float) -> Path:
    """Toy jets that multiplicity alone tells apart, that share of them with weight -1, the others with 1."""
    arrays = toy_arrays(jets, seed=seed, separation=0.0)
    draw = np.random.default_rng(seed + 1000).random(jets)
    weights = np.where(draw < negative, -1, 1).astype(np.float32)
    return write_toy_jets(path, arrays={**arrays, "weight": weights})


def test_small_batches_reach_the_auc_of_large_ones_with_35_percent_negative_weights(
    tiny: Tiny, tmp_path: Path
) -> None:
    files = {
        name: write_weighted(tmp_path / f"{name}.root", n, seed, 0.35)
        for seed, (name, n) in enumerate({"train": 2500, "val": 800, "test": 3000}.items())
    }
    named = [f"data.{name}={path}" for name, path in files.items()]
    measured, losses = {}, []
    for size, epochs in ((8, 2), (500, 20)):
        folder = tmp_path / f"batches_of_{size}"
        train(tiny(*named, f"training.batch_size={size}", f"training.epochs={epochs}"), folder)
        scores = np.load(folder / "scores/test.npz")
        measured[size] = auc_with_error(scores["labels"], scores["pfn"])
        losses += [
            line["values"]["train_loss"]
            for line in map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
            if "train_loss" in line.get("values", {})
        ]
    (small, small_error), (large, large_error) = measured[8], measured[500]
    assert large > 0.7
    assert small > large - 2 * np.hypot(small_error, large_error), measured
    assert max(map(abs, losses)) < 10


def test_the_gradients_of_all_batches_add_up_to_that_of_the_sample() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 2, dtype=torch.float64, requires_grad=True)
    y, w = torch.randint(0, 2, (60,)), torch.where(torch.rand(60) < 0.35, -1.0, 1.0).double()
    nll = Categorical(2).negative_log_likelihood(x, y)
    whole = (nll * w).sum() / w.sum()
    parts = [weighted_mean(nll[i : i + 4], w[i : i + 4], float(w.mean())) for i in range(0, 60, 4)]
    together = torch.stack(parts).mean()
    assert torch.allclose(whole, together)
    assert torch.allclose(
        *(torch.autograd.grad(value, x, retain_graph=True)[0] for value in (whole, together))
    )


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, -1.0, 1e-9, -1e-9], [0.0, 0.0], [-3.0, 2.9]])
def test_no_batch_brings_the_divisor_near_zero(weights: list[float]) -> None:
    values = torch.ones(len(weights))
    for mean in (None, 0.3):
        assert abs(float(weighted_mean(values, torch.tensor(weights), mean))) < 10


def test_weights_that_cancel_over_the_whole_sample_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    arrays = toy_arrays(400)
    signs = np.where(np.arange(400) // 2 % 2, 1.0, -1.0).astype(np.float32)  # half of each class
    path = write_toy_jets(tmp_path / "a.root", arrays={**arrays, "weight": signs})
    with pytest.raises(DataError, match=r"weights of class 0 add up to 0, .*they cancel"):
        train(tiny(f"data.train={path}"), tmp_path / "run")
