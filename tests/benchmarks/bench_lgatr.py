"""L-GATr and L-GATr-slim: hepml against the `lgatr` package (2.0.0), with equal weights and equal outputs.

Run by name with the package at hand: `pip install lgatr==2.0.0 && python tests/benchmarks/bench_lgatr.py
[--jets 32] [--repeats 5]`. The package gets jets padded to the largest of the batch with a mask of the
absent, in their rest frames already, which flatters it: hepml's time includes finding these frames. Whole
training steps (forward, cross-entropy, backward, Adam) are timed in turns in one process on one core, in
processor time, on jets of 47 ± 15 constituents. The map of names between both networks is here too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import timed, training_step

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.nn.lorentz.rest_frame import to_rest_frame
from hepml.packed.rectangle import mask_of, to_dense
from hepml.testing import sample_jets

HEADS, BLOCKS = 8, 12


def by_head(weight: Tensor) -> Tensor:
    """Rows in the package's order (3, channel, head) in hepml's, (3, head, channel)."""
    return weight.unflatten(0, (3, -1, HEADS)).transpose(1, 2).flatten(0, 2)


def slim_weights(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the package's LGATrSlim under hepml's names; those that its outputs do not depend on are
    left out."""
    out = {"embed.vectors": given["linear_in.weight_v"]}
    for kind in ("weight", "bias"):
        out[f"embed.scalars.{kind}"] = given[f"linear_in.linear_s.{kind}"]
        out[f"head.{kind}"] = given[f"linear_out.linear_s.{kind}"]
    for b in range(BLOCKS):
        p, last = f"blocks.{b}.", b == BLOCKS - 1
        for number, norm in ((1, "attention_norm"), (2, "mlp_norm")):
            out[f"{p}{norm}.scalars"] = given[f"{p}norm{number}.weight_s"]
            if not (last and number == 2):
                out[f"{p}{norm}.vectors"] = given[f"{p}norm{number}.weight_v"]
        out[f"{p}attention.project.vectors"] = by_head(given[f"{p}attention.linear_in.weight_v"])
        out[f"{p}attention.project.scalars.weight"] = by_head(
            given[f"{p}attention.linear_in.linear_s.weight"]
        )
        pairs = [
            ("attention.out", "attention.linear_out"),
            ("glu.linear", "mlp.layers.0.linear"),
            ("out", "mlp.layers.1"),
        ]
        for ours, theirs in pairs:
            for kind in ("weight", "bias"):
                out[f"{p}{ours}.scalars.{kind}"] = given[f"{p}{theirs}.linear_s.{kind}"]
            if ours == "attention.out" or not last:
                out[f"{p}{ours}.vectors"] = given[f"{p}{theirs}.weight_v"]
    return out


def linear_weights(
    given: Mapping[str, Tensor], theirs: str, ours: str, *, heads: bool = False
) -> dict[str, Tensor]:
    """An EquiLinear: ten weights a pair of channels, by basis map, and the maps from and to scalars, as
    hepml's three matrices."""
    w = given[f"{theirs}.weight"]
    w = by_head(w) if heads else w

    def interleaved(same: tuple[Tensor, Tensor], to_dual: Tensor, to_plain: Tensor) -> Tensor:
        rows = torch.stack((torch.stack((same[0], to_plain), -1), torch.stack((to_dual, same[1]), -1)), dim=1)
        return rows.flatten(2).flatten(0, 1)

    invariants = interleaved((w[..., 0], w[..., 4]), w[..., 5], -w[..., 9])
    if (more := given.get(f"{theirs}.s2mvs.weight")) is not None:
        more = by_head(more.unflatten(0, (-1, 2))).flatten(0, 1) if heads else more
        invariants = torch.cat((invariants, more), dim=1)
    bias = given.get(f"{theirs}.s2mvs.bias")
    if (more := given.get(f"{theirs}.mvs2s.weight")) is not None:
        more = torch.cat((more, given[f"{theirs}.s2s.weight"]), dim=1)
        invariants = torch.cat((invariants, by_head(more) if heads else more))
        bias = None if bias is None else torch.cat((bias, given[f"{theirs}.mvs2s.bias"]))
    out = {
        f"{ours}.invariants": invariants,
        f"{ours}.vectors": interleaved((w[..., 1], w[..., 3]), -w[..., 6], w[..., 8]),
        f"{ours}.bivectors": torch.stack((w[..., 2], w[..., 7]), dim=-1),
    }
    return out if bias is None else {**out, f"{ours}.bias": bias}


def full_weights(given: Mapping[str, Tensor], outputs: int = 2) -> dict[str, Tensor]:
    """Weights of the package's LGATr under hepml's names; those that its outputs do not depend on are left
    out."""
    out = linear_weights(given, "linear_in", "embed")
    for b in range(BLOCKS):
        p = f"blocks.{b}."
        for number, norm in ((1, "attention_norm"), (2, "mlp_norm")):
            gain = given[f"{p}norm{number}.weight_mv"]
            out[f"{p}{norm}.scalars"], out[f"{p}{norm}.vectors"] = (
                gain[:, [0, 4]].flatten(),
                gain[:, [1, 3]].flatten(),
            )
            out[f"{p}{norm}.bivectors"], out[f"{p}{norm}.further"] = (
                gain[:, 2],
                given[f"{p}norm{number}.weight_s"],
            )
        out |= linear_weights(
            given, f"{p}attention.qkv_module.in_linear", f"{p}attention.project", heads=True
        )
        out |= linear_weights(given, f"{p}attention.out_linear", f"{p}attention.out")
        out[f"{p}attention.scale"] = given[f"{p}attention.head_scale"]
        left, right = (
            linear_weights(given, f"{p}mlp.layers.0.linear_{side}", "x") for side in ("left", "right")
        )
        out |= {f"{p}mlp.bilinear.factors{key[1:]}": torch.cat((left[key], right[key])) for key in left}
        out |= linear_weights(given, f"{p}mlp.layers.0.linear_out", f"{p}mlp.bilinear.out")
        out |= linear_weights(given, f"{p}mlp.layers.2", f"{p}mlp.out")
    for kind in ("vectors", "bivectors"):
        del out[f"blocks.{BLOCKS - 1}.mlp.out.{kind}"]
    head = linear_weights(given, "linear_out", "head")
    out["head.weight"], out["head.bias"] = (
        head[f"head.{k}"][: 2 * outputs : 2] for k in ("invariants", "bias")
    )
    return out


class Padded(nn.Module):
    """One of the package's networks on a padded batch, a class token first, without reference vectors."""

    def __init__(self, name: str) -> None:
        super().__init__()
        lgatr = pytest.importorskip("lgatr")
        self.slim = name == "lgatr_slim"
        self.net: nn.Module = (
            lgatr.LGATrSlim(BLOCKS, 1, 0, 32, 1, 2, 96, HEADS, mlp_ratio=4)
            if self.slim
            else lgatr.LGATr(
                *(BLOCKS, 1, 2, 16, 1, 1, 32),
                attention={"num_heads": HEADS, "attn_ratio": 2, "head_scale": True},
                mlp={"mlp_ratio": 2},
            )
        )

    def forward(self, padded: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        vectors, scalars, mask = padded
        if self.slim:
            return self.net(vectors[:, :, None], scalars, attn_mask=mask)[1][:, 0]  # type: ignore[no-any-return]
        multivectors = F.pad(vectors, (1, 11))[:, :, None]
        return self.net(multivectors, scalars, attn_mask=mask)[0][:, 0, :, 0]  # type: ignore[no-any-return]

    def weights(self) -> dict[str, Tensor]:
        given = {name: q.detach() for name, q in self.net.named_parameters()}
        return slim_weights(given) if self.slim else full_weights(given)


def padded(batch: JetBatch, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    momenta, _ = to_rest_frame(batch.four_momenta, batch.offsets)
    vectors = F.pad(scale * to_dense(momenta, batch.offsets), (0, 0, 1, 0))
    mask = F.pad(mask_of(batch.offsets, vectors.shape[1] - 1), (1, 0), value=True)
    scalars = torch.zeros(*vectors.shape[:2], 1, dtype=vectors.dtype, device=vectors.device)
    scalars[:, 0] = 1.0
    return vectors, scalars, mask[:, None, None]


def models(name: str) -> tuple[nn.Module, Padded]:
    torch.manual_seed(3)
    theirs, ours = Padded(name), create(name)
    ours.load_state_dict(theirs.weights())
    return ours, theirs


def jets(number: int) -> JetBatch:
    """Jets of 47 ± 15 constituents, shuffled."""
    batch = sample_jets(number, dtype=torch.float32, smallest=21, largest=73)
    return batch.take(torch.randperm(number, generator=torch.Generator().manual_seed(1)))


def compare(name: str) -> float:
    """Largest relative difference of outputs, float64, same weights."""
    ours, theirs = models(name)
    batch = sample_jets(4, smallest=5, largest=12)
    with torch.no_grad():
        a, b = ours.double()(batch), theirs.double()(padded(batch, float(ours.scale)))  # type: ignore[arg-type]
    return float((a - b).abs().max() / b.abs().max())


def bench(name: str, number: int = 32, repeats: int = 5) -> dict[str, Any]:
    """Jets a second of processor time in a training step, and their ratio."""
    torch.set_num_threads(1)
    ours, theirs = models(name)
    batch, target = jets(number), torch.arange(number) % 2
    inputs = padded(batch, float(ours.scale))  # type: ignore[arg-type]

    steps = {
        "hepml": training_step(ours, lambda: ours(batch), target),
        "lgatr": training_step(theirs, lambda: theirs(inputs), target),
    }
    return timed(steps, number, repeats)


@pytest.mark.parametrize("name", ["lgatr", "lgatr_slim"])
def test_outputs_are_equal(name: str) -> None:
    assert compare(name) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("lgatr", 3.0), ("lgatr_slim", 1.5)])
def test_training_is_faster_than_the_packages(name: str, least: float) -> None:
    assert bench(name)["ratio"] > least


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["lgatr_slim", "lgatr"])
    arguments = parser.parse_args()
    for chosen in arguments.models:
        print(
            json.dumps(
                {
                    "model": chosen,
                    "equal": compare(chosen),
                    **bench(chosen, arguments.jets, arguments.repeats),
                },
                indent=1,
            )
        )
