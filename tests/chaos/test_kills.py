"""Trainings that are killed, at any moment and by any signal, end as if nothing had happened.

`pytest -m chaos tests/chaos/test_kills.py`; HEPML_RUNS says which runs (1-31), each of which is killed up to
four times. Moments are drawn over the whole life of the process (imports, start-up, steps, checkpoints,
scoring) and told by its own processor time, so that a busy machine kills at the same moments as an idle one.
Kills are added to the file HEPML_KILLS, if given: the run, the signal, and what it met."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from toys import write_toy_jets

from hepml.tracking.journal import read_journal
from hepml.training.checkpoints import read_checkpoint

pytestmark = pytest.mark.chaos
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
EPOCHS = 30
CONFIG = f"""
data: {{train: train.root, val: val.root, test: test.root}}
model: {{name: pfn, phi: [16, 16], f: [16], dropout: 0.2}}
training: {{epochs: {EPOCHS}, batch_size: 20, augment: [rotate_phi], checkpoint_every: 1, threads: 1}}
tracking: {{enabled: false}}
"""
FIRST, LAST = (int(n) for n in os.environ.get("HEPML_RUNS", "1-31").split("-"))


def command(output: Path) -> list[str]:
    return [sys.executable, "-m", "hepml", "train", "toy.yaml", "-o", str(output), "--resume", "--quiet"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nobody disturbed, and the processor time of its life."""
    folder = tmp_path_factory.mktemp("kills")
    for i, (name, jets) in enumerate({"train": 403, "val": 101, "test": 120}.items()):
        write_toy_jets(folder / f"{name}.root", jets, seed=i)
    (folder / "toy.yaml").write_text(CONFIG)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command(folder / "whole"), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return folder / "whole", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def phase(run: Path, began: int) -> str:
    """Where a process was when it died, by what it had written; `began` starts were there before it."""
    record = read_journal(run)
    if len(record.of("start")) == began:
        return "start-up"
    reported = [e for e in record.of("metrics") if "epoch_seconds" in e["values"]]
    return "scoring" if len(reported) == EPOCHS else "training"


def killed_until_it_ends(run: Path, seed: int, life: float) -> list[tuple[str, str]]:
    """Starts the run until it has ended, and kills it on the way; by which signals, and when."""
    rng, kills = random.Random(seed), list[tuple[str, str]]()
    most = (1, 2, 4)[seed % 3]
    while True:
        began = len(read_journal(run).of("start")) if run.is_dir() else 0
        process = subprocess.Popen(
            command(run), cwd=run.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        chosen, moment = rng.choice(SIGNALS), rng.uniform(0.02, 0.9) * life
        sent = False
        while len(kills) < most and process.poll() is None and not sent:
            used = psutil.Process(process.pid).cpu_times()
            if used.user + used.system >= moment:
                process.send_signal(chosen)
                sent = True
            time.sleep(0.01)
        _, told = process.communicate()
        if process.returncode == 0:
            assert not sent or moment > 0.5 * life, f"{chosen.name} was not noticed: {told[-2000:]}"
            return kills
        assert sent, told[-2000:]
        assert process.returncode in (128 + chosen, -chosen), told[-2000:]
        kills.append((chosen.name, phase(run, began)))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("seed", range(FIRST, LAST + 1))
def test_a_run_that_is_killed_ends_bit_for_bit(
    whole: tuple[Path, float], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    one, life = whole
    other = one.with_name(f"run{seed}")
    kills = killed_until_it_ends(other, seed, life)
    with capsys.disabled():
        print(f"\nrun {seed}: {len(kills)} kills {kills}", flush=True)
    first, second = (read_checkpoint(run / "checkpoints/last.ckpt") for run in (one, other))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "hepml_random", "hepml_ranks"):
        assert same(first[key], second[key]), key
    scores = [np.load(run / "scores/test.npz") for run in (one, other)]
    assert all(np.array_equal(scores[0][key], scores[1][key]) for key in scores[0].files)
    epochs = [e["step"] for e in read_journal(other).of("metrics") if "epoch_seconds" in e["values"]]
    assert epochs == list(range(EPOCHS)), "every epoch is reported once"
    assert not list(other.rglob("*.partial*")), "what killed writers left is swept"
    assert json.loads((other / "summary.json").read_text())["epochs"] == EPOCHS
    if "HEPML_KILLS" in os.environ:
        with open(os.environ["HEPML_KILLS"], "a") as file:
            file.writelines(f"{seed} {name} {when}\n" for name, when in kills)
