"""PELICAN: hepml against a plain padded implementation, as the published one computes it, in time and in
memory.

Run by name: `python tests/benchmarks/bench_pelican.py [--jets 16] [--repeats 3]`, or `pytest
tests/benchmarks/bench_pelican.py`. The plain network is written here from the equations of arXiv:2211.00454:
jets padded to the largest of the batch, the fifteen aggregations as fifteen tensors of pairs, stacked and
mixed by one contraction, batch norms over real pairs. Both have the same weights; outputs and gradients are
compared before anything is timed. Then whole training steps (forward, cross-entropy, backward, Adam) and
evaluation steps are timed in turns in one process on one core, in processor time, on jets of 47 ± 15
constituents. Peak memory is that of a process of its own for each side, less what it has before the first
step, beside the size of one tensor of the batch's real pairs with 132 channels.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import rates, steps_of

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.pelican import PELICAN
from hepml.nn.lorentz.aggregations import Aggregate2to2, Scales
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.rectangle import mask_of, to_dense

sys.path.insert(0, str(Path(__file__).parent))
from bench_lgn import jets


class Plain(nn.Module):
    """The network of arXiv:2211.00454 on padded jets, with the weights of one of hepml's without beams."""

    def __init__(self, source: PELICAN) -> None:
        super().__init__()
        self.net = copy.deepcopy(source)

    def forward(self, batch: JetBatch) -> Tensor:
        net, counts = self.net, batch.counts
        p = to_dense(batch.four_momenta, batch.offsets)
        particles = mask_of(batch.offsets, p.shape[1])
        mask = (particles[:, :, None] & particles[:, None])[..., None]
        products = 2 * p[:, :, None, 0] * p[:, None, :, 0] - (p[:, :, None] * p[:, None]).sum(-1)
        encoded = net.encoder(products.flatten()).unflatten(0, products.shape)
        t = torch.cat((encoded, self.labels(particles, counts)), dim=-1) * mask
        for norm, block in zip(net.norms, [None, *net.blocks], strict=True):
            if block is not None:
                t = F.leaky_relu(self.fifteen(block.aggregate, t, counts)) * mask  # type: ignore[arg-type, union-attr]
            layer = net.first if block is None else block.message
            t = F.leaky_relu(F.linear(t, layer[0].weight, layer[0].bias))  # type: ignore[index, union-attr]
            t = net.dropout(self.normalised(t, mask, norm))  # type: ignore[arg-type]
        both = torch.stack((t.sum((1, 2)), t.diagonal(dim1=1, dim2=2).sum(-1)), dim=1)
        both = F.leaky_relu(both * net.readout.scales(counts)).flatten(1)
        return net.head(both @ net.readout.weight + net.readout.bias)  # type: ignore[no-any-return]

    def labels(self, particles: Tensor, counts: Tensor) -> Tensor:
        layer = self.net.labels
        x = particles[..., None].to(layer.weight.dtype)
        eye = torch.eye(x.shape[1], dtype=x.dtype)[..., None]
        mean = x.sum(1)[:, None, None].expand(-1, *eye.shape[:2], -1)
        terms = (
            eye * x[:, None],
            x[:, None].expand_as(mean),
            x[:, :, None].expand_as(mean),
            eye * mean,
            mean,
        )
        ops = torch.stack(terms, dim=3) * layer.scales(counts)[:, None, None]
        return F.leaky_relu(torch.einsum("nijbc,bce->nije", ops, layer.weight) + layer.bias)

    def fifteen(self, layer: Aggregate2to2, t: Tensor, counts: Tensor) -> Tensor:
        eye = torch.eye(t.shape[1], dtype=t.dtype)[..., None]
        rows, columns, own = t.sum(2), t.sum(1), t.diagonal(dim1=1, dim2=2).transpose(1, 2)
        trace, total = own.sum(1)[:, None, None], t.sum((1, 2))[:, None, None]

        def first(x: Tensor) -> Tensor:
            return x[:, :, None].expand_as(t)

        def second(x: Tensor) -> Tensor:
            return x[:, None].expand_as(t)

        ops = [t, t.transpose(1, 2), eye * first(own), second(own), first(own)]
        ops += [
            eye * first(columns),
            second(columns),
            first(columns),
            eye * first(rows),
            second(rows),
            first(rows),
        ]
        ops += [trace.expand_as(t), eye * trace, total.expand_as(t), eye * total]
        scales: Scales = layer.scales
        scale = torch.cat((t.new_ones((len(counts), 5, t.shape[-1])), scales(counts)), dim=1)
        stacked = torch.stack(ops, dim=3) * scale[:, None, None]
        mixed = torch.einsum("nijbc,bce->nije", stacked, layer.weight)
        return mixed + layer.bias + eye * layer.diagonal_bias

    def normalised(self, t: Tensor, mask: Tensor, norm: PackedBatchNorm) -> Tensor:
        gain, bias = norm.gain_and_bias()
        if self.training:
            n = mask.sum()
            mean = (t * mask).sum((0, 1, 2)) / n
            variance = ((t - mean).square() * mask).sum((0, 1, 2)) / n
            norm.remember(mean.detach(), variance.detach(), int(n))
            gain = norm.weight * torch.rsqrt(variance + norm.eps)
            bias = norm.bias - gain * mean
        return (t * gain + bias) * mask


def models(**size: Any) -> dict[str, nn.Module]:
    torch.manual_seed(3)
    ours = create("pelican", **size)
    return {"hepml": ours, "plain": Plain(ours)}  # type: ignore[arg-type]


def compare() -> dict[str, float]:
    """Largest relative difference of outputs, gradients and running statistics in training mode, float64,
    same weights."""
    batch, target = jets(4, torch.float64, smallest=3, largest=12), torch.tensor([0, 1, 0, 1])
    outputs, gradients, statistics = [], [], []
    for model in models(hidden=16, messages=9, blocks=3, scalars=4, dropout=0.0).values():
        out = model.double().train()(batch)
        F.cross_entropy(out, target).backward()
        outputs.append(out.detach())
        gradients.append([p.grad for p in model.parameters()])
        statistics.append([b.double() for b in model.buffers() if b.numel()])

    def worst(found: list[list[Any]]) -> float:
        return max(
            float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in zip(*found, strict=True)
        )

    return {
        "outputs": worst([[x] for x in outputs]),
        "gradients": worst(gradients),
        "running_statistics": worst(statistics),
    }


def bench(number: int = 16, repeats: int = 3) -> dict[str, Any]:
    """Jets a second of processor time, and their ratio, in training and in evaluation."""
    return rates(models(), jets(number, torch.float32), repeats)


def peak(name: str, kind: str, number: int, *, recompute: bool = True, blocks: int = 5) -> float:
    """Peak memory of one step in megabytes, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, kind, str(number), str(int(recompute)), str(blocks)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(name: str, kind: str, number: int, recompute: bool, blocks: int) -> float:
    torch.set_num_threads(1)
    model = {name: models(recompute=recompute, blocks=blocks)[name]}
    steps_of(model, jets(2, torch.float32, smallest=3, largest=5), torch.tensor([0, 1]))[kind][name]()
    step = steps_of(model, jets(number, torch.float32), torch.arange(number) % 2)[kind][name]
    before = high_water()
    step()
    return high_water() - before


def high_water() -> float:
    """Largest resident memory of this process so far, in megabytes; unlike `getrusage`, not that of the
    process that started it."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory(number: int = 8) -> dict[str, dict[str, float]]:
    """Peak memory beside the size of one tensor of real pairs, in megabytes; the plain network would need 14
    GB for four times the jets."""
    out: dict[str, dict[str, float]] = {}
    for size in (number, 4 * number):
        found = {
            "one tensor of pairs": 132 * 4 * float(jets(size, torch.float32).counts.square().sum()) / 2**20
        }
        for blocks in (5, 10):
            found[f"hepml, training, {blocks} blocks"] = peak("hepml", "training", size, blocks=blocks)
        found["hepml, training, recompute: false"] = peak("hepml", "training", size, recompute=False)
        found["hepml, evaluation"] = peak("hepml", "evaluation", size)
        if size == number:
            found |= {f"plain, {kind}": peak("plain", kind, size) for kind in ("training", "evaluation")}
        out[f"{size} jets"] = found
    return out


def tensors_a_batch(found: dict[str, dict[str, float]], what: str) -> float:
    """By how many tensors of pairs the peak grows from the small batch to the large one."""
    small, large = found.values()
    return (large[what] - small[what]) / (large["one tensor of pairs"] - small["one tensor of pairs"])


def test_the_plain_network_has_equal_outputs_and_gradients() -> None:
    assert all(difference < 1e-8 for difference in compare().values())


@pytest.mark.slow
def test_training_is_three_times_the_plain_network_in_a_fifth_of_the_memory() -> None:
    assert bench()["training"]["ratio"] > 3
    found = memory()
    small, large = found.values()
    assert small["hepml, training, 5 blocks"] < 0.2 * small["plain, training"]
    assert large["hepml, evaluation"] < 1.5 * small["hepml, evaluation"]
    for blocks in (5, 10):
        assert tensors_a_batch(found, f"hepml, training, {blocks} blocks") < 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        side, kind, number, recompute, blocks = arguments.peak
        print(measure_peak(side, kind, int(number), recompute == "1", int(blocks)))
    else:
        found = {"equal": compare(), **bench(arguments.jets, arguments.repeats), "megabytes": memory()}
        print(json.dumps(found, indent=1))
