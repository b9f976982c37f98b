"""One of several processes of `test_models_on_ranks.py`: what one process makes of the jets of all ranks, and
what the ranks make of their shares together, for every registered model."""

from __future__ import annotations

import copy
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from cloud import cloud
from small_taggers import CASES, random_tagger
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from hepml.data.batch import JetBatch
from hepml.nn.across_ranks import synchronise, ties
from hepml.nn.kernels import disabled
from hepml.training import sharding

SHARES = ((30, 0, 12, 1, 41), (2, 17, 25))


def learn(model: nn.Module, batch: JetBatch, first: int, weight: float) -> None:
    """Gradients of a sum over jets in which no two count alike; the first of them has this number."""
    outputs = model(batch)
    jets = torch.arange(first, first + len(batch), dtype=outputs.dtype)
    aim = torch.sin(jets[:, None] + torch.arange(outputs.shape[1]))
    loss = weight * (outputs - aim).square().sum() + ties(model)
    loss.backward()


def differences(case: str, kind: str) -> dict[str, float]:
    """The largest difference in gradients and in statistics, relative to the largest of each tensor."""
    rank, world, sharded = dist.get_rank(), dist.get_world_size(), kind != "ddp"
    one = random_tagger(case).double().train()
    for module in one.modules():
        for name in ("p", "dropout", "attention_dropout"):  # each rank draws its own
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    many = copy.deepcopy(one)
    synchronise(many)
    if sharded:
        sharding.shard(many, init_device_mesh("cpu", (world,)), by_blocks=kind == "fsdp by blocks")
    # frames of one or two massless constituents are arbitrary, and so are their gradients
    shares = [[n for n in share if n > 2] for share in SHARES] if "lloca" in case else SHARES
    whole = cloud([n for share in shares for n in share])
    first = sum(len(share) for share in shares[:rank])
    closed = disabled("pieces") if kind == "fsdp by blocks" else nullcontext()  # one group, as on a GPU
    learn(one, whole, 0, 1.0)
    with closed:
        learn(many, whole.slice(first, first + len(shares[rank])), first, world if sharded else 1.0)
    worst = {"gradients": 0.0, "statistics": 0.0}
    for (key, a), (_, b) in zip(one.named_parameters(), many.named_parameters(), strict=True):
        if a.grad is None:
            continue
        assert b.grad is not None, key
        together = b.grad.full_tensor() if isinstance(b.grad, DTensor) else b.grad
        if not sharded:
            dist.all_reduce(together)
        gap = far(a.grad, together)
        if gap > 1e-6 and rank == 0:
            print(case, key, gap, a.grad.abs().max(), flush=True)
        worst["gradients"] = max(worst["gradients"], gap)
    for a, b in zip(one.buffers(), many.buffers(), strict=True):
        worst["statistics"] = max(worst["statistics"], far(a, b))
    return worst


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-6)) if a.numel() else 0.0


if __name__ == "__main__":
    kind, place = sys.argv[1], Path(sys.argv[2])
    names = sys.argv[3:] or list(CASES)
    dist.init_process_group("gloo")
    found: dict[str, object] = {}
    for case in names:
        try:
            found[case] = differences(case, kind)
        except Exception as problem:
            print(case, str(problem)[:150], flush=True)
            found[case] = f"{type(problem).__name__}: {str(problem)[:300]}"
    if dist.get_rank() == 0:
        place.write_text(json.dumps(found, indent=1))
    dist.destroy_process_group()
