"""When a job of Slurm is queued again: told by a stand-in for scontrol."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from hepml.cluster import requeue
from hepml.cluster.task import Task

JOB = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `scontrol show job` prints, and what scontrol was told."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\ncat {tmp_path}/state\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("JobState=RUNNING Requeue=1 PreemptTime=2026-01-01T00:00:00", True),
        ("JobState=PREEMPTED Requeue=1 PreemptTime=None", True),
        ("JobState=RUNNING Requeue=1 PreemptTime=None", False),  # asked to end by a person
        ("JobState=CANCELLED Requeue=1 PreemptTime=2026-01-01T00:00:00", False),
        ("JobState=COMPLETING Requeue=1 PreemptTime=None", False),
        ("JobState=RUNNING Requeue=0 PreemptTime=2026-01-01T00:00:00", False),
    ],
)
def test_only_a_preempted_job_that_may_be_requeued_is(scontrol: Path, state: str, expected: bool) -> None:
    (scontrol / "state").write_text(state)
    assert requeue.preempted(JOB) is expected


def test_the_task_of_an_array_is_queued_again_by_its_own_name(scontrol: Path) -> None:
    (scontrol / "state").write_text("")
    assert requeue.now(JOB)
    assert (scontrol / "told").read_text().split() == ["requeue", "9_3"]
    assert requeue.now({"SLURM_JOB_ID": "12"})
    assert (scontrol / "told").read_text().split()[-1] == "12"


def test_a_time_limit_is_followed_by_another_slot_so_many_times(scontrol: Path) -> None:
    (scontrol / "state").write_text("JobState=RUNNING Requeue=1")
    assert requeue.may_go_on({**JOB, "SLURM_RESTART_COUNT": "2"})
    assert not requeue.may_go_on({**JOB, "SLURM_RESTART_COUNT": "3"})
    assert requeue.may_go_on({**JOB, "SLURM_RESTART_COUNT": "3", requeue.LIMIT: "5"})


@pytest.mark.parametrize(("seconds", "expected"), [(60, True), (6000, False)])
def test_the_end_of_a_slot_is_known_where_the_environment_does_not_say_it(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, expected: bool
) -> None:
    """Slurm 22.05 sets no SLURM_JOB_END_TIME: four slots that were too short followed each other."""
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    end = datetime.fromtimestamp(int(time.time()) + seconds).isoformat()
    (scontrol / "state").write_text(f"JobState=RUNNING EndTime={end}")
    assert requeue.out_of_time(JOB) is expected
    (scontrol / "state").write_text("JobState=RUNNING EndTime=Unknown")
    assert not requeue.out_of_time(JOB)


def test_without_slurm_nothing_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not requeue.preempted(JOB)
    assert not requeue.preempted({})
    assert not requeue.now(JOB)


def test_a_slot_that_brought_no_checkpoint_is_not_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 60))
    task = Task(["train", "a.yaml", "--resume"], folder=str(tmp_path))
    assert task.checkpoint() is None
    assert "too short for start-up" in capsys.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    assert task.checkpoint().function.words == task.words
    early = Task(["train", "a.yaml", "--resume"], folder=str(tmp_path / "none"))
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 6000))
    assert early.checkpoint() is not None, "preempted long before its limit"
