"""What local canonical frames cost: training steps with and without them, and the memory of the network that
predicts them.

Run by name: `python tests/benchmarks/bench_lloca.py [--jets 32] [--repeats 5] [--backbones transformer
particlenet]`, or with `--memory`. Whole training steps (forward, cross-entropy, backward, Adam) are timed in
turns in one process on one core, in processor time, on jets of 47 ± 15 constituents: the model alone, with
frames around it, and the LLoCa-Transformer. Peak memory is that of a process of its own for each case, beyond
what it has before: frames and their gradients, as they are computed and by the definition, with the hidden
units of all pairs.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.nn.lorentz import canonical
from hepml.nn.lorentz.frames import FrameNetwork
from hepml.testing import sample_jets

WAYS = ("pieces", "definition")


def jets(number: int) -> JetBatch:
    """Jets of 47 ± 15 constituents, shuffled."""
    batch = sample_jets(number, dtype=torch.float32, smallest=21, largest=73)
    return batch.take(torch.randperm(number, generator=torch.Generator().manual_seed(1)))


def bench(backbone: str, number: int = 32, repeats: int = 5) -> dict[str, Any]:
    """Jets a second of processor time, and how much longer a step takes with frames."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    batch, target = jets(number), torch.arange(number) % 2
    models: dict[str, nn.Module] = {"plain": create(backbone), "lloca": create("lloca", backbone=backbone)}
    if backbone == "transformer":
        models["lloca_transformer"] = create("lloca_transformer")
    optimizers = {key: torch.optim.Adam(model.parameters(), lr=1e-4) for key, model in models.items()}
    seconds: dict[str, list[float]] = {key: [] for key in models}
    for i in range(repeats + 1):
        for key, model in models.items():
            gc.collect()
            start = time.process_time()
            optimizers[key].zero_grad(set_to_none=True)
            F.cross_entropy(model(batch), target).backward()
            optimizers[key].step()
            if i:
                seconds[key].append(time.process_time() - start)
    rate = {key: number / statistics.median(times) for key, times in seconds.items()}
    longer = {
        key: statistics.median(b / a for a, b in zip(seconds["plain"], times, strict=True))
        for key, times in seconds.items()
    }
    return {"jets_a_second": rate, "times_as_long": longer, "seconds": seconds}


def peak(way: str, number: int) -> None:
    """Prints the megabytes by which the process grows in one step of the frames."""
    torch.set_num_threads(1)
    if way == "definition":
        canonical._PAIRS = 2**40
        FrameNetwork._logits = FrameNetwork._pairs  # type: ignore[method-assign]
    torch.manual_seed(3)
    model, batch = create("lloca"), jets(number)

    def step(some: JetBatch) -> None:
        model.canonical(some).select(("log_pt", "delta_r")).square().sum().backward()  # type: ignore[operator]

    step(jets(2))
    before = _resident()
    step(batch)
    print(_resident() - before)


def _resident() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    return float(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def memory(numbers: tuple[int, ...] = (32, 128)) -> dict[str, dict[str, float]]:
    """Megabytes of a step of the frames beside one tensor of the hidden units of all pairs."""
    found = {}
    for number in numbers:
        pairs = int(jets(number).counts.square().sum())
        row = {"hidden units of all pairs": pairs * 128 * 4 / 2**20}
        for way in WAYS:
            command = [sys.executable, __file__, "--peak", way, "--jets", str(number)]
            row[way] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        found[f"{number} jets"] = row
    return found


@pytest.mark.slow
def test_frames_need_less_memory_than_one_tensor_of_hidden_units() -> None:
    row = memory((32,))["32 jets"]
    assert row["pieces"] < row["hidden units of all pairs"] < row["definition"] / 4


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbones", nargs="+", default=["transformer", "particlenet"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", choices=WAYS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak, arguments.jets)
    elif arguments.memory:
        print(json.dumps(memory(), indent=1))
    else:
        for name in arguments.backbones:
            print(json.dumps({"backbone": name, **bench(name, arguments.jets, arguments.repeats)}, indent=1))
