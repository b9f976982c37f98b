"""Config files on toy jets, and run folders as a training leaves them, made without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepml.evaluation.report import evaluate


@pytest.fixture
def configs(toy_files: dict[str, Path], tmp_path: Path) -> list[Path]:
    """Two config files on the same toy jets, with a second test set."""
    out = []
    for name, model in {
        "pfn": "{name: pfn, phi: [8, 8], f: [8]}",
        "efn": "{name: efn, phi: [8, 8], f: [8]}",
    }.items():
        path = tmp_path / f"{name}.yaml"
        data = (
            f"{{train: {toy_files['train']}, val: {toy_files['val']}, test: {{toys: {toy_files['test']}}}}}"
        )
        path.write_text(
            f"data: {data}\nmodel: {model}\ntraining: "
            f"{{epochs: 1, batch_size: 50, device: cpu}}\ntracking: {{enabled: false}}\n"
        )
        out.append(path)
    return out


@pytest.fixture
def finished() -> Callable[..., Path]:
    """Writes a run folder with the scores that it is given: what `board` reads."""

    def make(
        folder: Path,
        label: str,
        seed: int,
        scores: dict[str, tuple[np.ndarray, np.ndarray]],
        *,
        share: float = 1.0,
        model: str = "pfn",
        **more: Any,
    ) -> Path:
        reports = {name: evaluate(y, s) for name, (y, s) in scores.items()}
        first = next(iter(reports))
        summary = {
            "test": reports[first],
            "tests": {name: report for name, report in reports.items() if name != first},
            "parameters": 1234,
            "seconds": 60.0,
            "epochs": 3,
            "jets": {"train": round(1000 * share), "val": 100, **{n: len(y) for n, (y, _) in scores.items()}},
            "classes": ["QCD", "Tbqq"],
            "model": model,
            "config": label,
            "digest": {"train": "a", **dict.fromkeys(scores, "b")},
            "device": "cpu",
            **more,
        }
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "benchmark.json").write_text(
            json.dumps({"label": label, "seed": seed, "share": share, "digest": "x"})
        )
        for name, (y, s) in scores.items():
            np.savez(folder / "scores" / f"{name}.npz", labels=y, **{model: s})
        return folder

    return make
