"""Processes of a benchmark: one that fails loses no other, a signal stops all cleanly, a measuring process
may die.

The processes are small scripts that leave what a training leaves, so that minutes of training are not needed
to see one fail.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hepml.training.benchmark import workers
from hepml.training.benchmark.plan import plan
from hepml.training.benchmark.workers import Interrupted, Progress, carry_out, measure

SCRIPT = """
import json, pathlib, signal, sys, time
words = sys.argv[1:]
folder = pathlib.Path(words[words.index("--output") + 1])
(folder / "words.json").write_text(json.dumps(words))
with open(folder / "journal.jsonl", "a") as out:
    out.write(json.dumps({"kind": "metrics", "time": 0, "step": 4, "values": {"val_auc": 0.75,
    "epoch_seconds": 1}}) + "\\n")
(folder / "config.yaml").write_text("")
(folder / "times.json").write_text(json.dumps([time.time()]))
mood = (folder.parent / "mood").read_text() if (folder.parent / "mood").exists() else "well"
if mood == "fails":
    print("reading jets\\nerror: no such file: train.root")
    sys.exit(2)
if mood == "dies":
    import os
    os.kill(os.getpid(), signal.SIGKILL)
if mood == "waits":
    signal.signal(signal.SIGTERM, lambda *a: ((folder / "stopped").touch(), sys.exit(143)))
    (folder / "ready").touch()
    time.sleep(60)
time.sleep(0.4)
(folder / "times.json").write_text(json.dumps([json.loads((folder / "times.json").read_text())[0],
time.time()]))
(folder / "summary.json").write_text("{}")
"""


@pytest.fixture(autouse=True)
def _small_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(workers, "command", lambda words: [sys.executable, "-S", str(script), *words])
    monkeypatch.setattr(workers, "_LOOK", 0.05)


def mood(output: Path, label: str, what: str) -> None:
    place = output / "runs" / label
    place.mkdir(parents=True, exist_ok=True)
    (place / "mood").write_text(what)


def test_one_that_fails_and_one_that_dies_do_not_lose_the_others(configs: list[Path], tmp_path: Path) -> None:
    for name in ("third", "fourth"):
        (tmp_path / f"{name}.yaml").write_text(configs[0].read_text())
    files = [configs[0], configs[1], tmp_path / "third.yaml", tmp_path / "fourth.yaml"]
    mood(tmp_path, "pfn", "fails")
    mood(tmp_path, "third", "dies")
    seen: list[set[str]] = []
    done = carry_out(plan(files, tmp_path), 2, lambda runs: seen.append({r.status for r in runs}))
    assert [p.status for p in done] == ["failed", "finished", "failed", "finished"]
    assert done[0].problem == "no such file: train.root"
    assert done[2].problem is not None
    assert "SIGKILL" in done[2].problem
    assert {"waiting", "running"} <= set.union(*seen)
    assert (done[1].epoch, done[1].values["val_auc"]) == (5, 0.75), "progress is read from the journal"


def test_so_many_run_at_a_time_and_finished_ones_not_again(configs: list[Path], tmp_path: Path) -> None:
    runs = plan(configs, tmp_path, seeds=[1, 2])
    most = 0

    def count(now: Sequence[Progress]) -> None:
        nonlocal most
        most = max(most, sum(p.status == "running" for p in now))

    assert [p.status for p in carry_out(runs, 3, count)] == ["finished"] * 4
    assert most == 3
    before = (runs[0].folder / "times.json").read_text()
    assert [p.status for p in carry_out(runs, 3)] == ["kept"] * 4
    assert (runs[0].folder / "times.json").read_text() == before


def test_a_failed_run_is_tried_again_and_resumed(configs: list[Path], tmp_path: Path) -> None:
    runs = plan(configs[:1], tmp_path)
    mood(tmp_path, "pfn", "fails")
    carry_out(runs, 1)
    assert "--resume" not in json.loads((runs[0].folder / "words.json").read_text())
    mood(tmp_path, "pfn", "well")
    assert carry_out(runs, 1)[0].status == "finished"
    assert "--resume" in json.loads((runs[0].folder / "words.json").read_text())


def test_a_signal_ends_all_runs_cleanly(configs: list[Path], tmp_path: Path) -> None:
    runs = plan(configs, tmp_path)
    for label in ("pfn", "efn"):
        mood(tmp_path, label, "waits")

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not all((run.folder / "ready").exists() for run in runs) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted) as stopped:
        carry_out(runs, 2)
    assert stopped.value.signum == signal.SIGINT
    assert all((run.folder / "stopped").exists() for run in runs), (
        "each was told by SIGTERM and ended by itself"
    )


def test_a_measuring_process_that_dies_takes_one_run_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    package = tmp_path / "elsewhere"
    package.mkdir()
    (package / "stand_in.py").write_text(
        "import os, pathlib, sys\n"
        "for word in sys.argv[1:]:\n"
        "    folder = pathlib.Path(word)\n"
        "    if folder.name == 'b': os._exit(139)\n"
        "    (folder / 'cost.json').write_text('{}')\n"
    )
    real = workers.subprocess.Popen

    def start(line: list[str], **options: object) -> object:
        return real([line[0], "-S", str(package / "stand_in.py"), *line[3:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(workers.subprocess, "Popen", start)
    measure(folders, [], "cost.json", tmp_path / "log")
    assert [json.loads((f / "cost.json").read_text()) for f in (folders[0], folders[2])] == [{}, {}]
    assert "exit code 139" in json.loads((folders[1] / "cost.json").read_text())["problem"]
