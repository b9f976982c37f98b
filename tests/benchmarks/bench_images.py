"""Jet images: how many a core makes in a second, beside the loop over jets that users write.

Run by name: `python tests/benchmarks/bench_images.py [FILE.root] [--rounds 15]`, or `pytest -m slow
tests/benchmarks/bench_images.py`. Pictures of 64 x 64 pixels are made from four-momenta: coordinates, pose
(as published for the CNN: centroid, principal axis, flips; and as for ResNeXt: the jet axis), normalisation
and filling; in the pose that asks for the hardest constituents also with constituents in no order. The
reference makes the same pictures jet by jet with `numpy.histogram2d`, from the coordinates that it is given
for nothing. One thread; seconds are the process's own; medians of rounds in turns; equal pictures are
asserted before anything is timed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.representations.image import jet_images
from hepml.representations.sequence import order_by_pt
from hepml.testing import sample_jets

PIXELS, HALF_WIDTH, BATCH = 64, 0.8, 512
POSES: dict[str, dict[str, Any]] = {
    "axis": {},
    "centroid, principal axis, flips": {"centre": "centroid", "rotate": "principal", "flip": "both"},
    "leading, second below, flip": {"centre": "leading", "rotate": "second", "flip": "horizontal"},
}


def measure(file: Path | None = None, *, rounds: int = 15, batch: int = BATCH) -> dict[str, Any]:
    """Jets/s in each pose, and of the loop in the two published ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        jets = _jets(file, batch)
        results: dict[str, Any] = {
            "torch": torch.__version__,
            "constituents": round(float(jets.counts.float().mean()), 1),
        }
        sides: dict[str, Callable[[], Any]] = {
            # A new batch each time: nothing that a batch remembers is made before the clock starts.
            pose: lambda options=options: jet_images(replace(jets), PIXELS, HALF_WIDTH, **options)
            for pose, options in POSES.items()
        }
        shuffled = jets.permute(_shuffle(jets))
        last = list(POSES)[-1]
        sides[f"{last}, in no order"] = lambda: jet_images(
            replace(shuffled), PIXELS, HALF_WIDTH, **POSES[last]
        )
        _assert_equal(sides[last]()[:, 0].numpy(), sides[f"{last}, in no order"]()[:, 0].numpy())
        arrays = [
            a.numpy() for a in (kinematics.pt(jets.four_momenta), *jets.select(("delta_eta", "delta_phi")).T)
        ]
        offsets = jets.offsets.numpy()
        for pose in list(POSES)[:2]:
            posed = pose != "axis"
            sides[f"loop: {pose}"] = lambda posed=posed: _loop(*arrays, offsets, posed)
            _assert_equal(sides[pose]()[:, 0].numpy(), sides[f"loop: {pose}"]())
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        shuffle = random.Random(0)
        for _ in range(rounds + 1):  # the first is not counted
            # What the side before has left of the memory decides how many pages of a picture the system
            # clears: no fixed turns.
            for name, make in shuffle.sample(list(sides.items()), len(sides)):
                start = time.process_time()
                made = make()
                seconds[name].append(time.process_time() - start)
                del made
        results.update({name: round(batch / statistics.median(s[1:])) for name, s in seconds.items()})
        return results
    finally:
        torch.set_num_threads(before)


def _loop(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, offsets: np.ndarray, posed: bool) -> np.ndarray:
    """Pictures [B, P, P] one by one."""
    out = np.zeros((len(offsets) - 1, PIXELS, PIXELS), dtype=np.float32)
    # the same edges as `jet_images`: a ten-thousandth of a pixel early
    edges = (np.arange(PIXELS + 1) - PIXELS / 2 - 1e-4) * (2 * HALF_WIDTH / PIXELS)
    for i, (first, last) in enumerate(itertools.pairwise(offsets)):
        w, x, y = pt[first:last], eta[first:last], phi[first:last]
        if len(w) == 0:
            continue
        w = w / w.sum()
        if posed:
            x, y = x - (w * x).sum(), y - (w * y).sum()
            angle = 0.5 * math.atan2(2 * (w * x * y).sum(), (w * x * x).sum() - (w * y * y).sum())
            c, s = math.cos(0.5 * math.pi - angle), math.sin(0.5 * math.pi - angle)
            x, y = x * c - y * s, x * s + y * c
            best = np.bincount((x > 1e-5) + 2 * (y > 1e-5), w, 4).argmax()
            x, y = (x if best % 2 else -x), (y if best > 1 else -y)
        out[i] = np.histogram2d(y, x, (edges, edges), weights=w)[0]
    return out


def _assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Both round in float32: a constituent in a thousand may be on the border of two pixels."""
    different = np.abs(ours - theirs).max(axis=(1, 2)) > 1e-5
    assert different.mean() < 0.01, f"{different.mean():.1%} of the pictures differ"


def _shuffle(jets: JetBatch) -> torch.Tensor:
    """Rows, jet by jet, at random within each."""
    order = torch.randperm(len(jets.four_momenta), generator=torch.Generator().manual_seed(0))
    return order[torch.argsort(jets.jet_of[order], stable=True)]


def _jets(file: Path | None, count: int) -> JetBatch:
    if file is None:
        jets = sample_jets(count, smallest=3, largest=91, dtype=torch.float32)  # 47 in the mean
        return jets.permute(order_by_pt(jets))  # as files have them
    import hepml

    return JetBatch.from_awkward(hepml.read_jets(file)[:count])


@pytest.mark.slow
def test_a_core_makes_a_hundred_thousand_images_a_second() -> None:
    results = measure()
    print(json.dumps(results, indent=2))
    assert min(rate for name, rate in results.items() if name.startswith(tuple(POSES))) >= 100_000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=BATCH)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.file, rounds=arguments.rounds, batch=arguments.batch), indent=2))
