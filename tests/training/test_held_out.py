"""A run says where weights that it is given have seen jets that it scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hepml.training.ensembles import join_runs
from hepml.training.held_out import leaks
from hepml.training.run import train
from hepml.training.run_config import RunConfig


def test_given_weights_that_have_seen_what_is_scored_are_named(
    tiny: Callable[..., RunConfig], toy_files: dict[str, Path], tmp_path: Path
) -> None:
    fold = ("data.folds=4", "data.fold=1")
    train(tiny("training.epochs=1"), tmp_path / "all")
    train(tiny("training.epochs=1", *fold, "data.test=null"), tmp_path / "fold")
    everything, same = (f"distill.teacher.run={tmp_path}/{name}" for name in ("all", "fold"))
    swapped = (f"data.train={toy_files['val']}", f"data.test={toy_files['train']}")
    for words, where in (
        ((everything, *fold), "(fold)"),
        ((f"model.pretrained={tmp_path}/all", *fold), "(fold)"),
        ((same, "data.folds=4", "data.fold=2"), "(fold)"),
        ((everything, "data.test=0.1"), "(test)"),
        ((everything, *swapped), "(test)"),
        ((same, *fold), ""),
        ((everything,), ""),
        (("data.test=0.1",), ""),
    ):
        (line,) = leaks(tiny(*words)) or [""]
        assert where in line if where else not line, words


def test_members_of_an_ensemble_that_have_seen_what_it_is_tested_on_are_named(
    tiny: Callable[..., RunConfig], toy_files: dict[str, Path], tmp_path: Path
) -> None:
    train(tiny("training.epochs=1"), tmp_path / "one")
    train(tiny("training.epochs=1", "training.seed=2"), tmp_path / "two")
    swapped = (f"data.train={toy_files['test']}", f"data.test={toy_files['train']}")
    train(tiny("training.epochs=1", *swapped), tmp_path / "swapped")
    assert join_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "clean")["remarks"] == []
    (line,) = join_runs([tmp_path / "one", tmp_path / "swapped"], tmp_path / "mixed")["remarks"]
    assert "swapped" in line
    assert "(test)" in line
    for name, named in (("clean", False), ("mixed", True)):
        assert bool(leaks(tiny(f"distill.teacher.run={tmp_path}/{name}"))) is named
