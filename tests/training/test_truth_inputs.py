"""Truth among a network's inputs is said, by whichever way it came in; what cannot tell a class is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from event_files import nano_events, write_tree
from toys import toy_arrays

from hepml.data.layouts.weaver_yaml import translate
from hepml.data.reading.inspection import inspect
from hepml.data.sampling.leaks import leaks
from hepml.errors import DataError
from hepml.training.preparing import prepare
from hepml.training.progress import Progress
from hepml.training.run_config import check, compose

RNG = np.random.default_rng(0)
N = 300
LABELS = np.arange(N) % 3
CLASSES = ("light", "c", "b")
PARTONS = np.array([[1, -1, 21], [4, -4, 4], [5, -5, 5]])
COLUMNS: dict[str, tuple[Any, str]] = {
    "hadronFlavour": (np.array([0, 4, 5])[LABELS], "light"),
    "partonFlavour": (PARTONS[LABELS, np.arange(N) // 3 % 3], "light"),
    "HadronConeExclTruthLabelID": (np.array([15, 4, 5])[LABELS], "light"),
    "is_c": (LABELS == 1, "c"),
    "a number of one class": (np.where(LABELS == 2, RNG.normal(size=N), np.nan), "b"),
    "a number of one class, or -99": (np.where(LABELS == 2, RNG.normal(size=N), -99), "b"),
    "a middle class": (np.array([-1.0, 0.0, 1.0])[LABELS] + RNG.normal(0, 0.1, N), "light"),
    "noise": (RNG.normal(size=N), ""),
    "integers": (RNG.integers(0, 100, N), ""),
    "constant": (np.ones(N), ""),
    "NaN": (np.full(N, np.nan), ""),
    "words": (np.full(N, "x"), ""),
    "good": (RNG.normal(size=N) + LABELS, ""),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_truth_of_any_form_is_told(name: str) -> None:
    values, expected = COLUMNS[name]
    found = leaks({name: np.asarray(values)}, LABELS, CLASSES)
    assert [row["class"] for row in found] == ([expected] if expected else [])


def test_jets_of_no_class_and_few_jets_tell_nothing() -> None:
    truth = {"truth": LABELS.astype(float)}
    assert leaks(truth, np.full(N, -1), CLASSES) == []
    assert leaks({"truth": truth["truth"][:6]}, LABELS[:6], CLASSES) == []
    assert leaks(truth, np.where(LABELS == 0, -1, LABELS), CLASSES)[0]["class"] in ("c", "b")
    assert leaks(truth, np.zeros(N, dtype=int), CLASSES) == []


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    branches = toy_arrays(300, seed=5)
    label = np.asarray(branches["label_Tbqq"])
    branches |= {
        "truth": np.where(label == 1, 0, np.where(np.arange(300) % 4 < 2, 5, -5)).astype(np.int32),
        "half_missing": np.where(label == 1, 1.0, np.nan).astype(np.float32),
        "noise": RNG.normal(size=300).astype(np.float32),
        "part_truth": branches["part_px"] * 0 + label.astype(np.float32),
        "part_noise": branches["part_px"] * 0 + RNG.normal(size=300).astype(np.float32),
    }
    return write_tree(tmp_path_factory.mktemp("truth") / "jets.root", "tree", branches)


MOMENTA = {n: f"part_{n}" for n in ("px", "py", "pz", "energy")}
WEAVER = {
    "new_variables": {"doubled": "part_truth * 2"},
    "inputs": {
        "pf_features": {"length": 64, "vars": [[n, None] for n in ("part_charge", "doubled", "part_noise")]},
        "pf_vectors": {"length": 64, "vars": list(MOMENTA.values())},
    },
    "labels": {"type": "simple", "value": ["label_QCD", "label_Tbqq"]},
}
OWN = {"constituents": {**MOMENTA, "tr": "part_truth", "n": "part_noise"}, "label_prefix": "label_"}
BESIDE = {**OWN, "constituents": MOMENTA, "collections": {"again": {**MOMENTA, "tr": "part_truth"}}}


def told(file: Path, model: str, inputs: str, *words: str, layout: Any = None) -> list[str]:
    values = {
        "data": {"train": str(file), "val": 0.2, "test": 0.2, "layout": layout},
        "model": {"name": model},
        "training": {"device": "cpu", "threads": 1},
        "tracking": {"enabled": False},
    }
    return prepare(check(compose(values, (inputs, *words))), Progress()).jets.leaks


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(
    ("model", "inputs", "layout", "names"),
    [
        ("mlp", "model.observables=[jet_pt,truth,noise]", None, ["truth"]),
        ("mlp", "model.observables=[jet_pt,label_QCD,noise]", None, ["label_QCD"]),
        ("mlp", "model.observables=[noise,jet_pt]", None, []),
        ("mlp", "model.observables=[jet_pt,t]", {**OWN, "columns": {"t": "truth"}}, ["t"]),
        ("pfn", "model.features=[log_pt,tr,n]", OWN, ["tr"]),
        ("pfn", "model.collections={again: [log_pt, tr]}", BESIDE, ["again.tr"]),
        ("pfn", "model.features=[part_charge,doubled,part_noise]", WEAVER, ["doubled"]),
    ],
)
def test_truth_among_the_inputs_is_told(
    file: Path, tmp_path: Path, stream: str, model: str, inputs: str, layout: Any, names: list[str]
) -> None:
    if layout is WEAVER:
        (tmp_path / "w.yaml").write_text(yaml.safe_dump(WEAVER))
        layout = translate(tmp_path / "w.yaml").layout
    lines = told(file, model, inputs, f"data.stream={stream}", layout=layout)
    assert [line.split()[1] for line in lines] == names
    assert all("truth must not become an input" in line for line in lines)


def test_an_input_that_is_the_target_is_told(file: Path) -> None:
    words = ("objective=gaussian", "data.target=noise")
    (line,) = told(file, "mlp", "model.observables=[jet_pt,noise,truth]", *words)
    assert "input noise is the target 'noise'" in line
    assert told(file, "mlp", "model.observables=[jet_pt,truth]", *words) == []


def test_a_class_lost_for_its_bad_values_is_said_with_them(file: Path) -> None:
    with pytest.raises(DataError, match=r"only of class 'Tbqq' \(150 of 300 jets .*'half_missing': 150"):
        told(file, "mlp", "model.observables=[jet_pt,half_missing]")


def test_inspect_hides_the_label_itself_and_no_other_column(tmp_path: Path) -> None:
    branches = nano_events(200)
    flavour = branches["FatJet_hadronFlavour"]
    branches |= {"FatJet_Flavour": flavour * 1, "FatJet_partonFlavour": flavour * 2}
    found = inspect(write_tree(tmp_path / "n.root", "Events", branches), layout={"jets": "FatJet"})
    named = {leak["column"] for leak in found.as_dict()["leaks"]}
    assert named == {"FatJet_Flavour", "FatJet_partonFlavour"}


@pytest.mark.parametrize(
    ("layout", "names"),
    [(OWN, {"truth", "half_missing", "tr"}), (BESIDE, {"truth", "half_missing", "again.tr"})],
)
def test_inspect_tells_truth_among_constituents(file: Path, layout: Any, names: set[str]) -> None:
    """`n` is noise, kinematics are no truth; the largest value of a column of one number a jet tells it."""
    found = inspect(file, layout=layout)
    told = {leak["column"] for leak in found.as_dict()["leaks"]}
    assert {name for name in told if not name.startswith("jet_")} == names  # substructure of toy jets tells
