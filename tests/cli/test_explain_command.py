"""`hepml explain`: figures and a summary of a run, and one line for what cannot be explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import write_toy_jets

from hepml.evaluation.saliency import saliency
from hepml.inference import explaining
from hepml.training.checkpoints import load_model

Run = Callable[..., Any]


@pytest.fixture
def run(hepml: Run, config: Path) -> Path:
    """A trained run of a graph network."""
    model = "{name: gat, widths: [8], embed: 8, head: [8], heads: 2, neighbours: 4}"
    result = hepml("train", config, f"model={model}", "training.epochs=1", "-o", "run", "-q")
    assert result.code == 0, result.err
    return Path("run")


def test_a_run_is_explained_in_its_own_folder_with_as_many_jets_of_each_class(
    hepml: Run, run: Path, toy_files: dict[str, Path]
) -> None:
    result = hepml("explain", run, toy_files["test"], "--jets", 10, "--draw", 2, "--steps", 4, "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert said["jets"] == {"QCD": 5, "Tbqq": 5}
    assert said["explains"] == "Tbqq"
    assert sorted(said["figures"]) == [
        "average_saliency.png", "edges.png", "features.png", "filters.png", "saliency.png",
    ]  # fmt: skip
    for name in said["figures"]:
        assert (run / "explain" / name).read_bytes()[:4] == b"\x89PNG"
    assert (
        json.loads((run / "explain" / "summary.json").read_text())["mean_saliency"] == said["mean_saliency"]
    )
    for kind in ("gradient_x_input", "integrated"):
        for means in said["mean_saliency"][kind].values():
            assert len(means) == 7
            assert all(value >= 0 for value in means.values())
            assert max(means.values()) > 0


def test_the_log_odds_of_one_class_are_those_of_the_other_with_the_opposite_sign(
    run: Path, toy_files: dict[str, Path]
) -> None:
    model = load_model(run)
    jets = explaining.choose(model, toy_files["test"], 4)
    found = []
    for name in ("QCD", "label_Tbqq"):
        target, aim = explaining.target_of(model, name)
        assert aim == name.removeprefix("label_")
        found.append(saliency(model, jets.batch, target, features=model.inputs.features, steps=2).integrated)
    torch.testing.assert_close(found[0], -found[1])
    assert float(found[0].abs().max()) > 1e-4


def test_integrated_gradients_that_do_not_add_up_are_told(
    hepml: Run, config: Path, toy_files: dict[str, Path]
) -> None:
    said = {}
    for model in ("{name: mlp, hidden: [8]}", "{name: pfn, phi: [8], f: [8]}"):
        assert (
            hepml("train", config, f"model={model}", "training.epochs=1", "-o", model[7:10], "-q").code == 0
        )
        result = hepml("explain", model[7:10], toy_files["test"], "--jets", 10, "--draw", 1, "--steps", 64)
        assert result.code == 0, result.err
        said[model[7:10]] = " ".join(result.err.split())
    assert "do not add up to the score" in said["mlp"]
    assert "do not add up" not in said["pfn"]


BAD = [
    (["run", "nowhere.root"], "nowhere.root"),
    (["nowhere", "{jets}"], "no such run or checkpoint"),
    (["run", "{jets}", "--class", "Tbq"], "did you mean 'Tbqq'"),
    (["run", "{jets}", "-o", "tiny.yaml/deep"], "cannot make the folder"),
    (["run", "{empty}"], "no jet with constituents"),
    (["run", "{jets}", "--jets", "0"], "--jets"),
]


def test_bad_input_is_one_line(hepml: Run, run: Path, toy_files: dict[str, Path], tmp_path: Path) -> None:
    empty = write_toy_jets(tmp_path / "empty.root", 6, empty=6)
    for words, said in BAD:
        result = hepml("explain", *(word.format(jets=toy_files["val"], empty=empty) for word in words))
        assert result.code == 2, result.err
        assert said in result.err
        assert result.err.count("\n") == 1
    assert not (run / "explain").exists()
