"""The training step of hepml's Particle Transformer against weaver-core's, on the same jets with the same
weights.

Run by name: `python tests/benchmarks/bench_transformers.py [FILE.root] [--batch 64] [--rounds 5] [--bf16]
[--forward] [--only NAME]`, or `pytest -m slow tests/benchmarks/bench_transformers.py`. A step is forward,
loss, backward and one Adam update, with dropout, on one thread. Both get the very same batches, of jets of
any length as a loader shuffles them. weaver's network runs as its users run it: padded to 128 by the loader,
then trimmed by its own trimmer, which in training cuts a batch at a random quantile of its lengths, 0.9 to 1
and two in twelve times not at all, so that medians of several rounds are needed. The two take their steps in
turns in one process; seconds are the process's own (user and system together), and equal outputs are asserted
before anything is timed. The share of system time is reported beside: it is the clearing of pages of large
temporaries. With `--only` one side runs alone, which shows that the other does not slow it. The share of the
machine's matmul rate is the rate of floating-point operations that the network needs for real constituents
and pairs (three times the forward pass) over that of one large product, in the precision of the run, measured
in the same turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_training_step import _jets
from padded import dense_features
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.part import weaver_state_dict_to_hepml
from hepml.packed.rectangle import to_dense

LENGTH = 128
SIDE = 1024


def measure(
    file: Path | None = None,
    *,
    batch: int = 64,
    batches: int = 4,
    rounds: int = 5,
    threads: int = 1,
    bf16: bool = False,
    forward: bool = False,
    only: str | None = None,
) -> dict[str, Any]:
    """Jets per CPU second of each, their ratio, and the share of the matmul rate.

    Args:
        file: ROOT file of jets; clouds made on the fly, of mean length 47, where left out.
        batch, batches: jets a step, and steps a round.
        rounds: timed rounds of each.
        threads: intra-op threads of torch.
        bf16: under bfloat16 autocast, both.
        forward: the forward pass in evaluation, instead of the training step.
        only: `hepml` or `weaver` alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        jets = _jets(file, batch * batches)
        steps, operations = _steps(jets, batch, batches, bf16, forward)
        steps = {name: step for name, step in steps.items() if only in (None, name) or name == "product"}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
        for r in range(rounds + 1):  # the first is not counted
            spent = dict.fromkeys(steps, (0.0, 0.0))
            for i in range(batches):
                for name, step in steps.items():
                    start = os.times()
                    step(i)
                    end = os.times()
                    user, system = spent[name]
                    spent[name] = (user + end.user - start.user, system + end.system - start.system)
            if r:
                for name, pair in spent.items():
                    seconds[name].append(pair)
    finally:
        torch.set_num_threads(before)
    totals = {name: [sum(pair) for pair in s] for name, s in seconds.items()}
    medians = {name: statistics.median(t) for name, t in totals.items()}
    rate = batches * 2 * SIDE**3 / medians.pop("product") / 1e9
    work = operations * (1 if forward else 3) / 1e9
    result = {
        "torch": torch.__version__,
        "what": "forward" if forward else "training step",
        "precision": "bfloat16 autocast" if bf16 else "float32",
        "batch": batch,
        "constituents": round(float(jets.counts.double().mean()), 1),
        **{f"{name}_jets_per_cpu_second": round(batch * batches / m, 1) for name, m in medians.items()},
        **{
            f"{name}'s system time": round(sum(s for _, s in seconds[name]) / sum(totals[name]), 2)
            for name in medians
        },
        "MFLOP a jet, forward": round(operations / 1e6 / (batch * batches), 1),
        "matmul GFLOP/s": round(rate, 1),
        **{f"{name}'s share of it": round(work / m / rate, 2) for name, m in medians.items()},
    }
    if only is None:
        result["ratio"] = round(medians["weaver"] / medians["hepml"], 2)
        result["ratio of each round"] = [
            round(w / h, 2) for w, h in zip(totals["weaver"], totals["hepml"], strict=True)
        ]
    return result


def _steps(
    jets: JetBatch, batch: int, batches: int, bf16: bool, forward: bool
) -> tuple[dict[str, Callable[[int], Any]], float]:
    from weaver.nn.model.ParticleTransformer import ParticleTransformer

    model = create("part")
    names = model.inputs.features
    # The published configuration (github.com/jet-universe/particle_transformer); what is left out is weaver's
    # default.
    reference = ParticleTransformer(len(names), 2, pair_input_dim=4, use_pre_activation_pair=False)
    model.load_state_dict(weaver_state_dict_to_hepml(reference.state_dict()))

    def padded(b: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
        width = max(LENGTH, b.max_count)
        x, mask = dense_features(b, names, width)
        v = to_dense(b.four_momenta[:, [1, 2, 3, 0]], b.offsets, width)
        return tuple(t[..., :LENGTH].contiguous() for t in (x.mT, v.mT, mask[:, None].to(x.dtype)))  # type: ignore[return-value]

    some = jets.take(torch.arange(8)).to(torch.float64)
    some = some.take(some.counts <= LENGTH)
    with torch.no_grad():
        found, expected = model.double().eval()(some), reference.double().eval()(*padded(some))
    assert (found - expected).abs().max() < 1e-5, "outputs differ"
    model.float().train(not forward)
    reference.float().train(not forward)

    chosen = [jets.take(torch.arange(i * batch, (i + 1) * batch)) for i in range(batches)]
    packed = [
        JetBatch.from_arrays(b.four_momenta, b.offsets, b.select(names), feature_names=names) for b in chosen
    ]
    rectangles = [padded(b) for b in chosen]
    for _ in range(5):  # the trimmer leaves its first five batches as they are
        reference.trimmer(*rectangles[0])
    optimizers = {m: torch.optim.Adam(m.parameters(), lr=1e-3) for m in (model, reference)}

    def step(net: nn.Module, arguments: tuple[Any, ...], labels: Tensor) -> None:
        if forward:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                net(*arguments)
            return
        optimizers[net].zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = net(*arguments)
        nn.functional.cross_entropy(out.float(), labels).backward()
        optimizers[net].step()

    square = torch.randn(SIDE, SIDE).to(torch.bfloat16 if bf16 else torch.float32)
    steps = {
        "hepml": lambda i: step(model, (packed[i],), chosen[i].labels),
        "weaver": lambda i: step(reference, rectangles[i], chosen[i].labels),
        "product": lambda i: square @ square,
    }
    return steps, _operations(jets.counts.double())


def _operations(counts: Tensor) -> float:
    """Multiplications and additions of matrix products in the forward passes of these jets, on real
    constituents and pairs alone."""
    width, hidden, heads = 128, 512, 8
    embedding = 7 * width + width * hidden + hidden * width
    block = 4 * width * width + 2 * width * hidden
    pair = 4 * 64 + 2 * 64 * 64 + 64 * heads
    attention = 2 * counts.square() * width
    one_token = 2 * (2 * width * hidden + 4 * width * width) + 4 * counts * width * heads
    pairs = counts * (counts + 1) / 2
    return 2 * float((counts * (embedding + 8 * block) + 8 * attention + pairs * pair + one_token).sum())


@pytest.mark.slow
def test_training_steps_are_as_fast_as_promised() -> None:
    pytest.importorskip(
        "weaver.nn.model.ParticleTransformer", reason="weaver-core is absent: pip install 'hepml-jets[bench]'"
    )
    assert measure(rounds=3)["ratio"] > 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--forward", action="store_true")
    parser.add_argument("--only", choices=("hepml", "weaver"))
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))
