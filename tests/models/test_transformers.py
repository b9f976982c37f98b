"""What the transformers promise beside what every tagger does: size, maps of attention, short jets, jets that do not see each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cloud import COUNTS, cloud, shuffled
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.models import count_parameters, create, entry
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


def test_published_configurations_have_the_published_number_of_parameters() -> None:
    assert count_parameters(create("part")) == entry("part").parameters == 2_141_134
    assert count_parameters(create("part", features="full", outputs=10)) == 2_143_486
    assert count_parameters(create("transformer")) == 1_984_400
    assert count_parameters(create("transformer", width=64, blocks=4, heads=4)) == 200_784


@pytest.mark.parametrize("name", NAMES)
def test_a_score_depends_neither_on_other_jets_nor_on_padding_nor_on_groups(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = built(name), cloud()
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(batch.take([i])) for i in range(len(batch))])
        backwards = model(batch.take(torch.arange(len(batch) - 1, -1, -1))).flip(0)
        crowd = cloud((90, 70), seed=9)
        p = torch.cat((batch.four_momenta, crowd.four_momenta))
        offsets = torch.cat((batch.offsets, batch.offsets[-1] + crowd.offsets[1:]))
        crowded = model(JetBatch.from_arrays(p, offsets))[: len(batch)]
        monkeypatch.setattr(encoder.grouped, "__defaults__", (20, 9))
        assert len(encoder.grouped(batch).groups) > 3
        cut = model(batch)
    for other in (alone, backwards, crowded, cut):
        assert torch.allclose(together, other, rtol=0, atol=1e-10)
    assert together[batch.counts > 2].std(0).min() > 1e-4  # and jets do differ


@pytest.mark.parametrize("name", NAMES)
def test_jets_with_no_one_or_two_constituents_have_finite_scores_and_training_steps(name: str) -> None:
    batch = cloud((0, 1, 2, 3, 17), dtype=torch.float32)
    for part in (batch, *(batch.take(jets) for jets in ([0], [1], [2], [0, 0, 1], []))):
        model = built(name, torch.float32)
        with torch.no_grad():
            assert torch.isfinite(model(part)).all()
        model.train()
        out = model(part)
        assert out.shape == (len(part), 2)
        out.square().sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        assert all(torch.isfinite(b).all() for b in model.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    """But for constants in the pair embedding, which the batch norm behind them takes away again, as it does in weaver's network."""
    model = built(name).train()
    model(cloud()).square().sum().backward()
    zero = {f"pair_embed.embed.{i}.bias" for i in (0, 1, 4, 7)}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert (parameter.grad.abs().sum() > 1e-12) == (key not in zero), key


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_stays_near(name: str) -> None:
    """bfloat16 has three digits, and rounds pair features of order ten."""
    model, batch = built(name, torch.float32), cloud(dtype=torch.float32)
    with torch.no_grad():
        exact = model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(batch)
    assert (exact - rounded.float()).abs().max() < 0.1 * exact.abs().max()
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        model(batch).float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


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
        attention, "_weighted", lambda q, k, v, b: seen.append(((q @ k.mT) * q.shape[-1] ** -0.5 + b).softmax(-1)) or original(q, k, v, b)
    )  # fmt: skip
    with torch.no_grad():
        model(batch)
    maps = model.attention_maps(batch)
    assert torch.allclose(seen[0][1], maps.blocks[1, 1], atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_transformer_learns_the_side_of_a_simple_boundary(name: str) -> None:
    torch.manual_seed(0)
    batch = cloud([10] * 32, dtype=torch.float32, spread=[0.1, 0.3] * 16)  # class 1 is wider
    model = create(name.partition(",")[0], **SMALL[name]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
