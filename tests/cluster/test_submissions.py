"""What is known of submitted jobs without accounting: a stand-in for squeue and scancel, the list beside the
runs, and run folders as trainings leave them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hepml.cli.main import main
from hepml.cluster import snapshot, status, submissions
from hepml.cluster.jobs import Job, Resources, Surroundings


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for a batch system: what squeue prints, and what scancel was told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "rows").write_text("")
    (folder / "squeue").write_text(f"#!/bin/sh\ncat {folder}/rows\n")
    (folder / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {folder}/cancelled\n')
    for name in ("squeue", "scancel"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Four submitted runs: one finished, one running in its second slot, one pending, one that left."""
    output = tmp_path / "board"
    jobs = []
    for name in ("finished", "running", "pending", "left"):
        folder = output / "runs" / name
        folder.mkdir(parents=True)
        jobs.append(Job(name, ("train", f"{name}.yaml", "--resume"), str(folder), 4))
    (output / "runs/finished/summary.json").write_text("{}")

    def journal(name: str, *entries: dict[str, object]) -> None:
        lines = [json.dumps({"time": i, **entry}) + "\n" for i, entry in enumerate(entries)]
        (output / "runs" / name / "journal.jsonl").write_text("".join(lines))

    start = {"kind": "start", "name": "a", "experiment": "b", "key": "c"}
    killed = {"kind": "end", "status": "KILLED"}
    epoch = {"kind": "metrics", "step": 1, "values": {"epoch_seconds": 30.0, "jets_per_second": 1234.0}}
    journal("running", start, killed, start, epoch)
    journal("left", start, killed, start, killed)
    log = tmp_path / "left.out"
    log.write_text("epoch 1\nJob not requeued because: timed-out too many times.\n")
    ids = ["7_0", "7_1", "7_2", "7_3"]
    logs = [None, None, None, str(log)]
    submissions.add(output, "slurm", jobs, ids, Resources(minutes=60, nodes=2), Surroundings(("a",)), logs)
    return output


def test_a_board_says_where_each_run_is(queue: Path, board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (queue / "rows").write_text("7_1 RUNNING\n7_2 PENDING\n")
    rows = {row.name: row for row in status.table(board)}
    assert {name: row.state for name, row in rows.items()} == {
        "finished": "finished", "running": "running", "pending": "pending", "left": "left",
    }  # fmt: skip
    running = rows["running"]
    assert (running.requeued, running.epoch, running.epochs, running.jets_per_second) == (1, 2, 4, 1234.0)
    assert running.seconds_left == 60
    assert "after 2 time limits" in (rows["left"].problem or "")
    assert main(["submit", "status", str(board), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"]["running"] == 1
    assert main(["submit", "status", str(board)]) == 0
    assert "hepml submit retry" in capsys.readouterr().err


def test_cancelling_a_board_cancels_what_is_in_the_queue(queue: Path, board: Path) -> None:
    (queue / "rows").write_text("7_1 RUNNING\n7_2 PENDING\n7_3 CANCELLED\n")
    assert main(["submit", "cancel", str(board)]) == 0
    assert (queue / "cancelled").read_text().split() == ["7_1", "7_2"]


def test_what_left_without_a_result_is_what_a_retry_submits(queue: Path, board: Path) -> None:
    from hepml.cli.submitted import left

    (queue / "rows").write_text("7_1 RUNNING\n7_2 PENDING\n")
    ((system, resources, around, _, jobs),) = left(board)
    assert system == "slurm"
    assert (resources.minutes, resources.nodes, around.prologue) == (60, 2, ("a",))
    assert [job.name for job in jobs] == ["left"]


def test_a_folder_that_nothing_was_submitted_from_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("status", "cancel", "retry"):
        assert main(["submit", word, str(tmp_path)]) == 2
        assert "nothing was submitted" in capsys.readouterr().err


def test_a_snapshot_is_kept_once_and_runs_in_place_of_the_checkout(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    place = snapshot.take(tmp_path, {"0_mine.py": plugin})
    assert snapshot.take(tmp_path, {"0_mine.py": plugin}) == place
    assert (place / "hepml/cli/main.py").is_file()
    assert (place / "0_mine.py").read_text() == "x = 1\n"
    assert not list(place.rglob("__pycache__"))
    plugin.write_text("x = 2\n")
    assert snapshot.take(tmp_path, {"0_mine.py": plugin}) != place
    found = Surroundings(code=str(place)).environment({"PYTHONPATH": "/else", "HEPML_RUN_FOLDER": "x"})
    assert found["PYTHONPATH"] == f"{place}:/else"
    assert found["PYTHONSAFEPATH"] == "1"
    assert "HEPML_RUN_FOLDER" not in found


def test_a_gather_step_and_a_job_of_many_runs_are_no_lost_runs(queue: Path, tmp_path: Path) -> None:
    gather = Job("leaderboard", ("benchmark", "--gather", str(tmp_path)))
    many = Job("board", ("benchmark", "--resume", "--output", str(tmp_path / "board")))
    submissions.add(tmp_path, "slurm", [gather, many], ["8", "9"], Resources(), Surroundings())
    (queue / "rows").write_text("8 PENDING\n9 RUNNING\n")
    assert [row.state for row in status.table(tmp_path)] == ["pending", "running"]
    (queue / "rows").write_text("")
    run = tmp_path / "board/runs/a/seed_1"
    run.mkdir(parents=True)
    (run / "benchmark.json").write_text("{}")
    assert [row.state for row in status.table(tmp_path)] == ["ended", "left"]
    (run / "summary.json").write_text("{}")
    assert [row.state for row in status.table(tmp_path)] == ["ended", "finished"]


def test_a_retry_asks_for_the_same_logs_and_credential_and_gathers_again(tmp_path: Path) -> None:
    from hepml.cli.submitted import gathering, left

    run, extra = tmp_path / "runs/a", {"logs": Path("/somewhere/logs"), "credential": True}
    jobs = [Job("a", ("train", "a.yaml"), str(run), 4), Job("leaderboard", ("benchmark", "--gather", "b"))]
    submissions.add(tmp_path, "htcondor", jobs, [], Resources(), Surroundings(), (), extra)
    ((_, _, _, again, (job,)),) = left(tmp_path)
    assert (again, job) == (extra, jobs[0])
    assert gathering(tmp_path) == jobs[1]
