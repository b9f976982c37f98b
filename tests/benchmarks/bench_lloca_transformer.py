"""LLoCa-Transformer: hepml against the `lloca` package (2.0.0), with equal weights and equal outputs.

Run by name with the package at hand: `pip install lloca==2.0.0 && python
tests/benchmarks/bench_lloca_transformer.py [--jets 32] [--repeats 5]`; `--golden PATH` writes the data of
`tests/models/test_lloca_transformer.py` instead. Both get the same features and frames, the package as a
batch padded to its largest jet with a mask of the absent; networks that predict frames differ and are left
out. Whole training steps (forward, cross-entropy, backward, Adam) are timed in turns in one process on one
core, in processor time, on jets of 47 ± 15 constituents. The map of names between both networks is here too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import timed, training_step

from hepml.models import create
from hepml.models.lloca_transformer import LLoCaTransformer
from hepml.nn.encoder import grouped
from hepml.nn.lorentz.frames import frames
from hepml.nn.lorentz.tensorial import FrameMaps, TensorialBlock
from hepml.packed.rectangle import Rectangle, mask_of, to_dense
from hepml.testing import sample_jets

SMALL = {"width": 22, "heads": 2, "vectors": 2, "blocks": 2, "expansion": 2}


def parts_first(rows: Tensor, lead: int, heads: int, vectors: int) -> Tensor:
    """Rows in the package's order in hepml's.

    The package's is (lead, channel, head) or, for `lead` 0, (head, channel), where channels of a head are
    scalars and then vectors; hepml's is (lead, head, scalar), then (component, lead, head, vector).
    """
    x = rows.unflatten(0, (lead, -1, heads)).transpose(1, 2) if lead else rows.unflatten(0, (1, heads, -1))
    scalars = x.shape[2] - 4 * vectors
    tensors = x[:, :, scalars:].unflatten(2, (vectors, 4)).movedim(3, 0)
    return torch.cat((x[:, :, :scalars].flatten(0, 2), tensors.flatten(0, 3)))


def weights(given: Mapping[str, Tensor], heads: int, vectors: int) -> dict[str, Tensor]:
    """Weights of the package's `backbone.transformer.Transformer` under hepml's names."""
    out = {}
    for theirs, value in given.items():
        name = theirs.replace("linear_in.", "embed.").replace("linear_out.", "fc.")
        if ".attention.qkv_linear.linear." in name:
            name = name.replace("qkv_linear.linear", "in_proj")
            value = parts_first(value, 3, heads, vectors)
        elif ".attention.out_linear." in name:
            name = name.replace("out_linear", "out_proj")
            value = parts_first(value.t(), 0, heads, vectors).t() if value.ndim == 2 else value
        out[name.replace(".mlp.0.", ".fc1.").replace(".mlp.3.", ".fc2.")] = value.detach().clone()
    return out


class Package(nn.Module):
    """The package's network on a padded batch, logits averaged over constituents."""

    def __init__(self, ours: LLoCaTransformer) -> None:
        super().__init__()
        module = pytest.importorskip("lloca.backbone.transformer")
        self.frames = pytest.importorskip("lloca.framesnet.frames").Frames
        block = ours.blocks[0]
        assert isinstance(block, TensorialBlock)
        attention = block.attention
        self.heads, self.vectors = attention.heads, attention.vectors
        self.net = module.Transformer(
            ours.embed.in_features,
            f"{attention.scalars}x0n+{attention.vectors}x1n",
            ours.fc.out_features,
            len(ours.blocks),
            attention.heads,
            mlp_factor=block.fc1.out_features // ours.embed.out_features,
            preserve_variance=ours.balanced,
        )
        self.net.attention.variance_eps = 0.0  # a floor of the jet's mass, which hepml has no need of

    def forward(self, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        features, matrices, mask = given
        rest = features.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(features), 4)
        out = self.net(features, self.frames(matrices), p_ref=rest, attn_mask=mask[:, None, None])
        return (out * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # type: ignore[no-any-return]

    def weights(self) -> dict[str, Tensor]:
        return weights(dict(self.net.named_parameters()), self.heads, self.vectors)


def pair(dtype: torch.dtype = torch.float32, **arguments: Any) -> tuple[LLoCaTransformer, Package]:
    torch.manual_seed(3)
    ours = create("lloca_transformer", **arguments)
    assert isinstance(ours, LLoCaTransformer)
    theirs = Package(ours)
    state = theirs.weights()
    kept = {name: value for name, value in ours.state_dict().items() if name.startswith("predict.")}
    ours.load_state_dict({**kept, **state})
    return ours.to(dtype), theirs.to(dtype)


def inputs(counts: Tensor, columns: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets, random features [M, F] and Lorentz matrices [M, 4, 4] of jets with these counts."""
    offsets = F.pad(counts.cumsum(0), (1, 0))
    g = torch.Generator().manual_seed(5)
    rows = int(offsets[-1])
    v = torch.randn(rows, 3, 4, dtype=torch.float64, generator=g)
    v[:, 0, 0] = v[:, 0, 1:].norm(dim=-1) + 0.3
    features = torch.randn(rows, columns, dtype=torch.float64, generator=g)
    return offsets, features.to(dtype), frames(v).to(dtype)


def padded(offsets: Tensor, features: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width = int(offsets.diff().max())
    mask = mask_of(offsets, width)
    eye = torch.eye(4, dtype=matrices.dtype).expand(*mask.shape, 4, 4)
    dense = torch.where(
        mask[..., None, None], to_dense(matrices.flatten(1), offsets).unflatten(-1, (4, 4)), eye
    )
    return to_dense(features, offsets), dense, mask


def compare(**arguments: Any) -> float:
    """Largest relative difference of outputs, float64, same weights."""
    ours, theirs = pair(torch.float64, **arguments)
    offsets, features, matrices = inputs(torch.tensor([1, 2, 9, 30]), ours.embed.in_features, torch.float64)
    maps = FrameMaps.of(matrices, torch.float64, balanced=ours.balanced)
    with torch.no_grad():
        a = ours.fc(ours.pooled(features, maps, Rectangle.of(offsets, int(offsets.diff().max()))))
        b = theirs(padded(offsets, features, matrices))
    return float((a - b).abs().max() / b.abs().max())


def golden(path: Path) -> None:
    """Weights, inputs and outputs of the package's small network, with and without its rescaling of
    vectors."""
    found: dict[str, Tensor] = {}
    for balanced in (False, True):
        ours, theirs = pair(torch.float64, **SMALL, balanced=balanced)
        offsets, features, matrices = inputs(torch.tensor([1, 4, 7]), ours.embed.in_features, torch.float64)
        with torch.no_grad():
            found["balanced" if balanced else "plain"] = theirs(padded(offsets, features, matrices))
    found |= {"offsets": offsets, "features": features, "frames": matrices}
    found |= {f"weights/{name}": value for name, value in theirs.weights().items()}
    np.savez_compressed(path, **{name: value.numpy() for name, value in found.items()})  # type: ignore[arg-type]


def bench(number: int = 32, repeats: int = 5) -> dict[str, Any]:
    """Jets a second of processor time in a training step, and their ratio."""
    torch.set_num_threads(1)
    ours, theirs = pair()
    jets = sample_jets(number, dtype=torch.float32, smallest=21, largest=73)
    jets = jets.take(torch.randperm(number, generator=torch.Generator().manual_seed(1)))
    offsets, features, matrices = inputs(jets.counts, ours.embed.in_features, torch.float32)
    dense, target = padded(offsets, features, matrices), torch.arange(number) % 2
    batch = replace(jets, features=torch.cat((features, matrices.flatten(1)), dim=1))

    def forward() -> Tensor:
        groups = grouped(batch)
        assert groups.batch.features is not None
        x, frame = groups.batch.features.split((features.shape[1], 16), dim=1)
        maps = FrameMaps.of(frame.unflatten(-1, (4, 4)), torch.float32, balanced=True)
        rows = [group.rows for group in groups]
        parts = zip(x.split(rows), maps.split(rows), groups, strict=True)
        pooled = [ours.pooled(seen, own, group.where) for seen, own, group in parts]
        return ours.fc(groups.restore(pooled, ours.fc.in_features))  # type: ignore[no-any-return]

    steps = {
        "hepml": training_step(ours, forward, target),
        "lloca": training_step(theirs, lambda: theirs(dense), target),
    }
    return timed(steps, number, repeats)


@pytest.mark.parametrize("balanced", [False, True])
def test_outputs_are_equal(balanced: bool) -> None:
    assert compare(balanced=balanced) < 1e-10


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--golden", type=Path)
    arguments = parser.parse_args()
    if arguments.golden:
        golden(arguments.golden)
    else:
        equal = {"paper": compare(balanced=False), "package": compare(balanced=True)}
        print(json.dumps({"equal": equal, **bench(arguments.jets, arguments.repeats)}, indent=1))
