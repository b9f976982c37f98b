"""Every parameter of every tagger has a gradient: DDP waits for all of them, so that one that is never used
would stop a training on several ranks."""

from __future__ import annotations

import pytest
from cloud import cloud
from small_taggers import NAMES, random_tagger


@pytest.mark.parametrize("case", NAMES)
def test_every_parameter_of_a_tagger_has_a_gradient(case: str) -> None:
    model = random_tagger(case).train()
    batch = cloud(dtype=next(model.parameters()).dtype)
    model(batch).logsumexp(1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
