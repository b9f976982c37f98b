"""Two GPUs end where one ends: DDP over nccl, and FSDP2, whose blocks are gathered one by one on GPUs.

By name, on a machine with two GPUs: `pytest -m gpu tests/training/test_ranks_on_gpus.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import write_toy_jets

from hepml.training.checkpoints import read_checkpoint

pytestmark = pytest.mark.gpu
CONFIG = """
data: {train: train.root, val: val.root, test: test.root}
training: {epochs: 2, batch_size: 50, learning_rate: 0.001, device: cuda, precision: 64, threads: 1}
tracking: {enabled: false}
"""
MODELS = {
    "pfn": "{name: pfn, phi: [16, 16], f: [16]}",
    "particlenet": "{name: particlenet, widths: [[8, 8], [8, 8]], neighbours: 4, dropout: 0}",
    "transformer": "{name: transformer, dropout: 0}",
    "part": "{name: part, dropout: 0}",
}


def train(ranks: int, *words: str) -> dict[str, Any]:
    start = [sys.executable, "-m"]
    if ranks > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    done = subprocess.run(
        [*start, "hepml", "train", "toy.yaml", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(Path(words[-1], "summary.json").read_text())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("model", list(MODELS))
def test_two_gpus_end_where_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, strategy: str
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"two GPUs are needed, and there are {torch.cuda.device_count()}")
    monkeypatch.chdir(tmp_path)
    for i, (name, jets) in enumerate({"train": 203, "val": 101, "test": 120}.items()):
        write_toy_jets(tmp_path / f"{name}.root", jets, seed=i)
    (tmp_path / "toy.yaml").write_text(CONFIG + f"model: {MODELS[model]}\n")
    one = train(1, "-o", "one")
    many = train(2, f"training.strategy={strategy}", "-o", "many")
    assert (many["ranks"], many["strategy"], many["jets_per_epoch"]) == (2, strategy, 203)
    for name in ("val_loss", "train_loss", "val_auc"):
        assert many["validation"][name] == pytest.approx(one["validation"][name], rel=1e-4), name
    first, second = (read_checkpoint(Path(run, "checkpoints/last.ckpt")) for run in ("one", "many"))
    for name, tensor in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], tensor, rtol=1e-3, atol=1e-5)
    train(2, f"training.strategy={strategy}", "training.epochs=3", "--resume", "-o", "many")
