"""P-CNN: hepml's, which skips the padding that jets share, beside the padded network in torch that it equals.

Run by name: `python tests/benchmarks/bench_p_cnn.py [FILE.root] [--rounds 7]`. Forward pass and training step
(forward, loss, backward, one Adam update) on batches of 128 jets of similar length, as hepml's loader makes
them, against jets padded to 128 beforehand. One thread; seconds are the process's own; medians of rounds in
turns; equal outputs are asserted before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from padded import dense_features
from torch import nn

import hepml
from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.representations.sequence import order_by_pt
from hepml.testing import sample_jets

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from padded_p_cnn import PaddedPCNN

LENGTH, BATCH, BATCHES = 128, 128, 4


def measure(file: Path | None = None, *, rounds: int = 7) -> dict[str, Any]:
    """Jets/s of both, and their ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create("p_cnn", dropout=0.0)
    names = model.inputs.features
    if file is None:
        jets = sample_jets(BATCH * BATCHES, smallest=3, largest=91, dtype=torch.float32)  # 47 in the mean
    else:
        jets = JetBatch.from_awkward(hepml.read_jets(file)[: BATCH * BATCHES], max_constituents=LENGTH)
    jets = jets.permute(order_by_pt(jets))
    jets = JetBatch.from_arrays(jets.four_momenta, jets.offsets, jets.select(names), feature_names=names)
    order = jets.counts.argsort()
    packed = [jets.take(part) for part in order.split(BATCH)]
    rectangles = [dense_features(part, names, LENGTH)[0].mT.contiguous() for part in packed]
    reference = PaddedPCNN(len(names), 2, 32, ((64, 64), (64, 64), (128, 128)), 512)
    reference.load_state_dict(model.state_dict())
    results: dict[str, Any] = {
        "torch": torch.__version__,
        "constituents": round(float(jets.counts.float().mean()), 1),
    }
    pairs = {"hepml": (model, packed), "padded": (reference, rectangles)}
    for what, step in (("forward", _forward), ("training", _trained)):
        for net, _ in pairs.values():
            net.train(what == "training")
        ours, theirs = (net(inputs[-1]) for net, inputs in pairs.values())
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max().clamp_min(1), "outputs differ"
        steps = {side: step(net) for side, (net, _) in pairs.items()}
        seconds: dict[str, list[float]] = {side: [0.0] * (rounds + 1) for side in pairs}
        for r in range(rounds + 1):  # the first is not counted
            for i in range(BATCHES):
                for side, (_, inputs) in pairs.items():
                    start = time.process_time()
                    steps[side](inputs[i])
                    seconds[side][r] += time.process_time() - start
        medians = {side: statistics.median(s[1:]) for side, s in seconds.items()}
        results[what] = {side: round(BATCH * BATCHES / m) for side, m in medians.items()}
        results[what]["ratio"] = round(medians["padded"] / medians["hepml"], 2)
    return results


def _forward(net: nn.Module) -> Callable[[Any], None]:
    def step(x: Any) -> None:
        with torch.no_grad():
            net(x)

    return step


def _trained(net: nn.Module) -> Callable[[Any], None]:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)

    def step(x: Any) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), torch.arange(len(x)) % 2).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.file, rounds=arguments.rounds), indent=2))
