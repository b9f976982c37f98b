"""The training step: hepml's ParticleNet and PFN against those that users train today, on the same jets with
the same weights.

Run by name: `python tests/benchmarks/bench_training_step.py [FILE.root] [--threads 1 2] [--rounds 5]`, or
`pytest -m slow tests/benchmarks/bench_training_step.py`. A step is forward, loss, backward and one Adam
update. ParticleNet's reference is weaver-core's as its users run it, padded to 128 constituents by the loader
and then trimmed by its own trimmer; that of the PFN is the plain padded network in torch. The two of a pair
take their steps in turns in one process over the same jets, the ratio is that of median rounds, and equal
outputs are asserted before anything is timed. On a machine that others use too, `--cpu-time` counts the
process's own seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from padded import dense_features
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.particlenet import weaver_state_dict_to_hepml

LENGTH = 128
BATCHES = 4  # of each round
BATCH = {"particlenet": 128, "pfn": 512}
Step = Callable[[int], Any]


class PaddedPFN(nn.Module):
    """The Particle Flow Network as a page of torch: Phi on every slot, padding masked out of the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(3, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 256), nn.ReLU()
        )
        self.f = nn.Sequential(
            *(nn.Linear(256, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()),
            nn.Linear(100, 2),
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, P, 3] and [B, P] to [B, 2]."""
        return self.f((self.phi(x) * mask[..., None]).sum(dim=1))


def measure(
    file: Path | None = None,
    *,
    threads: Sequence[int] = (1, 2),
    rounds: int = 5,
    models: Sequence[str] = ("particlenet", "pfn"),
    batch: int | None = None,
    cpu_time: bool = False,
) -> dict[str, Any]:
    """Jets/s of each, and the ratios, by model, precision and threads.

    Args:
        file: ROOT file of jets; clouds made on the fly, of mean length 47, where left out.
        threads: intra-op threads of torch, each measured.
        rounds: timed rounds of `BATCHES` steps of each of a pair.
        models: which pairs.
        batch: jets a step, where not those of `BATCH`.
        cpu_time: count the process's CPU seconds, not the clock's.
    """
    results: dict[str, Any] = {"torch": torch.__version__}
    before = torch.get_num_threads()
    try:
        for model in models:
            size = batch or BATCH[model]
            jets = _jets(file, BATCHES * size)
            batches = [jets.take(torch.arange(i * size, (i + 1) * size)) for i in range(BATCHES)]
            mean = float(jets.counts.double().mean())
            precisions = dict(zip(("float32", "bfloat16 autocast"), _PAIRS[model](batches), strict=True))
            for precision, pair in precisions.items():
                for n in threads:
                    torch.set_num_threads(n)
                    found = _compare(pair, size * BATCHES, rounds, cpu_time)
                    results[f"{model}, {precision}, threads {n}"] = {
                        **found,
                        "batch": size,
                        "constituents": round(mean, 1),
                    }
    finally:
        torch.set_num_threads(before)
    return results


def _compare(pair: dict[str, Step], jets: int, rounds: int, cpu_time: bool) -> dict[str, Any]:
    clock = time.process_time if cpu_time else time.perf_counter
    seconds: dict[str, list[float]] = {name: [0.0] * (rounds + 1) for name in pair}
    for r in range(rounds + 1):  # the first is not counted
        for i in range(BATCHES):
            for name, step in pair.items():
                start = clock()
                step(i)
                seconds[name][r] += clock() - start
    medians = {name: statistics.median(s[1:]) for name, s in seconds.items()}
    rates = {f"{name}_jets_per_second": round(jets / m, 1) for name, m in medians.items()}
    return {**rates, "ratio": round(medians["reference"] / medians["hepml"], 2)}


def _particlenet(batches: list[JetBatch]) -> tuple[dict[str, Step], dict[str, Step]]:
    from weaver.nn.model.ParticleNet import ParticleNet

    model = create("particlenet")
    layers = [(16, (64,) * 3), (16, (128,) * 3), (16, (256,) * 3)]
    reference = ParticleNet(7, 2, layers, [(256, 0.1)], use_fusion=False)
    model.load_state_dict(weaver_state_dict_to_hepml(reference.state_dict()))
    names = model.inputs.features

    def padded(jets: JetBatch) -> tuple[Tensor, ...]:
        x, mask = dense_features(jets, names, max(LENGTH, jets.max_count))
        x, mask = x[:, :LENGTH].transpose(1, 2).contiguous(), mask[:, None, :LENGTH].contiguous()
        return x[:, -2:].contiguous(), x, mask

    # Equal outputs, on jets whose constituents all have their own position and fit the padding (see
    # docs/benchmarks.md on twins).
    jets = _without_twins(batches[0]).to(torch.float64)
    with torch.no_grad():
        found, expected = model.double().eval()(jets), reference.double().eval()(*padded(jets))
    assert len(jets) >= 8, "too few jets without twins to compare"
    assert (found - expected).abs().max() < 1e-5, "outputs differ"
    model.float().train()
    reference.float().train()
    for _ in range(5):  # the trimmer leaves its first five batches as they are
        reference.trimmer(*padded(batches[0])[:2], mask=padded(batches[0])[2])
    return _steps(model, reference, batches, padded)


def _pfn(batches: list[JetBatch]) -> tuple[dict[str, Step], dict[str, Step]]:
    model, reference = create("pfn"), PaddedPFN()
    reference.load_state_dict(model.state_dict())
    names = model.inputs.features

    def padded(jets: JetBatch) -> tuple[Tensor, ...]:
        x, mask = dense_features(jets, names, max(LENGTH, jets.max_count))
        return x[:, :LENGTH].contiguous(), mask[:, :LENGTH].to(x.dtype)

    jets = batches[0].take(batches[0].counts <= LENGTH)
    with torch.no_grad():
        found, expected = model(jets), reference(*padded(jets))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), "outputs differ"
    return _steps(model, reference, batches, padded)


_PAIRS = {"particlenet": _particlenet, "pfn": _pfn}


def _steps(
    model: nn.Module,
    reference: nn.Module,
    batches: list[JetBatch],
    padded: Callable[[JetBatch], tuple[Tensor, ...]],
) -> tuple[dict[str, Step], dict[str, Step]]:
    """The two steps in float32, and under bfloat16 autocast. Features are made beforehand, as a loader makes
    them."""
    names = model.inputs.features
    packed = [
        JetBatch.from_arrays(b.four_momenta, b.offsets, b.select(names), feature_names=names) for b in batches
    ]
    rectangles = [padded(b) for b in batches]
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in (model, reference)]

    def step(k: int, logits: Callable[[], Tensor], labels: Tensor, half: bool) -> None:
        optimizers[k].zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = logits()
        nn.functional.cross_entropy(out.float(), labels).backward()
        optimizers[k].step()

    def pair(half: bool) -> dict[str, Step]:
        return {
            "hepml": lambda i: step(0, lambda: model(packed[i]), batches[i].labels, half),
            "reference": lambda i: step(1, lambda: reference(*rectangles[i]), batches[i].labels, half),
        }

    return pair(False), pair(True)


def _without_twins(jets: JetBatch) -> JetBatch:
    x, mask = dense_features(jets.to(torch.float64), ("delta_eta", "delta_phi"))
    apart = (x[:, :, None] - x[:, None]).square().sum(-1).masked_fill(~mask[:, None] | ~mask[:, :, None], 9.0)
    apart.diagonal(dim1=1, dim2=2).fill_(9.0)
    return jets.take((apart.amin(dim=(1, 2)) > 1e-13) & (jets.counts <= LENGTH))


def _jets(file: Path | None, jets: int) -> JetBatch:
    if file is not None:
        from hepml.data.reading.reader import read_jets

        read = read_jets(file, entry_stop=jets)
        batch = JetBatch.from_awkward(read)
        assert batch.labels is not None
        return replace(batch, labels=(batch.labels > 0).to(torch.int64))  # QCD against the rest
    rng = np.random.default_rng(0)
    counts = np.clip(rng.normal(47, 15, jets).astype(int), 5, LENGTH)
    n, jet_of = int(counts.sum()), np.repeat(np.arange(jets), counts)
    pt = rng.exponential(1.0, n) + 0.02
    pt *= 600 / np.bincount(jet_of, pt)[jet_of]
    eta, phi = rng.normal(0, 0.3, n) + rng.uniform(-1.5, 1.5, jets)[jet_of], rng.normal(0, 0.3, n)
    p = np.stack((pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)), axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return JetBatch.from_arrays(p.astype(np.float32), offsets, labels=rng.integers(0, 2, jets))


@pytest.mark.slow
def test_training_steps_are_as_fast_as_promised() -> None:
    pytest.importorskip(
        "weaver.nn.model.ParticleNet", reason="weaver-core is absent: pip install 'hepml-jets[bench]'"
    )
    results = measure(threads=(1,), rounds=3, cpu_time=True)
    assert results["particlenet, float32, threads 1"]["ratio"] > 3
    assert results["pfn, float32, threads 1"]["ratio"] > 4


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=sorted(_PAIRS), default=["particlenet", "pfn"])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))
