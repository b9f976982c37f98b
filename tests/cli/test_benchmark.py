"""`hepml benchmark` and `hepml submit` as commands: one training beside one that fails, and every bad word in
one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from hepml.cli.main import main
from hepml.training.benchmark import measure, workers
from hepml.training.benchmark.plan import PlannedRun

Run = Callable[..., Any]


def test_a_failing_run_is_reported_at_the_end_and_the_others_have_their_leaderboard(
    hepml: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here:
        """No process: the training happens at once, in this one. Real ones are in tests/cluster."""

        def __init__(self, run: PlannedRun, resume: bool) -> None:
            run.folder.mkdir(parents=True, exist_ok=True)
            with open(run.folder / workers.LOG, "w") as log, redirect_stdout(log), redirect_stderr(log):
                self.code = main(run.words(resume=resume))

        def poll(self) -> int:
            return self.code

    def measure_here(
        folders: Sequence[Path], words: Sequence[str], result: str, log: Path, workers: int = 1
    ) -> None:
        measure.main(
            [*map(str, folders), *words, "--device", "cpu"]
        )  # that it runs in processes has a test of its own

    monkeypatch.setattr(workers, "_start", lambda run, resume, device: Here(run, resume))
    monkeypatch.setattr(workers, "measure", measure_here)
    broken = config.with_name("broken.yaml")
    broken.write_text(config.read_text().replace("train:", "train: nowhere.root #"))
    result = hepml(
        "benchmark", config, broken, "--workers", 2, "-o", "board", "training.epochs=1",
        "training.learning_rate=0.05", "--betas", "0,0.9",
    )  # fmt: skip
    assert result.code == 1
    assert "tiny seed 1: finished" in result.err
    assert "broken seed 1: failed" in result.err
    assert "no such file: " in result.err
    board = json.loads(Path("board/leaderboard.json").read_text())
    (row,) = board["taggers"]
    assert row["label"] == "tiny"
    assert row["flops"] > 0
    assert row["inference_jets_per_second"] > row["training_jets_per_second"] > 0
    assert list(board["failed"]) == ["broken seed 1"]
    scan = board["boost"][0]
    assert scan["accuracy"][0]["mean"] == pytest.approx(row["accuracy"]["mean"]), (
        "no boost is the test itself"
    )
    assert scan["accuracy"][1]["mean"] != scan["accuracy"][0]["mean"]
    assert "Runs without a result" in Path("board/leaderboard.md").read_text()
    assert "Leaderboard on test" in result.out
    for name in ("roc", "cost", "parameters", "boost"):
        assert Path("board/plots", f"{name}.png").exists()

    gathered = hepml("benchmark", "--gather", "board", "--json", "--no-cost")
    assert gathered.code == 1
    assert json.loads(gathered.out)["taggers"] == board["taggers"]


def test_dry_run_says_what_there_is_to_do(hepml: Run, config: Path) -> None:
    result = hepml(
        "benchmark", config, "--seeds", 2, "--fractions", "0.1,1", "-o", "board", "--dry-run", "--json"
    )
    rows = json.loads(result.out)
    assert [row["run"] for row in rows] == [
        f"tiny {share}seed {seed}" for share in ("10 % ", "") for seed in (1, 2)
    ]  # fmt: skip
    assert {row["state"] for row in rows} == {"new"}
    assert not Path("board").exists()


def test_workers_share_the_cores(hepml: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hepml.cli.benchmark import _plan

    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: set(range(8)))
    config.write_text(config.read_text().replace(", threads: 1", ""))
    assert _plan([str(config)], "4", Path("board"), None, 2, folds=None)[0].config.training.threads == 4
    assert _plan([str(config)], "2", Path("board"), None, None, folds=None)[0].config.training.threads == 4, (
        "no more workers than runs"
    )
    (run, *_) = _plan([str(config), "training.threads=3"], "2", Path("board"), None, 8, folds=None)
    assert run.config.training.threads == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--seeds", "many"], "are no seeds"),
        (["--seeds", "0"], "at least 1"),
        (["--seeds", "1,1"], "twice"),
        (["--betas", "1.5"], "no velocities"),
        (["--fractions", "2"], "is no share"),
        (["no_such.yaml"], "no config file"),
        (["--gather", "nowhere"], "no run here"),
        (["--resume", "-o", "nowhere"], "missing"),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(
    hepml: Run, config: Path, words: list[str], text: str
) -> None:
    named = [] if "--gather" in words or "--resume" in words else [config]
    result = hepml("benchmark", *named, *words, "--dry-run" if "nowhere" not in words else "-q")
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    if text != "missing":
        assert text in result.err


def test_submit_prints_a_script_that_says_what_each_task_runs(hepml: Run, config: Path) -> None:
    pytest.importorskip("submitit")
    result = hepml(
        "submit", "slurm", config, "--array", "seed=1,2", "--array", "training.batch_size=50,100", "-o",
        "board",
        "-p", "gpu", "-g", "1", "-t", "1-02:00:00", "--memory", "4", "--option", "constraint=a100",
        "--dry-run",
    )  # fmt: skip
    assert result.code == 0, result.err
    for line in (
        "#SBATCH --array=0-3%4",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --time=1560",
        "#SBATCH --mem=4096M",
        "#SBATCH --constraint=a100",
        "#SBATCH --cpus-per-task=2",
        "# task 3: hepml train",
    ):
        assert line in result.out
    assert "tiny,batch_size=100/seed_2 --resume" in result.out
    assert "hepml benchmark --gather" in result.out
    assert not Path("board").exists(), "a dry run leaves nothing"
    single = hepml("submit", "slurm", config, "-o", "board", "--one-job", "--dry-run")
    assert "# task 0: hepml benchmark --resume --output" in single.out
    assert "--array" not in single.out


def test_submit_htcondor_writes_a_description(
    hepml: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "htcondor", None)
    monkeypatch.setitem(sys.modules, "htcondor2", None)
    words = ("submit", "htcondor", config, "--seeds", 2, "-o", "a board", "-c", 3, "-t", "2h")
    result = hepml(*words)
    assert result.code == 2
    assert "a DAG cannot name a folder with a blank" in result.err
    result = hepml(*words, "--no-gather")
    assert result.code == 0, result.err
    assert "condor_submit" in result.err
    text = Path("a board/jobs.sub").read_text()
    assert "request_cpus = 3" in text
    assert "+MaxRuntime = 7200" in text
    jobs = [line for line in text.splitlines() if line.startswith('  "train ')]
    assert len(jobs) == 2
    assert "'" in jobs[0], "a folder with a blank is quoted"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--array", "seed"], "is no array"),
        (["--array", "seed=1,2", "--seeds", "3"], "twice"),
        (["--time", "soon"], "is no time"),
        (["--option", "constraint"], "is no option"),
    ],
)
def test_bad_words_of_submit_are_one_line_and_exit_code_2(
    hepml: Run, config: Path, words: list[str], text: str
) -> None:
    result = hepml("submit", "slurm", config, *words, "--dry-run")
    assert result.code == 2
    assert text in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_where_there_is_no_slurm_that_is_said(
    hepml: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(config.parent))
    result = hepml("submit", "slurm", config, "-o", "board")
    assert result.code == 2
    assert "there is no Slurm here" in result.err
