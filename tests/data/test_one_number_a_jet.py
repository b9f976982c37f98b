"""What belongs to a jet is one finite number a jet, whatever its type in the file: anything else is refused,
or dropped and counted, where it enters."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.per_jet import BEYOND, NO_INDEX, NONE, SEVERAL, class_indices, element, one_hot_labels
from hepml.data.reading.reader import read_jets
from hepml.errors import DataError, LayoutError

CONSTITUENTS = {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy"}
LABELS = {"QCD": "label_QCD", "Tbqq": "label_Tbqq"}


def with_branch(tmp_path, arrays: dict[str, Any], name: str, values: Any, ntuple: bool = False):
    """A file of toy jets with one further branch, of any type."""
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        branches = {**arrays, name: values}
        if ntuple:
            file.mkrntuple("tree", {n: ak.Array(v) for n, v in branches.items()})
        else:
            file["tree"] = branches
    return path


def lists(kind: str) -> Any:
    numbers = np.arange(180, dtype=np.float32)
    return {
        "ragged": ak.unflatten(numbers, 3),
        "fixed": numbers.reshape(60, 3),
        "fixed of one": numbers[:60].reshape(60, 1),
        "integers": ak.unflatten(numbers.astype(np.int32), 3),
        "uneven": ak.unflatten(numbers, [1] * 30 + [5] * 30),
    }[kind]


@pytest.mark.parametrize("kind", ["ragged", "fixed", "fixed of one", "integers", "uneven"])
@pytest.mark.parametrize("ntuple", [False, True])
def test_a_list_a_jet_is_no_weight_target_feature_label_or_selection(tmp_path, arrays, kind, ntuple) -> None:
    if ntuple and kind.startswith("fixed"):
        pytest.skip("uproot writes no arrays of fixed size into an RNTuple")
    path = with_branch(tmp_path, arrays, "x", lists(kind), ntuple)
    by_layout = {"constituents": CONSTITUENTS, "labels": LABELS}
    for options in (
        {"weights": "x"},
        {"target": "x"},
        {"inputs": Inputs(jet_features=("x",))},
        {"selection": "x > 3"},
        {"jet_columns": ["x"]},
        {"layout": {**by_layout, "weight": "x"}},
        {"layout": {**by_layout, "labels": {"QCD": "x", "Tbqq": "label_Tbqq"}}},
        {"layout": {"constituents": CONSTITUENTS, "label": "x", "classes": ["a", "b"]}},
        {"layout": {**by_layout, "jet": {"pt": "x", "eta": "jet_eta", "phi": "jet_phi", "mass": 0}}},
        {"layout": {**by_layout, "columns": {"y": "x"}}},
    ):
        with pytest.raises(LayoutError, match="'x' is a list of numbers an entry") as error:
            JetDataset.open(path, **options)
        assert "\n" not in str(error.value)


def test_a_vector_of_weights_is_never_handed_on_flat(tmp_path, arrays) -> None:
    path = with_branch(tmp_path, arrays, "weight", lists("ragged"))
    for read in (JetDataset.open, read_jets):
        with pytest.raises(LayoutError, match=r"weight branch 'weight' is a list.*element: 0"):
            read(path)
    assert JetDataset.open(path, weights=False).weights is None


def test_one_element_of_a_list_is_a_number_a_jet(tmp_path, arrays) -> None:
    path = with_branch(tmp_path, arrays, "mcEventWeights", lists("uneven"))
    for index, expected in ((0, [*range(30), *range(30, 180, 5)]), (-1, [*range(30), *range(34, 180, 5)])):
        layout = {
            "constituents": CONSTITUENTS,
            "labels": LABELS,
            "weight": {"branch": "mcEventWeights", "element": index},
        }
        assert JetDataset.open(path, layout=layout).weights.tolist() == expected
    layout["weight"]["element"] = 3  # half of the jets have one weight only
    dataset = JetDataset.open(path, layout=layout)
    assert dataset.weights.tolist() == [*range(33, 180, 5)]
    assert "NaN or infinite weight: 30" in str(dataset.report)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("use", ["weights", "target", "jet feature", "layout's weight"])
def test_nan_in_a_number_that_is_used_is_dropped_and_counted(write, arrays, value, use) -> None:
    numbers = np.linspace(1, 2, 60).astype(np.float32)
    numbers[[3, 7]] = value
    path = write({**arrays, "x": numbers})
    options: dict[str, Any] = {
        "weights": {"weights": "x"},
        "target": {"target": "x"},
        "jet feature": {"inputs": Inputs(jet_features=("x",))},
        "layout's weight": {"layout": {"constituents": CONSTITUENTS, "labels": LABELS, "weight": "x"}},
    }[use]
    dataset = JetDataset.open(path, **options)
    column = {"target": "labels", "jet feature": "jet_features"}.get(use, "weights")
    assert getattr(dataset, column).flatten().tolist() == pytest.approx(np.delete(numbers, [3, 7]))
    assert dataset.report.dropped_bad == 2
    assert ": 2 (first in" in str(dataset.report)
    assert "entry 3" in str(dataset.report)
    with pytest.raises(DataError, match=r"NaN or infinite .*entry 3"):
        JetDataset.open(path, bad="refuse", **options)
    assert len(JetDataset.open(path)) == 60  # a column that is not used spoils no jet


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int8, np.int16, np.uint32, np.int64, np.float64])
def test_numbers_of_every_type_are_read_as_they_are(write, arrays, kind) -> None:
    numbers = (np.arange(60) % 2).astype(kind)
    for ntuple in (False, True):
        path = write({**arrays, "x": numbers}, f"{ntuple}.root", ntuple=ntuple)
        assert JetDataset.open(path, weights="x").weights.tolist() == [0, 1] * 30
        assert JetDataset.open(path, target="x").labels.tolist() == [0, 1] * 30
        layout = {"constituents": CONSTITUENTS, "label": "x", "classes": ["a", "b"]}
        assert JetDataset.open(path, layout=layout).labels.tolist() == [0, 1] * 30


def test_a_number_that_is_missing_is_nan(tmp_path, arrays) -> None:
    numbers = ak.Array([None, 2.0, None, *np.ones(57)])
    path = with_branch(tmp_path, arrays, "x", numbers, ntuple=True)
    dataset = JetDataset.open(path, target="x")
    assert len(dataset) == 58
    assert "NaN or infinite 'x': 2" in str(dataset.report)
    text = with_branch(tmp_path, arrays, "x", ak.Array(["a"] * 60), ntuple=True)
    with pytest.raises(LayoutError, match="branch 'x' holds 60 \\* string"):
        JetDataset.open(text, target="x")


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "fraction"), (np.nan, "no class"), (-99, "no class"), (7, "unknown class 7")]
)
def test_a_label_that_is_no_class_index_is_refused_with_the_entry(write, arrays, value, words) -> None:
    flavour = (np.arange(60) % 2).astype(np.float32)
    flavour[5] = value
    path = write({**arrays, "flavour": flavour})
    layout = {"constituents": CONSTITUENTS, "label": "flavour", "classes": ["a", "b"]}
    with pytest.raises(DataError, match=f"{words}.*entry 5"):
        JetDataset.open(path, layout=layout)
    assert len(JetDataset.open(path, layout=layout, labels=False)) == 60
    if value != value or value == -99:
        assert len(JetDataset.open(path, layout={**layout, "unlabelled": "drop"})) == 59


@pytest.mark.parametrize("pair", [(0.5, 0.5), (-99, 100), (np.nan, 1), (2, -1), (1, 1)])
def test_labels_that_are_not_one_1_among_zeros_are_refused(write, arrays, pair) -> None:
    labels = {n: arrays[n].copy() for n in ("label_QCD", "label_Tbqq")}
    for column, value in zip(labels.values(), pair, strict=True):
        column[11] = value
    with pytest.raises(DataError, match=r"a jet of several classes.*entry 11"):
        JetDataset.open(write({**arrays, **labels}))


def test_labels_of_files_with_other_classes_stay_what_they_are(write, arrays) -> None:
    flavour = (np.arange(60) % 2).astype(np.int32)
    flavour[5] = -99
    one = write({n: v for n, v in arrays.items() if n != "label_QCD"}, "one.root")
    two = write({n: v for n, v in arrays.items() if n != "label_Tbqq"}, "two.root")
    jets = read_jets([one, two])
    assert jets.attrs["classes"] == ["QCD", "Tbqq"]
    expected = [1 if x else NONE for x in arrays["label_Tbqq"]] + [
        0 if x else NONE for x in arrays["label_QCD"]
    ]
    assert jets.label.to_list() == expected


def test_numbers_that_often_stand_for_none_are_told_and_may_be_named_as_missing(write, arrays) -> None:
    numbers = np.linspace(1, 2, 60).astype(np.float32)
    numbers[:4] = -999
    path = write({**arrays, "x": numbers})
    dataset = JetDataset.open(path, target="x")
    assert len(dataset) == 60
    assert "4 jets have x = -999: if that stands for none, say so" in str(dataset.report)
    layout = {
        "constituents": CONSTITUENTS,
        "labels": LABELS,
        "columns": {"x": {"branch": "x", "missing": -999}},
    }
    assert len(JetDataset.open(path, layout=layout, target="x")) == 56
    assert JetDataset.open(path, target="jet_eta").report.sentinels == {}


@pytest.mark.parametrize("transform", ["is_positive", "is_zero", "tanh", "sqrt", "log1p", "abs", "exp"])
def test_no_transform_makes_a_number_of_nan(write, arrays, transform) -> None:
    numbers = np.linspace(1, 2, 60).astype(np.float32)
    numbers[[3, 7]] = np.nan, np.inf
    column = {"branch": "x", "transform": transform, "clip": [0, 5]}
    layout = {"constituents": CONSTITUENTS, "labels": LABELS, "columns": {"y": column}}
    assert len(JetDataset.open(write({**arrays, "x": numbers}), layout=layout, target="y")) == 58


def test_the_rules_for_labels_and_lists() -> None:
    assert class_indices(np.array([0, 1, 2, -1, -99]), 2).tolist() == [0, 1, BEYOND - 2, NONE, NONE]
    assert class_indices(np.array([0.0, 1.5, np.nan, np.inf]), 2).tolist()[:3] == [0, NO_INDEX, NONE]
    assert class_indices(np.array([True, False]), 2).tolist() == [1, 0]
    hot = [np.array([1, 0, 1, 0.5, 0]), np.array([0, 1, 1, 0.5, 0])]
    assert one_hot_labels(hot, 5).tolist() == [0, 1, SEVERAL, SEVERAL, NONE]
    content, offsets = np.arange(5.0), np.array([0, 2, 2, 5])
    assert element(content, offsets, 1).tolist()[0::2] == [1, 3]
    assert np.isnan(element(content, offsets, 0)[1])
    assert element(content, offsets, -3)[2] == 2


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("weights", np.ones((60, 3)), "number a jet"),
        ("weights", np.ones(180), "one row a jet"),
        ("weights", np.where(np.arange(60) == 7, np.nan, 1.0), r"NaN or infinite weights \(in jet 7\)"),
        ("labels", np.where(np.arange(60) == 7, np.inf, 1.0), r"NaN or infinite labels \(in jet 7\)"),
        ("labels", np.zeros((60, 2), dtype=np.int64), "number a jet"),
        ("jet_features", np.full((60, 2), np.nan), r"NaN or infinite jet_features \(in jet 0\)"),
    ],
)
def test_arrays_given_by_hand_are_held_to_the_same(name, values, words) -> None:
    p, offsets = np.tile([5.0, 1.0, 2.0, 3.0], (60, 1)), np.arange(61)
    with pytest.raises(DataError, match=words) as error:
        JetBatch.from_arrays(p, offsets, **{name: values})
    assert "\n" not in str(error.value)


def test_awkward_jets_are_held_to_the_same(write, arrays) -> None:
    jets = read_jets(write(arrays))
    for field in ("weight", "label"):
        listed = ak.with_field(jets, lists("ragged"), field)
        with pytest.raises(LayoutError, match=f"field '{field}' of these jets holds a list a jet"):
            JetBatch.from_awkward(listed)
        missing = ak.with_field(jets, ak.Array([None, *np.ones(59)]), field)
        with pytest.raises(DataError, match=r"NaN or infinite .*jet 0"):
            JetBatch.from_awkward(missing)
    assert len(JetBatch.from_awkward(ak.with_field(jets, ak.Array(["a"] * 60), "name"))) == 60


@pytest.mark.parametrize(
    "constituents",
    [
        {"pt": "PFCands_pt", "eta": "PFCands_eta", "phi": "PFCands_phi", "mass": "PFCands_mass"},
        {"pt": "FatJet_pt", "eta": "FatJet_eta", "phi": "FatJet_phi", "mass": "FatJet_mass"},
    ],
)
def test_an_event_is_never_read_as_one_jet(shared, constituents) -> None:
    path = shared / "data" / "root" / "cms_pfnano_10events.root"
    layout = {"constituents": constituents, "tree": "Events"}
    with pytest.raises(LayoutError, match=r"an entry of this tree is an event.*jets: NAME"):
        read_jets(path, layout)


@pytest.mark.parametrize("name", ["FatJet_pt", "Jet.pt", "ak4_jets_pt", "AnalysisJetsAuxDyn.pt"])
def test_a_tree_with_lists_of_jets_is_one_of_events_by_any_name(write, arrays, name) -> None:
    layout = {"constituents": CONSTITUENTS, "labels": LABELS}
    path = write({**arrays, name: ak.unflatten(np.ones(120, np.float32), 2)})
    with pytest.raises(LayoutError, match="an entry of this tree is an event"):
        read_jets(path, layout)
    subjets = write({**arrays, "fj_subjets_pt": ak.unflatten(np.ones(120, np.float32), 2)}, "b.root")
    assert len(read_jets(subjets, layout)) == 60
