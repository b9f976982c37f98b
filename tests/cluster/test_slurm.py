"""Trainings as jobs of a real Slurm: one node on this machine, started and stopped by the test itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import write_toy_jets

import hepml
from hepml.cli.main import main
from hepml.tracking.journal import read_journal

# Two cores, which a process that is bound to one would not find, and a second partition whose jobs give way
# to those of the first, with time to write a checkpoint.
CHANGES = {
    "CPUS=$(nproc)": "CPUS=2",
    "JobRequeue=1": "JobRequeue=1\nSlurmdParameters=config_overrides\n"
    "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE",
    "OverSubscribe=NO": "OverSubscribe=NO PriorityTier=10 PreemptMode=OFF\n"
    "PartitionName=low Nodes=$H MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60 PreemptMode=REQUEUE",
}
CONFIG = (
    "data: {train: train.root, val: val.root, test: test.root}\nmodel: {name: pfn, phi: [8, 8], f: [8]}\n"
    "training: {epochs: 1, batch_size: 50, device: cpu, threads: 1}\ntracking: {enabled: false}\n"
)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A one-node Slurm with a partition `low` that gives way; its daemons are stopped whatever happens."""
    if shutil.which("slurmctld") is None:
        pytest.skip("slurmctld is absent: apt-get install slurm-wlm munge (.ci/run does)")
    if os.geteuid() != 0:
        pytest.skip("starting Slurm's daemons takes root")
    pytest.importorskip("submitit")
    scripts, folder = Path(__file__).parent, tmp_path / "slurm"
    text = (scripts / "start_slurm.sh").read_text()
    for plain, more in CHANGES.items():
        text = text.replace(plain, more)
    (tmp_path / "start.sh").write_text(text)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # nproc heeds it, and the node would have one core
    for variable in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    try:
        # output to a file: the daemons would hold a pipe open
        with open(tmp_path / "start.log", "wb") as log:
            started = subprocess.run(
                ["bash", tmp_path / "start.sh", folder], stdout=log, stderr=log, timeout=60, check=False
            )
        assert started.returncode == 0, (tmp_path / "start.log").read_text()
        yield folder
    finally:
        with open(tmp_path / "stop.log", "wb") as log:
            subprocess.run(["scancel", "--user", "root"], stdout=log, stderr=log, timeout=20, check=False)
            subprocess.run(
                ["bash", scripts / "stop_slurm.sh", folder], stdout=log, stderr=log, timeout=20, check=False
            )


def write_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for i, (name, jets) in enumerate({"train": 203, "val": 101, "test": 120}.items()):
        write_toy_jets(folder / f"{name}.root", jets, seed=i)
    (folder / "toy.yaml").write_text(CONFIG)


def wait_for(what: Callable[[], bool], seconds: float = 300.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.3)
    return what()


def journal(run: Path) -> list[dict[str, Any]]:
    return read_journal(run).entries


def test_jobs_of_an_array_train_and_are_gathered_into_one_leaderboard(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An array of two tasks, one of which fails; then the leaderboard of what they left."""
    write_config(tmp_path, monkeypatch)
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


@pytest.mark.slow
def test_two_tasks_of_a_submitted_job_train_one_run(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`training.devices=2` asks Slurm for two tasks, which find each other; what is queued is refused."""
    write_config(tmp_path, monkeypatch)
    words = ["submit", "slurm", "toy.yaml", "-o", "board", "-c", "1", "-t", "10", "--no-gather"]
    words += ["--memory", "3", "training.devices=2"]
    assert main(words) == 0
    capfd.readouterr()
    assert main(words) == 2
    assert "already queued or running" in capfd.readouterr().err
    run = tmp_path / "board/runs/toy/seed_1"
    logs = tmp_path / "board/slurm"
    assert wait_for((run / "summary.json").is_file), [f.read_text() for f in logs.glob("*.out")]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["ranks"], summary["jets_per_epoch"]) == (2, 203)
    assert main(["submit", "status", "board", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["states"] == {"finished": 1}


# apptainer is not in Debian 12: what it does with these words, by bubblewrap. Nothing of this machine is seen
# in it but an image, its Python, and what is bound.
APPTAINER = """#!/bin/bash
[ "$1" = exec ] || exit 64; shift
binds=()
while [[ $1 == --* ]]; do
    [ "$1" = --bind ] || exit 64
    binds+=(--bind "$2" "$2"); shift 2
done
image=$1; shift
exec bwrap --bind "$image" / --ro-bind /usr /usr PYTHON --proc /proc --dev /dev --tmpfs /tmp "${binds[@]}" \\
    --chdir "$PWD" -- "$@"
"""


@pytest.mark.slow
def test_a_job_runs_in_a_container_that_sees_its_folders_only(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is absent: apt-get install bubblewrap")
    here = tmp_path / "it's here"
    here.mkdir()
    write_config(here, monkeypatch)
    (tmp_path / "hidden").touch()
    (here / "where.py").write_text(
        "from pathlib import Path\n"
        f"hidden = Path({str(tmp_path / 'hidden')!r})\n"
        "print('inside:', Path('/inside').exists(), hidden.exists(), flush=True)\n"
    )
    image = tmp_path / "my image"
    for name in ("etc", "usr", "proc", "dev", "tmp"):
        (image / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (image / name).symlink_to(f"usr/{name}")
    (image / "inside").touch()
    code = {sys.prefix, sys.base_prefix, str(Path(hepml.__file__).parents[1])}
    python = " ".join(f"--ro-bind '{place}' '{place}'" for place in sorted(code))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apptainer").write_text(APPTAINER.replace("PYTHON", python))
    (tmp_path / "bin/apptainer").chmod(0o755)
    (here / "setup.sh").write_text(f'export PATH="{tmp_path}/bin:{sys.prefix}/bin:$PATH"\n')
    words = ["submit", "slurm", "toy.yaml", "plugins=[where.py]", "-o", str(tmp_path / "my board"), "-c", "2"]
    words += ["-t", "10", "--no-gather", "--prologue", "setup.sh", "--container", str(image)]
    assert main(words) == 0
    logs, run = tmp_path / "my board/slurm", tmp_path / "my board/runs/toy/seed_1"
    ended = wait_for(lambda: (run / "summary.json").is_file() or bool(list(logs.glob("*result.pkl"))))
    told = "\n".join(file.read_text() for file in logs.glob("*.out"))
    assert ended, told
    assert (run / "summary.json").is_file(), told
    assert "inside: True False" in told


@pytest.mark.slow
def test_a_preempted_job_writes_its_checkpoint_is_queued_again_and_ends(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Preemption with a grace time: SIGTERM, a minute, and no requeue by Slurm of a job that ended."""
    write_config(tmp_path, monkeypatch)
    words = ["submit", "slurm", "toy.yaml", "-o", "board", "-c", "2", "-t", "20", "--no-gather", "-p", "low"]
    assert main([*words, "training.epochs=40", "training.batch_size=2"]) == 0
    run = tmp_path / "board/runs/toy/seed_1"
    logs = tmp_path / "board/slurm"
    assert wait_for((run / "checkpoints/last.ckpt").is_file), [f.read_text() for f in logs.glob("*.out")]
    subprocess.run(["sbatch", "-p", "main", "-n1", "-c2", "--mem=100", "--wrap", "sleep 3"], check=True)
    assert wait_for(lambda: len([e for e in journal(run) if e["kind"] == "start"]) == 2), [
        f.read_text() for f in logs.glob("*.out")
    ]
    assert wait_for((run / "summary.json").is_file)
    assert next(e["status"] for e in journal(run) if e["kind"] == "end") == "KILLED"
    assert json.loads((run / "summary.json").read_text())["epochs"] == 40
    capfd.readouterr()
    assert main(["submit", "status", "board", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["runs"]
    assert (row["state"], row["requeued"]) == ("finished", 1)


@pytest.mark.slow
def test_tasks_of_an_array_share_a_search_and_a_retry_goes_on_with_it(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two tasks is cancelled in its first trial, which whoever is there goes on with."""
    pytest.importorskip("optuna")
    write_config(tmp_path, monkeypatch)
    (tmp_path / "space.yaml").write_text("training.learning_rate: {low: 1e-4, high: 1e-1, log: true}\n")
    words = f"{sys.executable} -m hepml tune toy.yaml --search space.yaml -o found --pruner none"
    words += " training.epochs=5 training.checkpoint_every=1 training.batch_size=10 --trials"

    def submit(trials: int) -> str:
        line = ["sbatch", "--parsable", "-n1", "-c1", "--mem=2000", "--output=%a.out", "--array=0-1"]
        asked = subprocess.run(
            [*line, "--wrap", f"exec srun {words} {trials}"], check=True, capture_output=True, text=True
        )
        return asked.stdout.strip()

    def told() -> str:
        return "\n".join(file.read_text() for file in tmp_path.glob("*.out"))

    def ended() -> bool:
        asked = subprocess.run(["squeue", "--noheader"], check=True, capture_output=True, text=True)
        return not asked.stdout.strip()

    job = submit(3)
    second = tmp_path / "found/trials/0001/checkpoints/last.ckpt"
    assert wait_for(second.is_file), told()
    subprocess.run(["scancel", f"{job}_0"], check=True)
    assert wait_for(ended), told()
    submit(5)
    assert wait_for(ended), told()
    found = json.loads((tmp_path / "found/tune.json").read_text())
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    assert len(complete) == 5, told()
    assert len({trial["parameters"]["training.learning_rate"] for trial in complete}) == 5
    started = [[e["kind"] for e in journal(Path(trial["run"]))].count("start") for trial in complete]
    assert sorted(started) == [1, 1, 1, 1, 2], "the cancelled one went on from its checkpoint"
    assert (tmp_path / "found/best.yaml").is_file()
