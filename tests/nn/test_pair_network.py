"""Blocks on pairs by hand: equal to the layers they are made of, with autograd's gradients, in the memory of
two tensors of pairs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from norms import stir_norms
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models import pelican as pelican_file
from hepml.models.pelican import PELICAN
from hepml.nn.kernels import pelican_network as pair_network
from hepml.nn.kernels.pelican_blocks import Scratch, drops, normalise
from hepml.packed.halves import Halves
from hepml.testing import sample_jets

SIZE = {"hidden": 9, "messages": 6, "blocks": 4, "scalars": 3, "dropout": 0.0}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces a batch."""
    monkeypatch.setitem(pelican_file._NUMBERS, "cpu", 1500)


def network(**arguments: object) -> PELICAN:
    torch.manual_seed(0)
    model = create("pelican", **{**SIZE, **arguments}).double()
    stir_norms(model)
    return model  # type: ignore[return-value]


def jets(count: int = 5) -> JetBatch:
    made = sample_jets(count, mass=0.2)
    return JetBatch.from_arrays(
        made.four_momenta, torch.cat((made.offsets, made.offsets[-1:]))
    )  # the last is empty


def by_layers(model: PELICAN, batch: JetBatch) -> Tensor:
    """The network by its layers and autograd, all pairs at once."""
    (piece,) = model._pieces(batch.take(torch.arange(len(batch))), torch.float64)
    t = model._embedded(piece, torch.float64)
    for norm, block in zip(model.norms, [*model.blocks, None], strict=True):
        x = norm(t)
        t = x if block is None else block(x, piece.halves)
    return model.head(model.readout(t, piece.halves))


def gradients(model: PELICAN, out: Tensor, momenta: Tensor) -> list[Tensor]:
    loss = (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).square().sum()
    return list(torch.autograd.grad(loss, [*model.parameters(), momenta]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("references", [(), ("beam",)])
@pytest.mark.parametrize("recompute", [True, False])
def test_the_network_by_hand_is_the_network_by_its_layers(
    training: bool, references: tuple[str, ...], recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs, gradients of weights and momenta, running statistics: float64, to rounding."""
    found = []
    for by_hand in (True, False):
        model = network(recompute=recompute, references=references).train(training)
        batch = jets()
        p = batch.four_momenta.clone().requires_grad_()
        batch = batch.with_four_momenta(p)
        if not by_hand:
            monkeypatch.setitem(pelican_file._NUMBERS, "cpu", 2**30)
        out = model(batch) if by_hand else by_layers(model, batch)
        found.append([out.detach(), *gradients(model, out, p), *(b for b in model.buffers())])
    for a, b in zip(*found, strict=True):
        a, b = a.double(), b.double()
        assert (a - b).abs().max() <= 1e-12 * b.abs().max() if b.numel() else True
    assert found[0][0].std() > 1e-3


@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_two_tensors_of_pairs_are_kept_whatever_the_depth(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    tensors = pair_network._Run._tensors

    def counted(run: pair_network._Run) -> list[Tensor]:
        found = tensors(run)
        made.append(sum(t.numel() for t in found))
        return found

    monkeypatch.setattr(pair_network._Run, "_tensors", counted)
    batch = jets()
    pairs = int(batch.counts.square().sum())
    network(blocks=blocks).train()(batch).square().sum().backward()
    assert made == [pairs * SIZE["messages"]] * 2
    made.clear()
    network(blocks=blocks, recompute=False).train()(batch).square().sum().backward()
    assert len(made) == blocks + 1
    made.clear()
    with torch.no_grad():
        network(blocks=blocks).train()(batch)
    assert len(made) == 1


def test_a_second_backward_pass_gives_the_same_and_statistics_move_once() -> None:
    model = network(dropout=0.3).train()
    out = model(jets()).square().sum()
    before = [b.clone() for b in model.buffers()]
    first, second = (torch.autograd.grad(out, list(model.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert all(norm.num_batches_tracked == 1 for norm in model.norms)


def test_dropout_follows_the_seed_and_moves_what_it_should() -> None:
    model, batch = network(dropout=0.3).train(), jets()
    scores = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        scores.append(model(batch).detach())
    assert torch.equal(scores[0], scores[1])
    assert not torch.allclose(scores[0], scores[2])


@pytest.mark.parametrize("p", [0.025, 0.5])
def test_each_entry_is_dropped_with_its_probability(p: float) -> None:
    entries, cpu = 200_000, torch.device("cpu")
    found = drops(entries, p, 1, cpu)
    assert found.unique().numel() == found.numel()
    assert found.min() >= 0
    assert found.max() < entries
    assert abs(len(found) - entries * p) < 5 * (entries * p * (1 - p)) ** 0.5
    whole = torch.zeros(entries)
    whole[found] = 1
    folded = whole.view(-1, 100).mean(0)  # no period, no edge
    assert (folded - p).abs().max() < 5 * (p * (1 - p) / (entries / 100)) ** 0.5
    assert torch.equal(found, drops(entries, p, 1, cpu))
    assert len(drops(0, p, 1, cpu)) == 0


def test_a_level_keeps_expectations_under_dropout() -> None:
    """The gain and bias of a batch norm carry the factor 1 / (1 - p)."""
    model, p = network(dropout=0.2).train(), 0.2
    piece = next(model._pieces(jets(2), torch.float64))
    run = pair_network._Run(model._network(), [piece], True, torch.float64, 1)
    run.forward(keep=False)
    level, t = run.levels[0], model._embedded(piece, torch.float64).detach()
    with torch.no_grad():
        expected = F.batch_norm(t, None, None, model.norms[0].weight, model.norms[0].bias, training=True)
        scratch = Scratch()
        mean = (
            sum(normalise(t, level.gain, level.bias, p, seed, scratch).x.clone() for seed in range(400)) / 400
        )
    assert (mean - expected).abs().max() < 6 * (p / (1 - p) / 400) ** 0.5 * expected.abs().max()
    assert torch.allclose((1 - p) * (level.gain * t + level.bias), expected)


def test_frozen_weights_get_no_gradient_and_change_no_other() -> None:
    found = []
    for frozen in (False, True):
        model = network().train()
        for name, q in model.named_parameters():
            q.requires_grad_(not (frozen and ("blocks.1" in name or "encoder" in name or "norms.0" in name)))
        F.cross_entropy(model(jets()), torch.tensor([0, 1, 0, 1, 0, 1])).backward()
        found.append({name: q.grad for name, q in model.named_parameters()})
    for name, gradient in found[1].items():
        assert gradient is None or torch.allclose(gradient, found[0][name], rtol=1e-12)
    assert sum(g is None for g in found[1].values()) > 5


def test_weights_changed_between_the_passes_are_noticed() -> None:
    model = network().train()
    out = model(jets()).square().sum()
    with torch.no_grad():
        model.blocks[0].message[0].weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_halves_are_the_pairs_of_each_jet() -> None:
    counts = torch.tensor([4, 0, 1, 6, 2])
    halves = Halves.of(F.pad(counts.cumsum(0), (1, 0)))
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(n, n, 3, generator=generator, dtype=torch.float64) for n in counts.tolist()]
    above = [torch.triu_indices(len(t), len(t), 1) for t in matrices]
    up = torch.cat([t[i, j] for t, (i, j) in zip(matrices, above, strict=True)])
    down = torch.cat([t[j, i] for t, (i, j) in zip(matrices, above, strict=True)])
    off, hollow = torch.cat((up, down)), [t * (1 - torch.eye(len(t)))[..., None] for t in matrices]
    assert torch.allclose(halves.received(off), torch.cat([t.sum(1) for t in hollow]))
    assert torch.allclose(halves.sent(off), torch.cat([t.sum(0) for t in hollow]))
    assert torch.allclose(halves.of_jets(off), torch.stack([t.sum((0, 1)) for t in hollow]))
    x = torch.randn(13, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(halves.sums(x), x[halves.first] + x[halves.second])
    assert torch.allclose(halves.differences(x), x[halves.first] - x[halves.second])
    dense = torch.zeros(5, 6, 6, 3, dtype=torch.float64)
    for b, t in enumerate(matrices):
        dense[b, : len(t), : len(t)] = t
    assert torch.equal(dense.flatten(0, 2)[halves.in_dense], up)
