"""What a forward pass asks of the device. Each length that is read back from a tensor makes a GPU wait, so a
batch brings its sizes along and nothing asks for them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cloud import cloud
from small_taggers import random_tagger
from torch.utils._python_dispatch import TorchDispatchMode

from hepml import kinematics
from hepml.nn import kernels
from hepml.representations import sequence

# Operators whose result, or whose length, the host waits for.
ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique")
TAGGERS = [
    "cnn", "efn", "hamiltonian_cloud", "lgatr", "lgatr_slim", "lloca", "lloca_transformer", "lorentznet",
    "part", "particlenet", "particlenet_lite", "pfn", "residual_cloud", "resnext", "transformer",
]  # fmt: skip


class Questions(TorchDispatchMode):
    """Collects the operators that ask."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = args[1] if function.overloadpacket.__name__ in ("index", "index_put", "index_put_") else ()
        if any(name in str(function) for name in ASKING) or any(
            t is not None and t.dtype == torch.bool for t in masks
        ):
            self.operators.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The definitions, without the looks at values that only a CPU takes."""
    monkeypatch.setattr(kinematics, "all_at_least", lambda x, least: False)
    monkeypatch.setattr(sequence, "_is_falling", lambda square, batch: False)
    with kernels.disabled():
        yield


@pytest.mark.parametrize("name", TAGGERS)
def test_a_forward_pass_asks_for_no_size_that_the_batch_brings_along(name: str) -> None:
    model = random_tagger(name).float().train()
    jets = cloud(dtype=torch.float32)
    assert jets.sizes
    with Questions() as questions:
        model(jets)
    assert questions.operators == []


def test_a_question_is_noticed() -> None:
    mask = torch.tensor([True, False])
    with Questions() as questions:
        int(mask.sum())
        torch.arange(2)[mask]
        torch.zeros(2)[mask] = 1.0
    assert len(questions.operators) >= 3
