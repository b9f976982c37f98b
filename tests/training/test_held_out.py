"""A run says where weights that it is given have seen jets that it scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
