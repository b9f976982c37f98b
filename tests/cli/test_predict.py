"""`hepml predict` and `hepml.predict`: one row a jet, in file order, whatever the jets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from toys import toy_arrays, write_toy_jets

import hepml as package
from hepml import models
from hepml.inference import prediction

Run = Callable[..., Any]


@pytest.fixture
def run(hepml: Run, config: Path) -> Path:
    """A trained run."""
    result = hepml("train", config, "training.epochs=1", "-o", "run", "-q")
    assert result.code == 0, result.err
    return Path("run")


@pytest.mark.parametrize("jets", [1, 2, 241])
def test_a_file_of_scores_has_one_row_a_jet(hepml: Run, run: Path, tmp_path: Path, jets: int) -> None:
    file = write_toy_jets(tmp_path / "jets.root", jets, seed=9)
    result = hepml("predict", run, file, "-o", "scores.root", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["jets"] == jets
    with uproot.open("scores.root") as written:
        assert written.classnames(cycle=False)["tree"] == "TTree"
        tree = written["tree"]
        assert tree.num_entries == jets
        columns = tree.arrays(library="np")
    source = uproot.open(file)["tree"].arrays(["jet_pt", "jet_sdmass", "label_Tbqq"], library="np")
    for name, values in source.items():
        np.testing.assert_array_equal(columns[name], values)
    np.testing.assert_array_equal(columns["entry"], np.arange(jets))
    np.testing.assert_allclose(columns["score_QCD"] + columns["score_Tbqq"], 1, rtol=1e-5)
    assert not list(Path.cwd().glob(".*tmp*"))


def test_several_files_are_scored_in_their_order_with_their_place(
    hepml: Run, run: Path, tmp_path: Path
) -> None:
    files = [write_toy_jets(tmp_path / f"{n}.root", n, seed=n) for n in (30, 1, 55)]
    hepml("predict", run, *files, "-o", "scores.root", "-q")
    columns = uproot.open("scores.root")["tree"].arrays(library="np")
    assert np.bincount(columns["file_index"]).tolist() == [30, 1, 55]
    model = package.load_model(run)
    whole = package.predict(model, [str(f) for f in files])
    single = np.concatenate([package.predict(model, f) for f in files])
    np.testing.assert_allclose(whole, single, rtol=1e-5)
    np.testing.assert_allclose(columns["score_Tbqq"], whole[:, 1], rtol=1e-5)


def test_scores_do_not_depend_on_batches_or_chunks(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_toy_jets(tmp_path / "jets.root", 90, seed=4)
    model = package.load_model(run)
    once = package.predict(model, file)
    monkeypatch.setattr(prediction, "CHUNK", 17)
    np.testing.assert_allclose(package.predict(model, file, batch_size=7), once, rtol=1e-4, atol=1e-6)


def test_awkward_jets_and_batches_give_the_scores_of_their_file(run: Path, tmp_path: Path) -> None:
    file = write_toy_jets(tmp_path / "jets.root", 40, seed=4)
    model = package.load_model(run)
    expected = package.predict(model, file)
    jets = package.read_jets(file)
    np.testing.assert_allclose(package.predict(model, jets), expected, rtol=1e-4, atol=1e-6)
    batch = package.JetBatch.from_awkward(jets, features=model.inputs.features)
    np.testing.assert_allclose(package.predict(model, batch), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["perceptron", "mlp", "pfn", "efn", "particlenet", "particlenet_lite"])
def test_jets_without_constituents_are_scored_and_stay_in_place(tmp_path: Path, name: str) -> None:
    file = write_toy_jets(tmp_path / "jets.root", 12, empty=3)
    rows = package.predict(models.create(name, outputs=2).eval(), file)
    assert rows.shape == (12, 2)
    assert np.isfinite(rows).all()


def test_a_jet_that_cannot_be_scored_keeps_its_row_and_is_counted(
    hepml: Run, run: Path, tmp_path: Path
) -> None:
    arrays = toy_arrays(20)
    momenta = ak.to_numpy(ak.flatten(arrays["part_px"])).copy()
    counts = ak.num(arrays["part_px"])
    momenta[int(np.sum(counts[:5]))] = np.nan
    arrays["part_px"] = ak.unflatten(momenta, counts)
    file = write_toy_jets(tmp_path / "nan.root", arrays=arrays)
    result = hepml("predict", run, file, "-o", "scores.root", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["unusable"] == 1
    scores = uproot.open("scores.root")["tree/score_Tbqq"].array(library="np")
    assert np.isnan(scores).nonzero()[0].tolist() == [5]


def test_npz_holds_the_same_columns(hepml: Run, run: Path, toy_files: dict[str, Path]) -> None:
    hepml("predict", run, toy_files["test"], "-o", "scores.npz", "-q")
    hepml("predict", run, toy_files["test"], "-o", "scores.root", "-q")
    columns = uproot.open("scores.root")["tree"].arrays(library="np")
    with np.load("scores.npz") as file:
        assert set(file.files) == set(columns)
        for name in file.files:
            np.testing.assert_array_equal(file[name], columns[name])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere.root", "-o", "s.root"], "nowhere.root"),
        (["nowhere", "{jets}", "-o", "s.root"], "no such run or checkpoint"),
        (["run", "{jets}", "-o", "s.txt"], ".root"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(
    hepml: Run, run: Path, toy_files: dict[str, Path], words: list[str], said: str
) -> None:
    result = hepml("predict", *(word.format(jets=toy_files["val"]) for word in words))
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not list(Path.cwd().glob("*s.*"))


def test_a_disk_that_is_full_leaves_no_file_of_scores(
    hepml: Run, run: Path, toy_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*anything: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hepml.outputs.os.replace", full)
    result = hepml("predict", run, toy_files["val"], "-o", "scores.root", "-q")
    assert result.code == 2
    assert "cannot write scores.root: No space left on device" in result.err
    assert not [p.name for p in Path.cwd().iterdir() if "scores" in p.name]


def test_scores_never_replace_the_jets_they_are_of(hepml: Run, run: Path, tmp_path: Path) -> None:
    file = write_toy_jets(tmp_path / "jets.root", 20, seed=9)
    before = Path(file).read_bytes()
    Path("link.root").symlink_to(file)
    for files, output in ((file, file), ("*.root", "link.root"), (f"{file}:tree", "link.root")):
        result = hepml("predict", run, files, "-o", output)
        assert result.code == 2
        assert "the output is one of the inputs" in result.err
        assert len(result.err.splitlines()) == 1
    assert Path(file).read_bytes() == before
