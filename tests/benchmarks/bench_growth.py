"""How a training step grows with the constituents of a jet: milliseconds a jet at 64, 128, 256 and 512, and
the power of N from each to the next.

Run by name: `python tests/benchmarks/bench_growth.py [--models transformer …] [--sizes 128 256 512]`. Jets of
equal length, 4,096 constituents a batch at least two jets, forward, loss, backward and one Adam update on one
thread; seconds of the process's own; the least of so many steps, since what is asked is how work grows and
not how busy the machine is. Nothing may grow faster than N squared.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import pairwise

import torch
from turns import training_step

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.testing import sample_jets
from hepml.training.allocator import keep_freed_memory

MODELS = ("pfn", "particlenet", "particlenet_lite", "transformer", "part", "lgatr_slim", "lorentznet")


def milliseconds(name: str, size: int, rounds: int, constituents: int) -> float:
    """Of one training step, a jet."""
    torch.manual_seed(0)
    jets = max(2, constituents // size)
    batch = sample_jets(jets, dtype=torch.float32, smallest=size, largest=size)
    model = create(name)
    names = model.inputs.features
    if names:
        batch = JetBatch.from_arrays(
            batch.four_momenta, batch.offsets, batch.select(names), feature_names=names
        )
    step = training_step(model.train(), lambda: model(batch), torch.arange(jets) % 2)
    step()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return 1e3 * min(seconds) / jets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--constituents", type=int, default=4096, help="of a batch")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `hepml train` does
    for name in given.models:
        took = {size: milliseconds(name, size, given.rounds, given.constituents) for size in given.sizes}
        powers = [math.log(took[b] / took[a]) / math.log(b / a) for a, b in pairwise(given.sizes)]
        row = {
            "model": name,
            "ms a jet": {n: round(t, 2) for n, t in took.items()},
            "powers": [round(p, 2) for p in powers],
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
