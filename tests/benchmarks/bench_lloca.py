"""What local canonical frames cost: a model's training step with and without them.

Run by name: `python tests/benchmarks/bench_lloca.py [--jets 32] [--repeats 5] [--backbones transformer particlenet]`. Whole training steps
(forward, cross-entropy, backward, Adam) are timed in turns in one process on one core, in processor time, on jets of 47 ± 15 constituents.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hepml.models import create
from hepml.testing import sample_jets


def bench(backbone: str, number: int = 32, repeats: int = 5) -> dict[str, Any]:
    """Jets a second of processor time, and how much longer a step takes with frames."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    batch = sample_jets(number, dtype=torch.float32, smallest=21, largest=73)
    batch = batch.take(torch.randperm(number, generator=torch.Generator().manual_seed(1)))
    target = torch.arange(number) % 2
    pair: dict[str, nn.Module] = {"plain": create(backbone), "lloca": create("lloca", backbone=backbone)}
    optimizers = {key: torch.optim.Adam(model.parameters(), lr=1e-4) for key, model in pair.items()}
    seconds: dict[str, list[float]] = {key: [] for key in pair}
    for i in range(repeats + 1):
        for key, model in pair.items():
            gc.collect()
            start = time.process_time()
            optimizers[key].zero_grad(set_to_none=True)
            F.cross_entropy(model(batch), target).backward()
            optimizers[key].step()
            if i:
                seconds[key].append(time.process_time() - start)
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    rate = {key: number / statistics.median(times) for key, times in seconds.items()}
    return {**rate, "times_as_long": statistics.median(ratios), "ratios": ratios}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbones", nargs="+", default=["transformer", "particlenet"])
    arguments = parser.parse_args()
    for name in arguments.backbones:
        print(json.dumps({"backbone": name, **bench(name, arguments.jets, arguments.repeats)}, indent=1))
