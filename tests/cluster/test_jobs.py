"""What a task does on its node, without a batch system: runs the command, says when it failed, ends cleanly
for a checkpoint."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from pathlib import Path

import pytest

from hepml.cluster import jobs
from hepml.cluster.htcondor import description
from hepml.cluster.jobs import Job, Resources, minutes
from hepml.cluster.task import Task
from hepml.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("2h", 120), ("1d2h30m", 1590), ("01:30:00", 90), ("08:00", 480), ("1-12:00:00", 2160)],
)
def test_times_are_read_in_every_usual_form(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "soon", "1:2:3:4", "-5"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        minutes(text)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Python that writes its words down and does what `mood` says."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable} -S\n"
        "import pathlib, signal, sys, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "(here / 'words').write_text(' '.join(sys.argv[1:]))\n"
        "(here / 'usr2').write_text(str(signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN))\n"
        "mood = (here / 'mood').read_text()\n"
        "if mood == 'fails': sys.exit(2)\n"
        "if mood == 'waits':\n"
        "    signal.signal(signal.SIGTERM, lambda *a: ((here / 'stopped').touch(), sys.exit(143)))\n"
        "    (here / 'ready').touch()\n"
        "    time.sleep(60)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(jobs.sys, "executable", str(script))
    return tmp_path


def test_a_task_runs_the_command_and_a_failure_is_an_error(stand_in: Path) -> None:
    (stand_in / "mood").write_text("well")
    assert pickle.loads(pickle.dumps(Task(["train", "a.yaml", "--resume"])))() == 0
    assert (stand_in / "words").read_text() == "-u -m hepml train a.yaml --resume"
    assert (stand_in / "usr2").read_text() == "True", "Slurm's warning does not kill the training"
    (stand_in / "mood").write_text("fails")
    with pytest.raises(RuntimeError, match="exit code 2"):
        Task(["train", "a.yaml"])()


def test_a_checkpoint_ends_the_command_cleanly_and_gives_the_same_task(stand_in: Path) -> None:
    pytest.importorskip("submitit")
    (stand_in / "mood").write_text("waits")
    task = Task(["train", "a.yaml", "--resume"])

    def run() -> None:
        with pytest.raises(RuntimeError):
            task()

    running = threading.Thread(target=run)
    running.start()
    deadline = time.monotonic() + 30
    while not (stand_in / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    again = task.checkpoint()
    running.join(10)
    assert (stand_in / "stopped").exists()
    assert again.function.words == task.words


def test_a_description_for_htcondor_quotes_what_it_must() -> None:
    text = description(
        [Job("a", ("train", "it's.yaml", "model.f=[1, 2]"))], Resources(gpus=1, memory_gb=2), Path("board")
    )
    assert "request_gpus = 1" in text
    assert "request_memory = 2048M" in text
    assert "'it''s.yaml' 'model.f=[1, 2]'\"" in text
    assert '\'say ""no""\'' in description([Job("a", ('say "no"',))], Resources(), Path("board"))
    with pytest.raises(ConfigError):
        description([Job("a", ("two\nlines",))], Resources(), Path("board"))
    with pytest.raises(ConfigError):
        description([], Resources(), Path("board"))


def test_a_container_sees_the_run_folders_and_what_is_asked_for(tmp_path: Path) -> None:
    seen = jobs.binds([tmp_path / "a b", tmp_path, tmp_path], ["/eos", "/data:/data:ro"])
    line = jobs.Surroundings(container="image.sif", binds=seen).command(["train", "it's.yaml"], gpus=1)
    assert line == [
        "apptainer", "exec", "--nv", "--bind", f"{tmp_path}/a b", "--bind", str(tmp_path), "--bind", "/eos",
        "--bind", "/data:/data:ro", "image.sif", "python3", "-u", "-m", "hepml", "train", "it's.yaml",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="':' or ','"):
        jobs.binds([tmp_path / "a:b"], [])
