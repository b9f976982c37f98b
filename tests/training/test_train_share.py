"""Which jets are trained on and what they weigh: shares of them, folds, classes in balance."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hepml import models
from hepml.data.parts import places_of
from hepml.training.distillation import indices_of
from hepml.training.jet_weights import class_scale, mean_weight
from hepml.training.jets import FOLD, open_jets
from hepml.training.run_config import RunConfig


def opened(config: RunConfig) -> Any:
    return open_jets(config.data, models.create("pfn").inputs)


@pytest.mark.parametrize("val", ["", "data.val=0.25"])
def test_only_training_jets_become_fewer(tiny: Callable[..., RunConfig], val: str) -> None:
    words = [val] if val else []
    whole, part = opened(tiny(*words)), opened(tiny(*words, "data.train_share=0.1"))
    assert len(part.train) == round(0.1 * len(whole.train))
    assert len(part.val) == len(whole.val)
    assert len(part.tests["test"]) == len(whole.tests["test"]) == 240
    chosen = part.train.batch(np.arange(len(part.train)))
    assert sorted(set(chosen.labels.tolist())) == [0, 1]
    if val:
        held = whole.val.batch(np.arange(len(whole.val))).index
        assert not set(chosen.index.tolist()) & set(held.tolist()), "a validation jet is never trained on"


def test_a_smaller_share_is_a_part_of_a_larger_one(tiny: Callable[..., RunConfig]) -> None:
    small, large = (opened(tiny(f"data.train_share={share}")).train for share in (0.05, 0.5))
    assert set(small.indices.tolist()) < set(large.indices.tolist())


@pytest.mark.parametrize("val", ["", "data.val=0.25"])
def test_every_jet_is_left_out_by_one_fold_which_is_not_trained_on(
    tiny: Callable[..., RunConfig], val: str
) -> None:
    words = [val] if val else []
    left_out = []
    for k in range(3):
        jets = opened(tiny(*words, "data.folds=3", f"data.fold={k}"))
        mine, trained = places_of(jets.tests[FOLD])["index"], indices_of(jets.train)
        assert not set(mine.tolist()) & set(trained.tolist())
        if val:
            held = indices_of(jets.val)
            assert not set(held.tolist()) & (set(mine.tolist()) | set(trained.tolist()))
        left_out.append(mine)
    every = np.sort(np.concatenate(left_out))
    np.testing.assert_array_equal(every, np.arange(len(opened(tiny()).train)))


def test_balanced_classes_have_the_same_share_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.choice(3, 500, p=[0.7, 0.25, 0.05]))
    for weights in (None, torch.from_numpy(rng.uniform(0.5, 3, 500) * (1 + 9 * (labels.numpy() == 1)))):
        jets = SimpleNamespace(labels=labels, weights=weights)
        scale = class_scale(jets, ("a", "b", "c"), "equal")
        assert scale is not None
        each = (torch.ones(500) if weights is None else weights) * scale[labels]
        sums = torch.bincount(labels, weights=each, minlength=3)
        np.testing.assert_allclose(sums, sums.mean(), rtol=1e-5)
        assert mean_weight(jets, scale) == pytest.approx(float(each.mean()), rel=1e-5)
