"""LGN: hepml against a plain padded implementation, as the published one computes it.

Run by name: `python tests/benchmarks/bench_lgn.py [--jets 32] [--repeats 5]`, or `pytest
tests/benchmarks/bench_lgn.py`. The plain network is written here from the equations of arXiv:2006.04780: jets
padded to the largest of the batch, zonal and radial functions for every ordered pair, Clebsch–Gordan products
of pairs with their senders' irreps, summed afterwards, and all ordered products of a particle's irreps. Both
have the same weights; outputs and gradients are compared before anything is timed. Then whole training steps
(forward, cross-entropy, backward, Adam) and evaluation steps are timed in turns in one process on one core,
in processor time, on jets of 47 ± 15 constituents.
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
from hepml.models.lgn import LGN, Level
from hepml.nn.lorentz.clebsch_gordan import decomposition, invariant_product, product
from hepml.nn.lorentz.irreps import Irrep, from_four_vector
from hepml.packed.rectangle import mask_of, to_dense
from hepml.testing import sample_jets

Dense = dict[Irrep, Tensor]  # [B, W, C, d]


class Plain(nn.Module):
    """The network of arXiv:2006.04780 on padded jets, in the frame of the momenta, with the weights of one of
    hepml's without beams."""

    def __init__(self, source: LGN) -> None:
        super().__init__()
        self.net = copy.deepcopy(source)

    def forward(self, batch: JetBatch) -> Tensor:
        p = to_dense(batch.four_momenta, batch.offsets) * self.net.scale
        mask = mask_of(batch.offsets, p.shape[1])
        difference = p[:, :, None] - p[:, None]
        square = 2 * difference[..., 0].square() - difference.square().sum(-1)
        norms = square.sign() * (square.abs() + 1e-30).sqrt()
        edges = mask[:, :, None] & mask[:, None] & ~torch.eye(p.shape[1], dtype=torch.bool)
        m2 = 2 * p[..., 0].square() - p.square().sum(-1)
        scalars = self.net.embedding((m2.abs() + 1e-30).sqrt()[..., None])
        features: Dense = {(0, 0): torch.view_as_complex(scalars.unflatten(-1, (-1, 2)))[..., None]}
        levels = [features]
        zonal = from_four_vector(difference)
        for level in self.net.levels:
            features = self.level(level, features, zonal, norms, edges)  # type: ignore[arg-type]
            levels.append(features)
        columns = [
            x[..., 0] if key == (0, 0) else invariant_product(x, x, key)
            for f in levels
            for key, x in f.items()
        ]
        invariants = torch.view_as_real(torch.cat(columns, dim=-1)).flatten(-2)
        return self.net.head((invariants * mask[..., None]).sum(1))  # type: ignore[no-any-return]

    def level(self, level: Level, features: Dense, zonal: Tensor, norms: Tensor, edges: Tensor) -> Dense:
        radial = level.radial(norms.flatten(1)).unflatten(-1, norms.shape[1:]).permute(0, 2, 3, 1)
        zeroth, first = (radial * edges[..., None]).chunk(2, dim=-1)  # [B, W, W, C]
        sources: dict[Irrep, list[Tensor]] = {}
        for key, x in features.items():
            sources.setdefault(key, []).append((zeroth[..., None] * x[:, None]).sum(2))
        moved = first[..., None] * zonal[..., None, :]
        for key, x in features.items():
            for result in decomposition((1, 1), key, level.largest):
                sources.setdefault(result, []).append(product(moved, x[:, None], (1, 1), key, result).sum(2))
        for key, x in features.items():
            sources.setdefault(key, []).append(x)
        for a in features:
            for b in features:
                for result in decomposition(a, b, level.largest):
                    sources.setdefault(result, []).append(product(features[a], features[b], a, b, result))
        out = {}
        for key in level.irreps:
            weight = torch.view_as_complex(level.weights[f"{key[0]}_{key[1]}"])
            out[key] = torch.einsum("oc,bwcd->bwod", weight, torch.cat(sources[key], dim=2))
        scalars = torch.view_as_real(out[0, 0][..., 0]).flatten(-2)
        out[0, 0] = torch.view_as_complex(level.mlp(scalars).unflatten(-1, (-1, 2)).contiguous())[..., None]
        return out


def models(**size: Any) -> dict[str, nn.Module]:
    torch.manual_seed(3)
    ours = create("lgn", **size)
    return {"hepml": ours, "plain": Plain(ours)}  # type: ignore[arg-type]


def jets(number: int, dtype: torch.dtype, *, smallest: int = 21, largest: int = 73) -> JetBatch:
    """Jets of 47 ± 15 constituents, shuffled."""
    batch = sample_jets(number, mass=0.14, dtype=dtype, smallest=smallest, largest=largest)
    return batch.take(torch.randperm(number, generator=torch.Generator().manual_seed(1)))


def compare() -> dict[str, float]:
    """Largest relative difference of outputs and of gradients, float64, same weights at full size."""
    batch, target = jets(4, torch.float64, smallest=3, largest=12), torch.tensor([0, 1, 0, 1])
    outputs, gradients = [], []
    for model in models().values():
        out = model.double()(batch)
        F.cross_entropy(out, target).backward()
        outputs.append(out.detach())
        gradients.append([p.grad for p in model.parameters()])
    worst = max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))  # type: ignore[union-attr, operator]
        for a, b in zip(*gradients, strict=True)
    )
    return {
        "outputs": float((outputs[0] - outputs[1]).abs().max() / outputs[1].abs().max()),
        "gradients": worst,
    }


def bench(number: int = 32, repeats: int = 5) -> dict[str, Any]:
    """Jets a second of processor time, and their ratio, in training and in evaluation."""
    return rates(models(), jets(number, torch.float32), repeats)


def test_the_plain_network_has_equal_outputs_and_gradients() -> None:
    assert all(difference < 1e-8 for difference in compare().values())


@pytest.mark.slow
def test_training_is_three_times_the_plain_network() -> None:
    assert bench()["training"]["ratio"] > 3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps({"equal": compare(), **bench(arguments.jets, arguments.repeats)}, indent=1))
