"""Trainings as jobs of a real Slurm: one node on this machine, started and stopped by the test itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from toys import write_toy_jets

from hepml.cli.main import main


@pytest.fixture
def slurm(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A one-node Slurm; its daemons are stopped whatever happens."""
    if shutil.which("slurmctld") is None:
        pytest.skip("slurmctld is absent: apt-get install slurm-wlm munge (.ci/run does)")
    if os.geteuid() != 0:
        pytest.skip("starting Slurm's daemons takes root")
    pytest.importorskip("submitit")
    scripts, folder = shared / "cluster", tmp_path / "slurm"
    for variable in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    try:
        # output to a file: the daemons would hold a pipe open
        with open(tmp_path / "start.log", "wb") as log:
            started = subprocess.run(
                ["bash", scripts / "start_slurm.sh", folder], stdout=log, stderr=log, timeout=60, check=False
            )
        assert started.returncode == 0, (tmp_path / "start.log").read_text()
        yield folder
    finally:
        with open(tmp_path / "stop.log", "wb") as log:
            subprocess.run(["scancel", "--user", "root"], stdout=log, stderr=log, timeout=20, check=False)
            subprocess.run(
                ["bash", scripts / "stop_slurm.sh", folder], stdout=log, stderr=log, timeout=20, check=False
            )


def test_jobs_of_an_array_train_and_are_gathered_into_one_leaderboard(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An array of two tasks, one of which fails; then the leaderboard of what they left."""
    monkeypatch.chdir(tmp_path)
    for i, (name, jets) in enumerate({"train": 200, "val": 100, "test": 120}.items()):
        write_toy_jets(tmp_path / f"{name}.root", jets, seed=i)
    (tmp_path / "toy.yaml").write_text(
        "data: {train: train.root, val: val.root, test: test.root}\nmodel: {name: pfn, phi: [8, 8], f: [8]}\n"
        "training: {epochs: 1, batch_size: 50, device: cpu}\ntracking: {enabled: false}\n"
    )
    words = ["submit", "slurm", "toy.yaml", "-o", "board", "--cpus", "1", "--time", "10", "--no-gather"]
    code = main([*words, "--array", "data.train=train.root,nowhere.root", "--wait", "--json"])
    out, err = capfd.readouterr()
    assert code == 1, "a job failed"
    assert "toy,train=nowhere.root seed 1 has not finished" in err
    assert "1 of 2 runs finished" in err
    ids = json.loads(out)["jobs"]
    assert len({job.partition("_")[0] for job in ids}) == 1, "one array"
    assert len(ids) == 2

    assert main(["benchmark", "--gather", "board", "--no-cost", "--json"]) == 1
    board = json.loads(capfd.readouterr().out)
    (row,) = board["taggers"]
    assert row["label"] == "toy,train=train.root"
    assert 0 < row["auc"]["mean"] <= 1
    assert list(board["failed"]) == ["toy,train=nowhere.root seed 1"]
    logs = "\n".join(file.read_text() for file in (tmp_path / "board" / "slurm").glob("*.out"))
    assert "$ hepml train" in logs
    assert "no such file" in logs

    assert main([*words, "--array", "data.train=train.root"]) == 0
    assert "nothing to submit" in capfd.readouterr().out, "what is finished is not submitted again"
