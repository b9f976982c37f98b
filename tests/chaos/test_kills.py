"""Trainings that are killed again and again, at any moment and by any signal, end as if nothing had happened.

`pytest -m chaos tests/chaos/test_kills.py`; HEPML_KILLS says how often a run is killed at most (12). Moments
are drawn over the whole life of the process: imports, start-up, steps, checkpoints, scoring."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import write_toy_jets

from hepml.tracking.journal import read_journal
from hepml.training.checkpoints import read_checkpoint

pytestmark = pytest.mark.chaos
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
CONFIG = """
data: {train: train.root, val: val.root, test: test.root}
model: {name: pfn, phi: [16, 16], f: [16], dropout: 0.2}
training: {epochs: 100, batch_size: 20, device: cpu, threads: 1, augment: [rotate_phi], checkpoint_every: 1}
tracking: {enabled: false}
"""


def command(output: str) -> list[str]:
    return [sys.executable, "-m", "hepml", "train", "toy.yaml", "-o", output, "--resume", "--quiet"]


def killed_until_it_ends(output: str, seed: int, lifetime: float) -> dict[str, int]:
    """Starts the run until it has ended, and kills it on the way; how often by which signal."""
    rng, kills = random.Random(seed), dict[str, int]()
    most = int(os.environ.get("HEPML_KILLS", "12"))
    while True:
        process = subprocess.Popen(
            command(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if sum(kills.values()) < most:
            chosen = rng.choice(SIGNALS)
            try:
                process.wait(rng.uniform(0.1, 0.6) * lifetime)
            except subprocess.TimeoutExpired:
                process.send_signal(chosen)
                kills[chosen.name] = kills.get(chosen.name, 0) + 1
        _, told = process.communicate(timeout=600)
        if process.returncode == 0:
            return kills
        ended = {128 + s for s in SIGNALS} | {-s for s in SIGNALS}
        assert process.returncode in ended, told[-2000:]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_run_that_is_killed_often_ends_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, (name, jets) in enumerate({"train": 403, "val": 101, "test": 120}.items()):
        write_toy_jets(tmp_path / f"{name}.root", jets, seed=i)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    began = time.monotonic()
    assert subprocess.run(command("whole"), check=False, capture_output=True).returncode == 0
    kills = killed_until_it_ends("broken", seed, time.monotonic() - began)
    assert kills, "the run was over before it could be killed: try again on a quieter machine"
    with capsys.disabled():
        print(f"\nseed {seed}: {sum(kills.values())} kills {kills}")
    one, other = (read_checkpoint(Path(f, "checkpoints/last.ckpt")) for f in ("whole", "broken"))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "hepml_random", "hepml_ranks"):
        assert same(one[key], other[key]), key
    scores = [np.load(Path(f, "scores/test.npz")) for f in ("whole", "broken")]
    assert all(np.array_equal(scores[0][key], scores[1][key]) for key in scores[0].files)
    epochs = [e["step"] for e in read_journal("broken").of("metrics") if "epoch_seconds" in e["values"]]
    assert epochs == list(range(100)), "every epoch is reported once"
    assert not list(Path("broken").rglob("*.partial*")), "what killed writers left is swept"
    assert json.loads(Path("broken/summary.json").read_text())["epochs"] == 100
