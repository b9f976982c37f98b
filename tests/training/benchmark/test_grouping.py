"""Runs under one label, from several places, are seeds of one tagger only where one config made them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hepml.training.benchmark.board import gather
from hepml.training.benchmark.plan import find_runs

LABELS = np.tile([0, 1], 200)
CONFIG = """
data: {{train: /here/train.root, test: /here/test.root, cache: /here/jets}}
model: {{name: pfn, f: [8]}}
training: {{epochs: 3, seed: {seed}, threads: {seed}}}
tracking: {{name: pfn seed {seed}}}
"""


@pytest.fixture
def run(tmp_path: Path, finished: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a run `PLACE/seed_S` of the label `pfn`, with its config in which words may be others."""

    def make(place: str, seed: int, *changes: tuple[str, str], label: str = "pfn") -> Path:
        rng = np.random.default_rng(seed)
        scores = {"toys": (LABELS, 1 / (1 + np.exp(-LABELS - rng.normal(0, 1, len(LABELS)))))}
        folder = finished(tmp_path / place / f"seed_{seed}", label, seed, scores)
        text = CONFIG.format(seed=seed)
        for was, now in changes:
            assert was in text
            text = text.replace(was, now)
        (folder / "config.yaml").write_text(text)
        return folder

    return make


def test_seeds_from_other_machines_are_seeds_of_one_tagger(run: Callable[..., Path], tmp_path: Path) -> None:
    run("here", 1)
    run("there", 2, ("/here/", "/scratch/"), ("cache: /scratch/jets", "cache: null, stream: true"))
    board = gather([tmp_path])
    assert [(row["label"], row["seeds"]) for row in board["taggers"]] == [("pfn", [1, 2])]
    assert not board["remarks"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ((("epochs: 3", "epochs: 9"),), "training.epochs"),
        ((("f: [8]", "f: [8], dropout: 0.1"),), "model.dropout"),
        ((("cache", "max_jets: 9, selection: jet_pt > 1, cache"),), "data.max_jets, data.selection"),
        ((("epochs: 3", "epochs: 3, average: 0.99"),), "training.average"),
        ((("model:", "distill: {teacher: {pretrained: x}}\nmodel:"),), "distill"),
        ((("epochs: 3", "epochs: 4, of_old: 1"),), "training.epochs"),
        ((("epochs: 3", "epochs: 3, of_old: 1"),), None),
    ],
)
def test_runs_of_another_config_are_another_tagger(
    run: Callable[..., Path], tmp_path: Path, changes: tuple[tuple[str, str], ...], named: str | None
) -> None:
    run("first", 1)
    run("first", 2)
    run("other", 3, *changes)
    board = gather([tmp_path / "first", tmp_path / "other"])
    rows = {row["label"]: row["seeds"] for row in board["taggers"]}
    if named is None:  # a key that is only there may be of another version
        assert rows == {"pfn": [1, 2, 3]}
        return
    assert rows == {"pfn": [1, 2], "pfn-2": [3]}
    assert f"pfn-2 was trained with another {named} than pfn" in board["remarks"]


def test_shares_of_the_jets_go_with_the_runs_on_all_of_them(run: Callable[..., Path], tmp_path: Path) -> None:
    for place, epochs, share in (("first", 9, 1), ("second", 3, 1), ("second", 30, 0.1)):
        folder = run(f"{place}/{share}", 1, ("epochs: 3", f"epochs: {epochs}"))
        (folder / "benchmark.json").write_text(json.dumps({"label": "pfn", "seed": 1, "share": share}))
    board = gather([tmp_path / "first", tmp_path / "second"])
    assert {row["label"] for row in board["taggers"]} == {"pfn", "pfn-2"}
    (fractions,) = board["fractions"]
    assert fractions["label"] == "pfn-2"
    assert [point["runs"][0]["folder"] for point in fractions["points"]] == [
        str(tmp_path / "second/0.1/seed_1"), str(tmp_path / "second/1/seed_1")
    ]  # fmt: skip


def test_seeds_may_each_have_their_own_teacher_and_it_is_said(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in (1, 2):
        run("here", seed, ("model:", f"distill: {{teacher: {{run: teachers/{seed}}}}}\nmodel:"))
    board = gather([tmp_path])
    assert [row["seeds"] for row in board["taggers"]] == [[1, 2]]
    assert board["remarks"] == ["pfn: the seeds have another distill.teacher"]


def test_a_model_by_its_name_alone_is_that_model(run: Callable[..., Path], tmp_path: Path) -> None:
    run("here", 1, ("{name: pfn, f: [8]}", "pfn"))
    run("here", 2, ("{name: pfn, f: [8]}", "{name: pfn}"))
    assert [row["seeds"] for row in gather([tmp_path])["taggers"]] == [[1, 2]]


def test_labels_that_are_taken_are_not_taken_again(run: Callable[..., Path], tmp_path: Path) -> None:
    run("first", 1)
    run("second", 1, ("epochs: 3", "epochs: 9"))
    run("third", 1, ("epochs: 3", "epochs: 10"))
    run("fourth", 1, label="pfn-2")
    rows = gather([tmp_path])["taggers"]
    assert sorted(row["label"] for row in rows) == ["pfn", "pfn-2", "pfn-3", "pfn-4"]


def test_the_same_seed_twice_counts_once_and_of_other_jets_is_another_tagger(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    first = run("first", 1)
    run("first", 2)
    shutil.copytree(first, tmp_path / "copy/seed_1")
    other = run("other", 1)
    summary = (other / "summary.json").read_text()
    (other / "summary.json").write_text(summary.replace('"train": "a"', '"train": "z"'))
    board = gather([tmp_path / name for name in ("first", "copy", "other")])
    assert {row["label"]: row["seeds"] for row in board["taggers"]} == {"pfn": [1, 2], "pfn-2": [1]}
    assert board["remarks"] == [
        f"pfn: {tmp_path}/copy/seed_1 is seed 1 again, and left out",
        "pfn-2 was trained with other jets than pfn",
    ]


def test_a_folder_that_is_named_twice_is_one_place(run: Callable[..., Path], tmp_path: Path) -> None:
    folder = run("first", 1)
    (tmp_path / "link").symlink_to(tmp_path / "first")
    assert find_runs([tmp_path / "first", tmp_path / "first/../first", tmp_path / "link"]) == [folder]
