"""Several processes train one run: real ranks, started by torchrun on this machine, measured against one
process.

Everything here starts interpreters: `pytest -m slow tests/training/test_ranks_together.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from toys import write_toy_jets

from hepml import read_jets
from hepml.training.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow
CONFIG = """
data: {train: train.root, val: val.root, test: test.root}
model: {name: pfn, phi: [16, 16], f: [16]}
training: {epochs: 2, batch_size: 50, learning_rate: 0.005, device: cpu, threads: 1}
tracking: {enabled: false}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """203 training jets: the last step has three, which neither two nor three ranks share evenly."""
    monkeypatch.chdir(tmp_path)
    for i, (name, jets) in enumerate({"train": 203, "val": 101, "test": 120}.items()):
        write_toy_jets(tmp_path / f"{name}.root", jets, seed=i)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return tmp_path / "toy.yaml"


def command(ranks: int, *words: str) -> list[str]:
    start = [sys.executable, "-m"]
    if ranks > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    return [*start, "hepml", "train", *words]


def run(ranks: int, *words: str) -> dict[str, Any]:
    done = subprocess.run(command(ranks, *words), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(Path(words[words.index("-o") + 1], "summary.json").read_text())


def weights(folder: str) -> dict[str, torch.Tensor]:
    return read_checkpoint(Path(folder, "checkpoints/last.ckpt"))["state_dict"]


# in double precision: where a gradient vanishes, Adam makes steps of what rounding leaves of it
NORMS = (
    "model={name: particlenet, widths: [[8, 8], [8, 8]], neighbours: 4, dropout: 0}",
    "training.precision=64",
)
FSDP = ("training.strategy=fsdp", "training.gradient_clip=0.5", "training.average=0.9")


@pytest.mark.parametrize(
    ("ranks", "words"), [(2, ()), (3, ()), (2, NORMS), (2, FSDP), (2, (*NORMS, "training.strategy=fsdp"))]
)
def test_ranks_end_where_one_process_ends(config: Path, ranks: int, words: tuple[str, ...]) -> None:
    """The same jets in the same steps, so that only the order of sums differs; batch norms measure the jets
    of all ranks. What shared-out weights leave is a checkpoint like any other."""
    one, many = run(1, "toy.yaml", *words, "-o", "one"), run(ranks, "toy.yaml", *words, "-o", "many")
    assert (one["ranks"], many["ranks"]) == (1, ranks)
    assert many["norms"] == {"all_ranks": 6 if NORMS[0] in words else 0, "each_rank": 0}
    assert many["strategy"] == ("fsdp" if "training.strategy=fsdp" in words else "ddp")
    assert one["jets_per_epoch"] == many["jets_per_epoch"] == 203
    for name in ("val_loss", "train_loss", "val_accuracy", "val_auc"):
        assert many["validation"][name] == pytest.approx(one["validation"][name], rel=1e-4), name
    for name, tensor in weights("one").items():
        torch.testing.assert_close(weights("many")[name], tensor, rtol=1e-3, atol=1e-5)


def test_killed_ranks_go_on_bit_for_bit_and_another_number_goes_on_too(config: Path) -> None:
    """Dropout and augmentation draw from each rank's own generator, whose state is in the checkpoint."""
    words = ("toy.yaml", "model.dropout=0.2", "training.augment=[rotate_phi]", "training.epochs=40")
    words = (*words, "training.checkpoint_every=1")
    run(2, *words, "-o", "whole")
    process = subprocess.Popen(command(2, *words, "-o", "broken"), stderr=subprocess.PIPE, text=True)
    last = Path("broken/checkpoints/last.ckpt")
    deadline = time.monotonic() + 240
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # torchrun hands it on to both
    _, err = process.communicate(timeout=120)
    assert not Path("broken/summary.json").exists(), "it was over before the signal came"
    assert json.loads(Path("broken/run.json").read_text())["status"] == "KILLED", err
    states = [state["random"]["torch"] for state in read_checkpoint(last)["hepml_ranks"]]
    assert len(states) == 2
    assert not torch.equal(*states)

    Path("three").mkdir()
    subprocess.run(["cp", "-r", "broken/.", "three"], check=True)
    run(2, *words, "-o", "broken", "--resume")
    for name, tensor in weights("whole").items():
        assert torch.equal(weights("broken")[name], tensor), name
    done = subprocess.run(
        command(3, *words, "-o", "three", "--resume"),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the checkpoint is of 2 ranks and these are 3" in done.stderr
    assert json.loads(Path("three/summary.json").read_text())["ranks"] == 3


SEES = """
import os
from pathlib import Path
from hepml.data import shards, stream_loader
shards.SHARD, stream_loader.POOL_BYTES = 30, 60_000  # several shards and pools
plain = stream_loader.StreamLoader.__iter__
def noted(self):
    for batch in plain(self):
        if self.shuffle and (folder := os.environ.get("SEEN")):
            with open(Path(folder, f"{self.epoch}.{os.environ['RANK']}"), "a") as file:
                file.writelines(f"{e!r}\\n" for e in batch.four_momenta[batch.offsets[:-1], 0].tolist())
        yield batch
stream_loader.StreamLoader.__iter__ = noted
"""


def test_streamed_jets_come_once_an_epoch_and_killed_ranks_go_on_bit_for_bit(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ranks read shards of their own: no jet twice, none left out, and after a kill none of the epoch
    again."""
    Path("sees.py").write_text(SEES)
    seen = Path("seen")
    seen.mkdir()
    words = ("toy.yaml", "data.stream=true", "data.workers=0", "plugins=[sees.py]", "training.epochs=8")
    words = (*words, "model.dropout=0.2", "training.augment=[rotate_phi]", "training.checkpoint_every=1")
    monkeypatch.setenv("SEEN", str(seen.absolute()))
    assert run(2, *words, "-o", "whole")["jets_per_epoch"] == 203
    monkeypatch.delenv("SEEN")
    jets = read_jets("train.root")
    first = sorted(float(e) for e in np.float32(ak.firsts(jets.constituents["energy"])))
    for epoch in range(8):
        ranks = [Path(seen, f"{epoch}.{rank}").read_text().split() for rank in range(2)]
        assert [len(ranks[0]), len(ranks[1])] == pytest.approx([101.5, 101.5], abs=3)
        assert sorted(float(e) for each in ranks for e in each) == pytest.approx(first, rel=1e-6), epoch
    assert Path(seen, "0.0").read_text() != Path(seen, "1.0").read_text(), "another order each epoch"

    process = subprocess.Popen(command(2, *words, "-o", "broken"), stderr=subprocess.PIPE, text=True)
    last = Path("broken/checkpoints/last.ckpt")
    deadline = time.monotonic() + 240
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert not Path("broken/summary.json").exists(), "it was over before the signal came"
    assert json.loads(Path("broken/run.json").read_text())["status"] == "KILLED", err
    assert run(2, *words, "-o", "broken", "--resume")["jets_per_epoch"] == 203
    one, other = (read_checkpoint(Path(folder, "checkpoints/last.ckpt")) for folder in ("whole", "broken"))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(other["state_dict"][name], tensor), name
    for mine, theirs in zip(one["hepml_ranks"], other["hepml_ranks"], strict=True):
        assert torch.equal(mine["random"]["torch"], theirs["random"]["torch"]), "every rank's random state"


def test_an_error_of_the_first_rank_is_everybodys(config: Path) -> None:
    """Nobody waits for a rank that has left: the run folder is taken."""
    Path("run").mkdir()
    Path("run/config.yaml").write_text("{}")
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "15973", "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            command(1, "toy.yaml", "-o", "run"),
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        _, err = rank.communicate(timeout=300)
        assert rank.returncode == 2, err
        assert "already holds a run" in err
    assert Path("run/config.yaml").read_text() == "{}"
