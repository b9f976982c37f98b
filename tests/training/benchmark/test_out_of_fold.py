"""Out-of-fold scores: every training jet once, by runs that were not trained on it, in the order of the
files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hepml.errors import ConfigError
from hepml.evaluation.score_files import read_scores
from hepml.training.benchmark import board, out_of_fold
from hepml.training.benchmark.plan import plan

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 90)
PLACES = RNG.permutation(90).reshape(3, 30)


def make_folds(finished: Callable[..., Path], root: Path, folds: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """Run folders of two seeds and some folds; the mean of the scores by jet."""
    scores = RNG.random((2, 90))
    for seed in (1, 2):
        for k in folds:
            at = np.sort(PLACES[k])
            folder = finished(
                root / f"fold_{k}/seed_{seed}", "pfn", seed, {"fold": (LABELS[at], scores[seed - 1, at])}
            )
            np.savez(folder / "scores/fold.npz", labels=LABELS[at], pfn=scores[seed - 1, at], index=at)
            mark = folder / "benchmark.json"
            mark.write_text(mark.read_text().replace("{", f'{{"fold": {k}, ', 1))
    return np.asarray(scores.mean(axis=0))


def test_the_file_has_every_jet_in_order_with_the_mean_over_seeds(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    expected = make_folds(finished, tmp_path)
    found = board.gather([tmp_path])
    path = out_of_fold.write(found, tmp_path)
    assert path is not None
    sheet = read_scores(path)
    np.testing.assert_array_equal(sheet.labels, LABELS)
    assert list(sheet.taggers) == ["pfn"]
    np.testing.assert_allclose(sheet.taggers["pfn"], expected, rtol=1e-6)
    assert found["out_of_fold"]["taggers"]["pfn"]["jets"] == 90
    with np.load(path) as arrays:
        assert all((arrays["fold"][PLACES[k]] == k).all() for k in range(3))


def test_a_missing_fold_is_said_and_no_file_is_written(finished: Callable[..., Path], tmp_path: Path) -> None:
    make_folds(finished, tmp_path, folds=(0, 2))
    found = board.gather([tmp_path])
    assert out_of_fold.write(found, tmp_path) is None
    assert any("no out-of-fold scores" in remark for remark in found["remarks"])


def test_every_fold_is_a_run_of_every_seed(configs: list[Path], tmp_path: Path) -> None:
    runs = plan(configs[:1], tmp_path, seeds=[1, 2], folds=3)
    assert len({run.folder for run in runs}) == 6
    assert {(run.config.data.folds, run.config.data.fold) for run in runs} == {(3, 0), (3, 1), (3, 2)}
    assert runs[1].name == "pfn fold 1 seed 1"
    with pytest.raises(ConfigError, match="at least 2"):
        plan(configs, tmp_path, folds=1)


def test_a_tagger_of_other_jets_with_the_same_labels_is_left_out(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    make_folds(finished, tmp_path / "one")
    make_folds(finished, tmp_path / "two")
    for number, name in enumerate(("one", "two")):
        for path in (tmp_path / name).rglob("scores/fold.npz"):
            with np.load(path) as arrays:
                np.savez(path, **{**arrays, "entry": arrays["index"] + 100 * number})
        for path in (tmp_path / name).rglob("benchmark.json"):
            path.write_text(path.read_text().replace('"pfn"', f'"{name}"'))
    found = board.gather([tmp_path / "one", tmp_path / "two"])
    first, other = (row["label"] for row in found["taggers"])
    assert {first, other} == {"one", "two"}
    out_of_fold.write(found, tmp_path)
    assert list(found["out_of_fold"]["taggers"]) == [first]
    assert f"{other}: no out-of-fold scores: it was trained on other jets" in found["remarks"]
