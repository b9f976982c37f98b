"""Reweightings, samples and labels that cannot be meant: refused in a line before a training, or said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import nano_events, write_tree
from notes import Notes
from toys import toy_arrays

from hepml.data.reading.inspection import inspect
from hepml.errors import HepmlError
from hepml.training.preparing import Prepared, prepare
from hepml.training.progress import Progress
from hepml.training.run_config import check, compose

Keys = dict[str, Any]
NAN = float("nan")
BINS = {"jet_pt": [500, 600, 700]}
GROUPS = {"label_QCD": 1, "label_Tbqq": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for seed, name in enumerate(("jets", "a", "b")):
        branches = toy_arrays(120, seed=seed)
        signal = np.asarray(branches["label_Tbqq"]) == 1
        few = np.arange(120) % 6 == 0
        branches |= {
            "one": np.ones(120, dtype=np.float32),
            "of_signal": np.where(signal, 1.0, NAN).astype(np.float32),
            "some": np.where(few, NAN, 1.0).astype(np.float32),
            "sign": np.where(signal, 1, -1).astype(np.int32),
            "index": (2 * signal).astype(np.int32),
            "few": np.where(few, 0, signal).astype(np.int32),
            "rest": np.where(few, 0, ~signal).astype(np.int32),
            "both": np.where(np.arange(120) == 7, 1, np.where(few, 0, ~signal)).astype(np.int32),
        }
        write_tree(folder / f"{name}.root", "tree", branches)
    os.symlink(folder / "a.root", folder / "again.root")
    return folder


def prepared(folder: Path, told: Progress | None = None, **data: Any) -> Prepared:
    words = data.pop("overrides", ())
    values = {
        "data": {"train": str(folder / "jets.root"), "val": 0.2, "test": 0.2, **data},
        "model": {"name": "pfn", "phi": [8], "f": [8]},
        "training": {"device": "cpu", "threads": 1},
        "tracking": {"enabled": False},
    }
    return prepare(check(compose(values, words)), told or Progress())


def refused(folder: Path, words: str, **data: Any) -> None:
    with pytest.raises(HepmlError, match=words) as problem:
        prepared(folder, **data)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("reweight", "words"),
    [
        ({"columns": BINS, "to": "nope"}, "no class 'nope' to reweight to"),
        ({"columns": {}}, "columns with edges are needed"),
        ({"columns": ["jet_pt"]}, "columns with edges are needed.*data.reweight.columns"),
        ({"columns": {"jet_pt": [500, NAN, 700]}}, "edges must rise"),
        ({"columns": {"jet_ptt": [1, 2]}}, "branch 'jet_ptt' not found"),
        ({"columns": {"of_signal": [0, 2]}}, r"none of \d+ jets of class 'QCD'.*'of_signal' is NaN for all"),
        ({"columns": {"sign": [0, 2]}}, r"none of \d+ jets of class 'QCD' is within the bins"),
        ({"columns": {"sign": [-2, 0, 2]}, "to": "Tbqq"}, "'QCD' is within bins that 'Tbqq' has jets in"),
        ({"columns": {}, "groups": GROUPS}, "columns with edges are needed"),
        ({"columns": BINS, "groups": {}}, "no groups"),
        ({"columns": BINS, "groups": {"label_QCD": 0, "label_Tbqq": 1}}, "share of 'label_QCD' is 0"),
        ({"columns": BINS, "groups": {"label_QCD": -1, "label_Tbqq": 1}}, "share of 'label_QCD' is -1"),
        ({"columns": BINS, "groups": {"label_QCD": NAN, "label_Tbqq": 1}}, "share of 'label_QCD' is nan"),
        (
            {"columns": BINS, "groups": {"one": 1, "label_Tbqq": 1}},
            r"\d+ jets belong to several of the groups",
        ),
        ({"columns": BINS, "groups": GROUPS, "threshold": 500}, "threshold is 500"),
        ({"columns": BINS, "groups": GROUPS, "outside": "foo"}, "outside is 'foo'"),
        ({"columns": BINS, "groups": GROUPS, "base": "some"}, "weights 'some' .* are NaN"),
        ({"columns": BINS, "groups": GROUPS, "histograms": {"label_QCD": [1, 1]}}, "differ: label_Tbqq"),
        (
            {"columns": BINS, "groups": GROUPS, "histograms": {"label_QCD": [1, NAN], "label_Tbqq": [1, 1]}},
            "weights of 'label_QCD' are negative or no numbers",
        ),
    ],
)
def test_a_reweighting_that_leaves_a_class_or_no_numbers_is_refused(
    folder: Path, reweight: Keys, words: str
) -> None:
    refused(folder, words, reweight=reweight)


def test_a_reweighting_of_no_classes_is_refused(folder: Path) -> None:
    words = ("objective=gaussian",)
    refused(folder, "data.target has none", reweight={"columns": BINS}, target="one", overrides=words)
    refused(folder, "do not go together", reweight={"columns": BINS}, stream=True)


def test_what_a_reweighting_leaves_out_is_said(folder: Path) -> None:
    told = Notes()
    prepared(folder, told, reweight={"columns": {"some": [0, 2]}})
    assert any("outside the bins" in line and "of them NaN" in line for line in told.lines)
    told = Notes()
    prepared(folder, told, reweight={"columns": BINS, "groups": GROUPS}, class_weights="equal")
    assert any("class_weights are left out" in line for line in told.lines)
    assert any("reweighted in jet_pt to flat" in line for line in told.lines)


def test_jets_that_the_reference_class_has_none_of_are_said(folder: Path) -> None:
    told = Notes()
    prepared(folder, told, reweight={"columns": {"rest": [-1, 0.5, 2]}, "to": "Tbqq"})
    assert any("or in bins where Tbqq has none weigh 0" in line for line in told.lines)


def test_inspect_tells_a_reweighting_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {reweight: {columns: {of_signal: [0, 2]}}}")
    found = inspect(folder / "jets.root", layout=str(tmp_path / "c.yaml"))
    assert any("'of_signal' is NaN for all of them" in line for line in found.problems)
    (tmp_path / "d.yaml").write_text("data: {reweight: {columns: jet_pt}}")
    with pytest.raises(HepmlError, match="columns with edges"):
        inspect(folder / "jets.root", layout=str(tmp_path / "d.yaml"))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"files": "a.root"}, {"files": "a.root"}, "a file in two samples, 'x' and 'y'"),
        ({"files": "a.root"}, {"files": "./b.root/../a.root"}, "no such file|in two samples"),
        ({"files": "a.root"}, {"files": "again.root"}, "a file in two samples, 'x' and 'y'"),
        ({"files": ["a.root", "again.root"]}, {"files": "b.root"}, "a file twice in sample 'x'"),
        ({"files": "none*.root"}, {"files": "b.root"}, "no file matches this pattern"),
        ({"files": 3}, {"files": "b.root"}, "files is 3 .*data.samples.x"),
        ({"files": []}, {"files": "b.root"}, "files is .. .*data.samples.x"),
        ({"files": {"a.root": 1}}, {"files": "b.root"}, "files is .*data.samples.x"),
        ({"cross_section": NAN}, {"cross_section": 1}, "cross_section is nan"),
        ({"cross_section": float("inf")}, {"cross_section": 1}, "cross_section is inf"),
        ({"weight": "one"}, {}, "weight without a cross_section"),
        ({"luminosity": 3}, {}, "luminosity without a cross_section"),
        ({"cross_section": 1, "weight": "some"}, {"cross_section": 1}, "sample 'x' add up to nan"),
    ],
)
def test_samples_that_cannot_be_meant_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, first: Keys, second: Keys, words: str
) -> None:
    monkeypatch.chdir(folder)
    samples = {
        "x": {"files": "a.root", "class": "A", **first},
        "y": {"files": "b.root", "class": "B", **second},
    }
    refused(folder, words, samples=samples, train=[])


def test_samples_in_the_place_of_files_are_said(folder: Path) -> None:
    samples = {n: {"files": str(folder / f"{n}.root"), "class": n} for n in ("a", "b")}
    told = Notes()
    assert prepared(folder, told, samples=samples).jets.classes == ("a", "b")
    assert "data.samples take the place of data.train" in told.lines


MOMENTA = {n: f"part_{n}" for n in ("px", "py", "pz", "energy")}


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (
            {"labels": {"A": "one", "B": "sign"}},
            r"a jet of several classes.*entry 0\): repair the file, or s",
        ),
        ({"labels": {"A": "few", "B": "rest"}}, "a jet of no class.*entry 0.*or set layout.unlabelled: drop"),
        (
            {"labels": {"A": "few", "B": "both"}, "unlabelled": "drop"},
            r"a jet of several classes.*entry 7\): repair the file, or select such jets away$",
        ),
        ({"label": "index", "classes": ["A", "B"]}, "a jet of unknown class 2 .*name all classes"),
        (
            {"label": "index", "classes": ["A", "B"], "unlabelled": "drop"},
            "a jet of unknown class 2 .*name all classes",
        ),
    ],
)
def test_a_jet_that_has_no_one_class_is_answered_with_what_mends_it(
    folder: Path, layout: Keys, words: str
) -> None:
    refused(folder, words, layout={"constituents": MOMENTA, **layout})


def test_a_class_that_a_selection_leaves_out_is_said_with_it(folder: Path) -> None:
    refused(folder, r"only of class 'Tbqq' \(60 of 120 .*60 jets removed by the sel", selection="sign > 0")
    refused(folder, "no jets left: 0 of 120", selection="jet_pt > 1e9")
    write_tree(folder / "nano.root", "Events", nano_events(60))
    layout = {"jets": {"collection": "FatJet", "select": "hadronFlavour == 5"}}
    words = r"only of class 'b' \(.* jets removed by jets.select 'hadronFlavour == 5'\)"
    refused(folder, words, layout=layout, train=str(folder / "nano.root"))
    refused(folder, "leave none for val", val=1e-6)
