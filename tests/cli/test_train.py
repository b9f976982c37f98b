"""`hepml train`: from a config file to a table and a run folder; every bad input is one line and exit
code 2."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import toy_arrays, write_toy_jets

from hepml.training.checkpoints import epochs_of

Run = Callable[..., Any]


def test_train_ends_with_a_table_and_says_where_everything_is(hepml: Run, config: Path) -> None:
    result = hepml("train", config, "training.epochs=3", "--output", "run")
    assert result.code == 0, result.err
    summary = json.loads(Path("run/summary.json").read_text())
    for words in ("Accuracy", "AUC", "0.3", "0.5", "±", "pfn on test", "run:    run"):
        assert words in result.out
    assert f"{summary['parameters']:,} parameters" in result.out
    lines = [line for line in result.err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3, "without a terminal there is one line an epoch"
    assert "val_auc" in lines[0]
    assert "jets/s" in lines[0]
    for noise in ("GPU available", "litlogger", "workers", "Tip", "Warning"):
        assert noise not in result.err


def test_train_json_is_one_document_with_the_agreed_keys(hepml: Run, config: Path) -> None:
    result = hepml("train", config, "-o", "run", "--json")
    document = json.loads(result.out)
    assert {"accuracy", "auc", "rejection"} <= set(document["test"])
    assert {"value", "error"} <= set(document["test"]["rejection"]["0.3"])
    assert {"parameters", "seconds"} <= set(document)
    assert document == json.loads(Path("run/summary.json").read_text())


def test_without_output_a_run_goes_to_runs_and_resume_finds_the_newest(hepml: Run, config: Path) -> None:
    assert hepml("train", config, "training.epochs=1", "-q").code == 0
    (run,) = Path("runs").iterdir()
    assert run.name.startswith("tiny-")
    again = hepml("train", config, "training.epochs=2", "--resume", "-q")
    assert again.code == 0, again.err
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    named = hepml("train", run, "--resume", "training.epochs=3")
    assert named.code == 0, named.err
    assert "2 of 3 epochs behind it" in named.err
    finished = hepml("train", run, "--resume")
    assert finished.code == 0, finished.err
    assert "this run was finished: all 3 epochs" in finished.err
    wrong = hepml("train", run.with_name(run.name[:-2]), "--resume")
    assert wrong.code == 2
    assert f"did you mean {run}" in wrong.err
    assert json.loads((run / "summary.json").read_text())["epochs"] == 3


def test_the_saved_config_trains_by_the_same_command(hepml: Run, config: Path) -> None:
    hepml("train", config, "-o", "one", "-q")
    assert hepml("train", "one/config.yaml", "-o", "two", "-q").code == 0
    one, two = (json.loads(Path(n, "summary.json").read_text()) for n in ("one", "two"))
    assert one["test"] == two["test"]


def test_a_regression_ends_with_its_own_table(hepml: Run, config: Path) -> None:
    result = hepml("train", config, "data.target=jet_sdmass", "-o", "run")
    assert result.code == 0, result.err
    assert "Resolution" in result.out
    assert "val_rmse" in result.err


def test_schema_prints_one_json_schema(hepml: Run) -> None:
    schema = json.loads(hepml("train", "--schema").out)
    assert {"data", "model", "objective", "training", "tracking"} <= set(schema["properties"])


def command(config: Path, *words: str) -> list[str]:
    """The command line of a training in the folder `run`, for a process of its own."""
    return [sys.executable, "-m", "hepml.cli.main", "train", str(config), *words, "-o", "run"]


def test_a_batch_job_that_is_cancelled_ends_as_killed_and_can_go_on(hepml: Run, config: Path) -> None:
    """SIGTERM to a real process: exit code 143, status KILLED, and the printed command resumes it."""
    words = command(config, "training.epochs=4000")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not Path("run/checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM; go on with: hepml train run --resume" in err
    assert json.loads(Path("run/run.json").read_text())["status"] == "KILLED"
    assert not list(Path("run").rglob("*.tmp"))
    behind = epochs_of(
        Path("run/checkpoints/last.ckpt")
    )  # how many there were time for depends on the machine
    done = hepml("train", "run", "--resume", f"training.epochs={behind + 1}")
    assert done.code == 0, done.err
    assert json.loads(Path("run/summary.json").read_text())["epochs"] == behind + 1


@pytest.mark.slow  # seconds on idle cores, minutes where the two processes must wait for each other
def test_two_processes_train_one_run_and_measure_all_jets(config: Path) -> None:
    """DDP on two CPU processes: 101 validation jets, which do not divide by two, and one report."""
    write_toy_jets(Path("odd.root"), 101, seed=8)
    words = command(config, "data.val=odd.root", "training.devices=2")
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("epoch")]) == 2
    validation = json.loads(Path("run/summary.json").read_text())["validation"]
    right = validation["val_accuracy"] * 101
    assert right == pytest.approx(round(right), abs=1e-6), "accuracy is a number of jets out of all 101"
    journal = [json.loads(line) for line in Path("run/journal.jsonl").read_text().splitlines()]
    assert [e["status"] for e in journal if e["kind"] == "end"] == ["FINISHED"]


# ------------------------------------------------------------------ bad input


def one_class(folder: Path) -> Path:
    arrays = toy_arrays(60)
    arrays["label_QCD"][:], arrays["label_Tbqq"][:] = 1, 0
    return write_toy_jets(folder / "one.root", arrays=arrays)


def two_labels(folder: Path) -> Path:
    arrays = toy_arrays(60)
    arrays["label_QCD"][:] = 1
    return write_toy_jets(folder / "both.root", arrays=arrays)


def no_momenta(folder: Path) -> Path:
    arrays = {name.replace("part_energy", "part_energi"): values for name, values in toy_arrays(60).items()}
    return write_toy_jets(folder / "energi.root", arrays=arrays)


def no_jets(folder: Path) -> Path:
    return write_toy_jets(folder / "empty.root", 0)


def no_root(folder: Path) -> Path:
    path = folder / "text.root"
    path.write_text("not a ROOT file at all")
    return path


def cut_short(folder: Path) -> Path:
    whole = write_toy_jets(folder / "whole.root", 300).read_bytes()
    path = folder / "short.root"
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nowhere.root", ["nowhere.root"]),
        (one_class, ["only of class 'QCD'"]),
        (two_labels, ["both.root"]),
        (no_momenta, ["part_energy", "part_energi"]),
        (no_jets, ["empty.root", "no jets"]),
        (no_root, ["text.root"]),
        (cut_short, ["short.root"]),
    ],
    ids=[
        "missing file",
        "one class",
        "two labels a jet",
        "missing branch",
        "empty tree",
        "no ROOT file",
        "truncated",
    ],
)
def test_unusable_jets_are_one_line_and_leave_no_run(
    hepml: Run, config: Path, make: Callable[[Path], Path], words: list[str]
) -> None:
    result = hepml("train", config, f"data.train={make(config.parent)}", "-o", "run")
    assert result.code == 2, result.err
    said = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert result.err.splitlines()[-1] == said[0]
    for word in words:
        assert word in said[0]
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", ["training.epoch", "did you mean 'epochs'"]),
        ("training.epochs=ten", ["training.epochs", "integer"]),
        ("model.name=pfm", ["unknown model 'pfm'"]),
        ("data.classes=[QCD, Tbq]", ["Tbq", "Tbqq"]),
        ("data.target=jet_sdmas", ["jet_sdmas", "jet_sdmass"]),
        ("data.selection=jet_pt > 1e9", ["selection"]),
        ("data.layout=jetclas", ["jetclas", "jetclass"]),
        ("training.init_from=nowhere", ["nowhere"]),
    ],
)
def test_a_wrong_config_is_one_line_and_leaves_no_run(
    hepml: Run, config: Path, override: str, words: list[str]
) -> None:
    result = hepml("train", config, override, "-o", "run")
    assert result.code == 2, result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("error: ")
    for word in words:
        assert word in last
    assert not Path("run").exists()


def test_a_missing_config_and_a_taken_folder_are_one_line(hepml: Run, config: Path) -> None:
    missing = hepml("train", "tini.yaml")
    assert missing.code == 2
    assert "did you mean 'tiny.yaml'" in missing.err
    Path("run").mkdir()
    Path("run/config.yaml").write_text("data: {}\n")
    taken = hepml("train", config, "-o", "run", "-q")
    assert taken.code == 2
    assert "already holds a run" in taken.err
    nothing = hepml("train")
    assert nothing.code == 2
    assert "no config given" in nothing.err


def test_a_folder_that_cannot_be_made_is_one_line(hepml: Run, config: Path) -> None:
    Path("taken").write_text("a file where the run folder should be")
    result = hepml("train", config, "-o", "taken/run", "-q")
    assert result.code == 2
    assert "cannot make the run folder" in result.err
