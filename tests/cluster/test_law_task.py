"""The law task of docs/cluster.md, word for word, run by law on a real training.

law is no dependency: `pip install law`, then `pytest -m slow tests/cluster/test_law_task.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toys import write_toy_jets

ROOT = Path(__file__).parents[2]
CONFIG = (
    "data: {train: train.root, val: val.root, test: test.root}\nmodel: {name: pfn, phi: [8, 8], f: [8]}\n"
    "training: {epochs: 2, batch_size: 50, device: cpu, threads: 1}\ntracking: {enabled: false}\n"
)


@pytest.mark.slow
def test_the_law_task_of_the_docs_trains_what_has_no_result_yet(tmp_path: Path) -> None:
    pytest.importorskip("law")
    page = (ROOT / "docs/cluster.md").read_text().partition("## A law task")[2]
    (tmp_path / "tasks.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "toy.yaml").write_text(CONFIG)
    for i, (name, jets) in enumerate({"train": 203, "val": 101, "test": 120}.items()):
        write_toy_jets(tmp_path / f"{name}.root", jets, seed=i)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/hepml").write_text(f'#!/bin/sh\nexec {sys.executable} -m hepml "$@"\n')
    (tmp_path / "bin/hepml").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "LAW_HOME": str(tmp_path / ".law"),
    }
    words = [str(Path(sys.prefix, "bin/law")), "run", "tasks.Train", "--config", "toy.yaml"]
    words += ["--workflow", "local", "--local-scheduler", "--seeds"]

    def run(seeds: str) -> str:
        done = subprocess.run(
            [*words, seeds], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    assert "there were no failed tasks" in run("3")
    summary = tmp_path / "runs/law/seed_3/summary.json"
    assert json.loads(summary.read_text())["epochs"] == 2
    written = summary.stat().st_mtime_ns
    assert "complete" in run("3"), "what has a result is not trained again"
    assert summary.stat().st_mtime_ns == written
