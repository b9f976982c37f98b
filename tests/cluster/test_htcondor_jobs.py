"""What `hepml submit htcondor` writes, run as a pool runs it, without one.

The executable is copied into an empty folder and run under the pool's name for it, with the arguments and the
environment that the description lists and nothing else, told to end as the description says, and started
again elsewhere. Descriptions and DAG are read by HTCondor's real parser. The jobs themselves run by name:
`pytest -m slow tests/cluster/test_htcondor_jobs.py`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from toys import write_toy_jets

from hepml.cli.main import main
from hepml.tracking.journal import read_journal

bindings = pytest.importorskip("htcondor2")
CONFIG = (
    "data: {train: train.root, val: val.root, test: test.root}\nmodel: {name: pfn, phi: [8, 8], f: [8]}\n"
    "training: {epochs: 40, batch_size: 2, device: cpu, threads: 1}\ntracking: {enabled: false}\n"
)


def unquoted(text: str) -> list[str]:
    """The words of HTCondor's new syntax for arguments and environment."""
    words, word, quoted, i = [], "", False, 0
    text = text.strip().removeprefix('"').removesuffix('"').replace('""', '"') + " "
    while i < len(text):
        if text[i] == "'" and quoted and text[i + 1] == "'":
            word, i = word + "'", i + 1
        elif text[i] == "'":
            quoted = not quoted
        elif text[i] == " " and not quoted:
            words, word = [*words, *([word] if word else [])], ""
        else:
            word += text[i]
        i += 1
    return words


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """What is written where no queue answers; the error has both commands to run."""
    home = tmp_path / "it's home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    for i, (name, jets) in enumerate({"train": 203, "val": 101, "test": 120}.items()):
        write_toy_jets(home / f"{name}.root", jets, seed=i)
    (home / "toy.yaml").write_text(CONFIG)
    board = tmp_path / "board"
    assert (
        main(["submit", "htcondor", "toy.yaml", "--seeds", "2", "-c", "1", "-t", "30", "-o", str(board)]) == 2
    )
    told = capsys.readouterr().err
    assert f"condor_submit {board}/jobs.sub" in told
    assert f"condor_submit_dag {board}/jobs.dag" in told
    return board


def start(description: Any, arguments: str, scratch: Path) -> subprocess.Popen[str]:
    """A job on its machine: the transferred script, and nothing of the submitting environment."""
    scratch.mkdir()
    assert (description["should_transfer_files"], description["transfer_output_files"]) == ("YES", '""')
    assert description.get("transfer_input_files") is None
    script = shutil.copy(description["executable"], scratch / "condor_exec.exe")
    environment = dict(word.split("=", 1) for word in unquoted(description["environment"]))
    return subprocess.Popen(
        [script, *unquoted(arguments)], cwd=scratch, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_dag_has_a_node_for_each_run_with_the_same_words(board: Path, tmp_path: Path) -> None:
    """DAGMan ends all jobs of a node when one fails, so no two runs share one."""
    jobs = bindings.Submit((board / "jobs.sub").read_text())
    items = [next(iter(dict(item).values())) for item in jobs.itemdata()]
    lines = (board / "jobs.dag").read_text().splitlines()
    assert [line for line in lines if line.startswith("JOB")] == [
        f"JOB run_{i} {board}/node.sub" for i in range(len(items))
    ]
    said = [
        line.split('words="', 1)[1].removesuffix('"').replace('\\"', '"') for line in lines if "VARS" in line
    ]
    assert said == items
    assert lines[-1] == f"FINAL leaderboard {board}/gather.sub"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/condor_dagman").write_text("#!/bin/sh\n")  # the parser looks for it, and does not run it
    (tmp_path / "bin/condor_dagman").chmod(0o755)
    assert "condor_dagman" in bindings.Submit.from_dag(str(board / "jobs.dag"), {"force": True})["executable"]
    (board / "wrong.dag").write_text("JOBS run_0 node.sub\n")
    with pytest.raises(bindings.HTCondorException, match="not a valid DAG command"):
        bindings.Submit.from_dag(str(board / "wrong.dag"), {"force": True})
    node = bindings.Submit((board / "node.sub").read_text())
    assert {key: node[key] for key in node if key != "arguments"}.items() <= dict(jobs).items()


@pytest.mark.slow
def test_a_job_goes_on_in_its_next_slot_from_an_empty_folder(board: Path, tmp_path: Path) -> None:
    description = bindings.Submit((board / "jobs.sub").read_text())
    words = next(iter(dict(next(iter(description.itemdata()))).values()))
    run = board / "runs/toy/seed_1"
    evicted = getattr(signal, description["kill_sig"])
    for i, (ending, code) in enumerate(
        {signal.SIGUSR1: int(description["checkpoint_exit_code"]), evicted: 128 + evicted}.items()
    ):
        job = start(description, words, tmp_path / f"slot{i}")
        deadline = time.monotonic() + 300
        while len(starts(run)) <= i and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        before = last(run)
        while last(run) == before and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        job.send_signal(ending)  # reaches `timeout`, which hands it on
        told, _ = job.communicate(timeout=120)
        assert job.returncode == code, told
        assert not (run / "summary.json").exists(), "it was over before it was told to end"
    job = start(description, words, tmp_path / "slot2")
    told, _ = job.communicate(timeout=600)
    assert job.returncode == 0, told
    assert json.loads((run / "summary.json").read_text())["epochs"] == 40
    assert [bool(e["resumed"]) for e in starts(run)] == [False, True, True]
    assert not any(p.name != "condor_exec.exe" for i in range(3) for p in (tmp_path / f"slot{i}").iterdir())

    gather = bindings.Submit((board / "gather.sub").read_text())
    words = next(iter(dict(next(iter(gather.itemdata()))).values()))
    job = start(gather, words, tmp_path / "gather")
    told, _ = job.communicate(timeout=300)
    assert job.returncode == 1, "the second run has not been started"
    board_ = json.loads((board / "benchmark.json").read_text()) if (board / "benchmark.json").exists() else {}
    assert "toy" in told or board_


def starts(run: Path) -> list[dict[str, Any]]:
    return list(read_journal(run).of("start")) if run.is_dir() else []


def last(run: Path) -> float:
    file = run / "checkpoints/last.ckpt"
    return os.stat(file).st_mtime if file.exists() else 0.0
