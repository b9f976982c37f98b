"""What each hand-written pass of `hepml.nn.kernels` is worth: training steps with it and without it, in
turns.

Run by name: `python tests/benchmarks/bench_kernels.py FILE.root [--only KERNEL …] [--rounds 7] [--memory]`. A
step is forward, loss, backward and one Adam update of a registered tagger at its default size, in the
process's own seconds; all other kernels stay as they are. Outputs with and without the kernel are asserted to
be equal first, with dropout off. `--memory` measures the largest resident memory of one step instead, each in
a process of its own. A kernel stays where it is 1.3 times as fast, or needs half the memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import hepml
from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.nn import kernels

# A tagger that spends its time in the kernel, its arguments, and jets of a batch.
TAGGERS: dict[str, list[tuple[str, dict[str, Any], int]]] = {
    "dropout": [("transformer", {}, 64), ("part", {}, 64)],
    "edge_messages": [("particlenet", {}, 64), ("particlenet_lite", {}, 64)],
    "flow": [("hamiltonian_cloud", {}, 128)],
    "fold": [("treenin", {}, 64), ("recnn_gated", {}, 64), ("recnn", {"tree": "descending_pt"}, 64)],
    "lorentznet_messages": [("lorentznet", {}, 32)],
    "pair_sums": [("hamiltonian_cloud", {}, 128), ("residual_cloud", {}, 128)],
    "pelican_network": [("pelican", {}, 16)],
    "pieces": [("pfn", {}, 512), ("transformer", {}, 64)],
    "scalar_vector": [("lgatr_slim", {}, 32)],
}


def compare(
    kernel: Any, name: str, arguments: dict[str, Any], batch: JetBatch, rounds: int
) -> dict[str, Any]:
    """Seconds of a step with the kernel and without it, medians of so many rounds, and the ratio."""
    torch.manual_seed(0)
    model = create(name, **arguments)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    assert batch.labels is not None
    check(model, kernel, batch)

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(batch), batch.labels).backward()
        optimizer.step()
        return time.process_time() - start

    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(rounds + 1):  # the first is not counted
        for way in ("with", "without") if turn % 2 else ("without", "with"):
            with kernels.disabled(kernel) if way == "without" else nullcontext():
                took = step()
            if turn:
                seconds[way].append(took)
    ratios = sorted(b / a for a, b in zip(seconds["with"], seconds["without"], strict=True))
    with_, without = (statistics.median(seconds[way]) for way in ("with", "without"))
    return {
        "kernel": kernel,
        "tagger": name,
        "jets": len(batch),
        "jets/s with": round(len(batch) / with_, 1),
        "jets/s without": round(len(batch) / without, 1),
        "ratio": round(without / with_, 3),
        "of turns": f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
    }


def check(model: nn.Module, kernel: Any, batch: JetBatch) -> None:
    """Asserts equal outputs in training, with dropout off."""
    dropped = [
        (m, name, getattr(m, name))
        for m in model.modules()
        for name in ("p", "dropout")
        if isinstance(getattr(m, name, None), float)
    ]
    for m, name, _ in dropped:
        setattr(m, name, 0.0)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        found = model(batch)
        model.load_state_dict(state)
        with kernels.disabled(kernel):
            expected = model(batch)
    model.load_state_dict(state)
    for m, name, p in dropped:
        setattr(m, name, p)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def peak(kernel: Any, name: str, arguments: dict[str, Any], batch: JetBatch, without: bool) -> float:
    """MB that one training step takes beyond what is there before it."""
    model = create(name, **arguments)

    def memory(key: str) -> int:
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines[key].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the largest resident memory begins anew
    before = memory("VmRSS")
    with kernels.disabled(kernel) if without else nullcontext():
        F.cross_entropy(model(batch), batch.labels).backward()
    return (memory("VmHWM") - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=sorted(TAGGERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", nargs=3, metavar=("KERNEL", "CASE", "WITHOUT"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    largest = max(jets for cases in TAGGERS.values() for _, _, jets in cases)
    jets = hepml.read_jets(given.file)[:largest]
    whole = replace(JetBatch.from_awkward(jets), labels=torch.arange(len(jets)) % 2)
    if given.peak:
        kernel, case, without = given.peak
        name, arguments, count = TAGGERS[kernel][int(case)]
        print(peak(kernel, name, arguments, whole.take(torch.arange(count)), without == "1"))
        return
    print(f"mean length {len(whole.four_momenta) / len(whole):.1f}", file=sys.stderr)
    for kernel in given.only:
        for case, (name, arguments, count) in enumerate(TAGGERS[kernel]):
            if given.memory:
                command = [sys.executable, __file__, str(given.file), "--peak", kernel, str(case)]
                mb = [float(subprocess.check_output([*command, way], text=True)) for way in "01"]
                row: dict[str, Any] = {
                    "kernel": kernel,
                    "tagger": name,
                    "jets": count,
                    "MB with": round(mb[0]),
                }
                print(json.dumps({**row, "MB without": round(mb[1]), "ratio": round(mb[1] / mb[0], 2)}))
            else:
                batch = whole.take(torch.arange(count))
                print(json.dumps(compare(kernel, name, arguments, batch, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
