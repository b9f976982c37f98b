"""`data.train_share`: fewer training jets, the same validation and test jets; a smaller share is a part of a
larger one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hepml import models
from hepml.training.jets import open_jets
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
