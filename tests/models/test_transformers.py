"""What the transformers promise beside what every tagger does: that groups of jets change nothing, and maps
of attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cloud import COUNTS, cloud, shuffled
from torch import Tensor, nn

from hepml.models import create
from hepml.nn import encoder

SMALL: dict[str, dict[str, Any]] = {
    "part": {"embedding": (16, 16), "pair_embedding": (8, 8), "heads": 4, "blocks": 2, "class_blocks": 2},
    "transformer": {"width": 16, "heads": 4, "blocks": 2},
    "transformer, mean": {"width": 16, "heads": 4, "blocks": 2, "pooling": "mean"},
}
NAMES = sorted(SMALL)


def built(name: str, dtype: torch.dtype = torch.float64, **hyperparameters: object) -> nn.Module:
    """A small one whose norms have seen jets and whose scales and biases are not trivial."""
    torch.manual_seed(3)
    model = create(name.partition(",")[0], **{**SMALL[name], **hyperparameters}).to(dtype)
    for key, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.0 if key.endswith("bias") else 1.0, 0.2)
    model.train()
    with torch.no_grad():
        for seed in range(3):
            model(cloud(seed=seed, dtype=dtype))
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_how_jets_are_grouped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = built(name), cloud()
    with torch.no_grad():
        together = model(batch)
        monkeypatch.setattr(encoder.grouped, "__defaults__", (20, 9))
        assert len(encoder.grouped(batch).groups) > 3
        assert torch.allclose(model(batch), together, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_attention_maps_are_shares_of_real_constituents_in_the_order_of_the_batch(name: str) -> None:
    model, batch = built(name), cloud()
    maps = model.attention_maps(batch)
    longest = max(COUNTS)
    assert maps.blocks.shape == (2, len(COUNTS), 4, longest, longest)
    assert maps.mask.sum(1).tolist() == list(COUNTS)
    assert (maps.blocks >= 0).all()
    real = maps.mask[None, :, None, :, None] & maps.mask[None, :, None, None, :]
    assert (maps.blocks.masked_select(~real) == 0).all()
    sums = maps.blocks.sum(-1).transpose(1, 2).masked_select(maps.mask[None, None])
    if name == "transformer":  # the rest goes to the class token
        assert ((sums > 0) & (sums < 1)).all()
    else:
        assert torch.allclose(sums, torch.ones_like(sums))
    if name == "transformer, mean":
        assert maps.pooling is None
    else:
        assert maps.pooling.shape == (2, len(COUNTS), 4, 1 + longest)
        assert torch.allclose(maps.pooling.sum(-1), torch.ones((), dtype=torch.float64))
        assert (maps.pooling[..., 1:].masked_select(~maps.mask[None, :, None]) == 0).all()
    one = model.attention_maps(batch.take([2]))
    assert torch.allclose(one.blocks[:, 0], maps.blocks[:, 2, :, :12, :12], atol=1e-12)
    moved = model.attention_maps(shuffled(batch))
    assert torch.allclose(moved.blocks.amax((-1, -2)), maps.blocks.amax((-1, -2)), atol=1e-12)


def test_attention_maps_are_what_the_network_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are all one make the attended equal to the sum of the shares."""
    model, batch = built("part"), cloud((7, 12))
    seen: list[Tensor] = []
    attention = model.blocks[1].attn
    original = attention._weighted
    monkeypatch.setattr(
        attention, "_weighted", lambda q, k, v,
        b: seen.append(((q @ k.mT) * q.shape[-1] ** -0.5 + b).softmax(-1)) or original(q, k, v, b)
    )  # fmt: skip
    with torch.no_grad():
        model(batch)
    maps = model.attention_maps(batch)
    assert torch.allclose(seen[0][1], maps.blocks[1, 1], atol=1e-12)
