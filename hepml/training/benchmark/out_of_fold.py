"""Out-of-fold scores: every jet of the training files scored by the runs that were not trained on it.

Analyses that train on the jets they analyse need such scores. The runs of a benchmark with `--folds` score
the part that they left out; here the parts are put together, in the order in which the jets were read, into
one file of scores that `hepml evaluate --scores` reads.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepml.data.reading.arrays import read_arrays
from hepml.errors import HepmlError
from hepml.evaluation.report import evaluate
from hepml.training.checkpoints import write_atomically
from hepml.training.jets import FOLD
from hepml.training.run_directory import SUMMARY, RunDirectory

FILE = "out_of_fold.npz"
_BESIDE = ("labels", "weights", "index", "entry")
_SAME = ("labels", "entry")  # what tells the jets of one tagger from those of another


def write(board: dict[str, Any], output: Path) -> Path | None:
    """Writes the file and tells the board of it under `out_of_fold`; None where no run left out a fold.

    Of a tagger with several seeds the scores are means over seeds. A tagger of which a fold is missing, or
    that was trained on other jets than the first, is left out, with a remark.

    Raises:
        FileError: the folder cannot be written.
    """
    columns: dict[str, np.ndarray] = {}
    reports: dict[str, Any] = {}
    for row in board["taggers"]:
        runs = [run for run in row["runs"] if run.get("fold") is not None]
        if not runs:
            continue
        try:
            joined, scores = _joined(runs)
        except (HepmlError, KeyError, ValueError) as problem:
            board["remarks"].append(f"{row['label']}: no out-of-fold scores: {_what(problem)}")
            continue
        remarks = [line for run in runs for line in _summary(run).get("remarks", ())]
        board["remarks"] += [f"{row['label']}: {line}" for line in dict.fromkeys(remarks)]
        if columns and not all(
            np.array_equal(columns[n], joined[n]) for n in _SAME if n in columns.keys() & joined.keys()
        ):
            board["remarks"].append(f"{row['label']}: no out-of-fold scores: it was trained on other jets")
            continue
        columns = columns or joined
        columns[row["label"]] = scores.astype(np.float32)
        classes = row["classes"] if scores.ndim == 2 else None
        report = evaluate(joined["labels"], scores, joined.get("weights"), classes=classes or None)
        reports[row["label"]] = report
    if not reports:
        return None
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
    write_atomically(output / FILE, buffer.getvalue())
    board["out_of_fold"] = {"file": str(output / FILE), "taggers": reports}
    return output / FILE


def _joined(runs: list[Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Labels, weights and folds of all jets, and one tagger's scores of them, means over seeds.

    Raises:
        ValueError: a jet without a score, or with several of one seed.
    """
    parts = []
    for run in runs:
        arrays = read_arrays(Path(run["folder"]) / "scores" / f"{FOLD}.npz")
        (name,) = [key for key in arrays if key not in _BESIDE]
        parts.append((int(run["seed"]), int(run["fold"]), arrays, arrays[name].astype(np.float64)))
    jets = 1 + max(int(arrays["index"].max()) for _, _, arrays, _ in parts)
    seeds = sorted({seed for seed, _, _, _ in parts})
    first, rows = parts[0][2], parts[0][3]
    scores = np.full((len(seeds), jets, *rows.shape[1:]), np.nan)
    beside: dict[str, np.ndarray] = {
        key: np.zeros(jets, first[key].dtype) for key in ("labels", "weights", "entry") if key in first
    }
    beside["fold"] = np.zeros(jets, dtype=np.int32)
    for seed, fold, arrays, values in parts:
        at = arrays["index"]
        mine = scores[seeds.index(seed)]
        if not np.isnan(mine[at]).all():
            raise ValueError("two runs of one seed have scored the same jets")
        mine[at] = values
        beside["fold"][at] = fold
        for key in beside.keys() - {"fold"}:
            beside[key][at] = arrays[key]
    absent = int(np.isnan(scores.reshape(len(seeds), jets, -1)).any(axis=(0, 2)).sum())
    if absent:
        raise ValueError(f"{absent:,} of {jets:,} jets have no score: a fold is missing")
    return beside, scores.mean(axis=0)


def _summary(run: Mapping[str, Any]) -> dict[str, Any]:
    return RunDirectory(run["folder"]).read_json(SUMMARY)


def _what(problem: Exception) -> str:
    return problem.what if isinstance(problem, HepmlError) else str(problem)
