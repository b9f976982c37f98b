"""Out-of-fold scores: every jet of the training files scored by the runs that were not trained on it.

Analyses that train on the jets they analyse need such scores. The runs of a benchmark with `--folds` score
the part that they left out; here the parts are put together, in the order in which the jets were read, into
one file of scores that `hepml evaluate --scores` reads.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hepml.data.reading.arrays import read_arrays
from hepml.errors import DataError, HepmlError
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
            beside, scores = joined(runs)
        except HepmlError as problem:
            board["remarks"].append(f"{row['label']}: no out-of-fold scores: {problem.what}")
            continue
        remarks = [line for run in runs for line in _summary(run).get("remarks", ())]
        board["remarks"] += [f"{row['label']}: {line}" for line in dict.fromkeys(remarks)]
        if columns and not same_jets(columns, beside):
            board["remarks"].append(f"{row['label']}: no out-of-fold scores: it was trained on other jets")
            continue
        columns = columns or beside
        columns[row["label"]] = scores.astype(np.float32)
        classes = row["classes"] if scores.ndim == 2 else None
        report = evaluate(beside["labels"], scores, beside.get("weights"), classes=classes or None)
        reports[row["label"]] = report
    if not reports:
        return None
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
    write_atomically(output / FILE, buffer.getvalue())
    board["out_of_fold"] = {"file": str(output / FILE), "taggers": reports}
    return output / FILE


def joined(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What stands beside the scores of all jets (labels, fold; weights and entry where there are any), and
    one tagger's scores of them, [N] or [N, C], means over seeds.

    Args:
        runs: of a leaderboard's row: their folders, seeds and folds.

    Raises:
        FileError: scores that cannot be read.
        DataError: a jet without a score, or with several of one seed.
    """
    parts = []
    for run in runs:
        place = Path(run["folder"]) / "scores" / f"{FOLD}.npz"
        arrays = read_arrays(place)
        names = [key for key in arrays if key not in _BESIDE]
        if len(names) != 1 or "index" not in arrays:
            raise DataError("no scores of a fold", where=str(place), mend="train this fold again")
        parts.append((int(run["seed"]), int(run["fold"]), arrays, arrays[names[0]].astype(np.float64)))
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
            raise DataError("two runs of one seed have scored the same jets")
        mine[at] = values
        beside["fold"][at] = fold
        for key in beside.keys() - {"fold"}:
            beside[key][at] = arrays[key]
    absent = int(np.isnan(scores.reshape(len(seeds), jets, -1)).any(axis=(0, 2)).sum())
    if absent:
        raise DataError(f"{absent:,} of {jets:,} jets have no score: a fold is missing")
    return beside, scores.mean(axis=0)


def same_jets(first: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether what stands beside two taggers' scores is of the same jets, as far as it tells."""
    return all(np.array_equal(first[n], other[n]) for n in _SAME if n in first.keys() & other.keys())


def _summary(run: Mapping[str, Any]) -> dict[str, Any]:
    return RunDirectory(run["folder"]).read_json(SUMMARY)
