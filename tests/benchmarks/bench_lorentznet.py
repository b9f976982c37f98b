"""LorentzNet: hepml against a plain edge list, as the published implementation computes it.

Run by name: `python tests/benchmarks/bench_lorentznet.py [--jets 64] [--repeats 5]`, or `pytest
tests/benchmarks/bench_lorentznet.py`. The edge list is written here from the equations of arXiv:2201.08187:
for every pair of a jet it concatenates both nodes' 72 scalars with two products, runs phi_e, phi_m and phi_x
on all pairs of the batch at once, and scatters the sums. It runs on real pairs only, without the padded nodes
of the published code, which flatters it. Both have the same weights; outputs and gradients are compared
before anything is timed. Then whole training steps (forward, cross-entropy, backward, Adam) and evaluation
steps are timed in turns in one process on one core, in processor time, on jets of 47 ± 15 constituents.
"""

from __future__ import annotations

import argparse
import copy
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import rates

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.lorentznet import LorentzBlock, LorentzNet
from hepml.testing import sample_jets


def psi(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.log(torch.abs(x) + 1)


def product(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 0] - (a[:, 1:] * b[:, 1:]).sum(1)


class EdgeList(nn.Module):
    """The network of arXiv:2201.08187 on a plain edge list, with the weights of one of hepml's."""

    def __init__(self, source: LorentzNet) -> None:
        super().__init__()
        self.net = copy.deepcopy(source)

    def forward(self, batch: JetBatch) -> Tensor:
        net, (x, jet_of, beam) = self.net, self.nodes(batch)
        i, j = self.edges(jet_of, len(batch))
        mass = psi(product(x, x).abs().sqrt())
        scalars = torch.stack((mass * ~beam, mass * beam), dim=1)[:, : net.embedding.in_features]
        h = net.embedding(scalars)
        for block in net.blocks:
            h, x = self.block(block, h, x, scalars, i, j)  # type: ignore[arg-type]
        pooled = torch.zeros(len(batch), h.shape[1], dtype=h.dtype).index_add_(0, jet_of, h) / net.nodes
        return net.head(pooled)  # type: ignore[no-any-return]

    def block(
        self, net: LorentzBlock, h: Tensor, x: Tensor, scalars: Tensor, i: Tensor, j: Tensor
    ) -> tuple[Tensor, Tensor]:
        difference = x[i] - x[j]
        norms, dots = psi(product(difference, difference)), psi(product(x[i], x[j]))
        m = net.phi_e(torch.cat((h[i], h[j], norms[:, None], dots[:, None]), dim=1))
        m = m * net.phi_m(m)
        if net.phi_x is not None:
            change = difference * net.phi_x(m)
            degree = torch.zeros(len(x), 1, dtype=x.dtype).index_add_(
                0, i, torch.ones(len(i), 1, dtype=x.dtype)
            )
            x = x + net.c * torch.zeros_like(x).index_add_(0, i, change) / degree.clamp(min=1)
        total = torch.zeros_like(h).index_add_(0, i, m)
        return h + net.phi_h(torch.cat((h, total, scalars), dim=1)), x

    def nodes(self, batch: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
        extra = len(self.net.references)
        vectors = torch.cat((self.net.references.to(batch.dtype).repeat(len(batch), 1), batch.four_momenta))
        jet_of = torch.cat((torch.arange(len(batch)).repeat_interleave(extra), batch.jet_of))
        beam = torch.arange(len(vectors)) < extra * len(batch)
        order = torch.argsort(jet_of, stable=True)
        return vectors[order], jet_of[order], beam[order]

    def edges(self, jet_of: Tensor, jets: int) -> tuple[Tensor, Tensor]:
        """As the published code finds them: a dense mask of the batch padded to its largest jet."""
        counts = torch.bincount(jet_of, minlength=jets)
        width = int(counts.max())
        real = torch.arange(width) < counts[:, None]
        mask = real[:, :, None] & real[:, None, :] & ~torch.eye(width, dtype=torch.bool)
        row = torch.zeros(jets * width, dtype=torch.int64)
        row[real.flatten()] = torch.arange(len(jet_of))
        b, i, j = mask.nonzero(as_tuple=True)
        return row[b * width + i], row[b * width + j]


def models(**size: Any) -> tuple[LorentzNet, EdgeList]:
    torch.manual_seed(3)
    ours = create("lorentznet", references=("beam",), dropout=0.0, **size)
    for block in ours.blocks:  # vectors that move visibly
        if block.phi_x is not None:
            nn.init.normal_(block.phi_x[2].weight, 0, 0.3)
    return ours, EdgeList(ours)  # type: ignore[arg-type, return-value]


def jets(number: int, dtype: torch.dtype, *, mass: float = 0.14) -> JetBatch:
    """Jets of 47 ± 15 constituents, shuffled."""
    batch = sample_jets(number, mass=mass, dtype=dtype, smallest=21, largest=73)
    return batch.take(torch.randperm(number, generator=torch.Generator().manual_seed(1)))


def compare() -> dict[str, float]:
    """Largest relative difference of outputs and of gradients in training mode, float64, same weights."""
    ours, theirs = models(n_hidden=16, n_blocks=3)
    batch, target = jets(5, torch.float64), torch.tensor([0, 1, 0, 1, 1])
    outputs, gradients = [], []
    for model in (ours, theirs):
        model.double().train()
        out = model(batch)
        F.cross_entropy(out, target).backward()
        outputs.append(out.detach())
        gradients.append([p.grad for p in model.parameters()])
    worst = max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in zip(*gradients, strict=True)
    )
    running = max(
        float((a - b).abs().max())
        for a, b in zip(ours.buffers(), theirs.net.buffers(), strict=True)
        if a.numel()
    )
    out = float((outputs[0] - outputs[1]).abs().max() / outputs[1].abs().max())
    return {"outputs": out, "gradients": worst, "running_statistics": running}


def bench(number: int = 64, repeats: int = 5) -> dict[str, Any]:
    """Jets a second of processor time, and their ratio, in training and in evaluation."""
    pair = dict(zip(("hepml", "edge list"), models(), strict=True))
    return rates(pair, jets(number, torch.float32), repeats)


def test_the_edge_list_has_equal_outputs_and_gradients() -> None:
    assert all(difference < 1e-8 for difference in compare().values())


@pytest.mark.slow
def test_training_is_three_times_the_edge_list() -> None:
    assert bench()["training"]["ratio"] > 3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps({"equal": compare(), **bench(arguments.jets, arguments.repeats)}, indent=1))
