"""Out-of-fold scores: every training jet once, by runs that were not trained on it, in the order of the
files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hepml import models
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.evaluation.score_files import read_scores
from hepml.training.benchmark import board, out_of_fold, writing
from hepml.training.benchmark.measure import first_test
from hepml.training.benchmark.plan import plan
from hepml.training.jets import open_jets
from hepml.training.run_config import load_run_config

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


def make_two(finished: Callable[..., Path], root: Path, apart: int) -> dict[str, np.ndarray]:
    """Two taggers, `one` and `two`, whose jets have entries that are so far apart, and the same labels; their
    mean scores."""
    expected = {}
    for number, name in enumerate(("one", "two")):
        expected[name] = make_folds(finished, root / name)
        for path in (root / name).rglob("scores/fold.npz"):
            with np.load(path) as arrays:
                np.savez(path, **{**arrays, "entry": arrays["index"] + apart * number})
        for path in (root / name).rglob("benchmark.json"):
            path.write_text(path.read_text().replace('"pfn"', f'"{name}"'))
    return expected


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
    make_two(finished, tmp_path, apart=100)
    found = board.gather([tmp_path / "one", tmp_path / "two"])
    first, other = (row["label"] for row in found["taggers"])
    assert {first, other} == {"one", "two"}
    out_of_fold.write(found, tmp_path)
    assert list(found["out_of_fold"]["taggers"]) == [first]
    assert f"{other}: no out-of-fold scores: it was trained on other jets" in found["remarks"]


def test_taggers_with_folds_alone_are_drawn_and_compared_on_the_scores_of_all_jets(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    expected = make_two(finished, tmp_path, apart=0)
    found = board.gather([tmp_path])
    for row in found["taggers"]:
        labels, scores, _ = board.scores_of(row)
        np.testing.assert_array_equal(labels, LABELS)
        np.testing.assert_allclose(scores, expected[row["label"]])
    first, second = (row["label"] for row in found["taggers"])
    (pair,) = found["paired"]
    assert (pair["first"], pair["second"]) == (first, second)
    alone = [roc_auc_score(LABELS, expected[name]) for name in (first, second)]
    assert pair["auc"]["difference"] == pytest.approx(alone[0] - alone[1])
    assert "roc" in writing.figures(found)
    assert not found["remarks"]


def test_folds_of_other_jets_with_the_same_labels_are_not_compared(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    make_two(finished, tmp_path, apart=100)
    found = board.gather([tmp_path])
    assert not found["paired"]
    assert any(
        remark.endswith("not compared with the others: it was trained on other jets")
        for remark in found["remarks"]
    )


def test_the_first_test_set_of_a_run_with_a_fold_alone_is_the_fold(configs: list[Path]) -> None:
    config = load_run_config(configs[0], ["data.test=null", "data.folds=3", "data.fold=1"])
    found = first_test(config, models.create("pfn", phi=[8, 8], f=[8]))
    left_out = open_jets(config.data, Inputs()).tests["fold"]
    np.testing.assert_array_equal(found.indices, left_out.indices)
