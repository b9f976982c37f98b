"""Files of one list whose columns differ are reconciled once, by a stated policy, and the report names what
was filled or left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.reader import read_jets
from hepml.errors import ConfigError, LayoutError

MAPPED = {
    "constituents": {
        "px": "part_px",
        "py": "part_py",
        "pz": "part_pz",
        "energy": "part_energy",
        "d0": "part_d0val",
    },
    "labels": {"QCD": "label_QCD", "Tbqq": "label_Tbqq"},
}


def without(arrays: dict[str, Any], *names: str) -> dict[str, Any]:
    return {n: v for n, v in arrays.items() if n not in names}


@pytest.fixture
def pair(write, arrays) -> list[Path]:
    """Two files, the second without a constituent column and a jet column."""
    return [write(arrays, "a.root"), write(without(arrays, "part_d0val", "jet_tau1"), "b.root")]


def test_what_came_along_is_left_out_of_all_files_and_named(pair) -> None:
    jets = read_jets(pair)
    assert "union" not in str(jets.type)
    assert "jet_tau1" not in jets.fields
    assert "d0" not in jets.constituents.fields
    assert "jet_tau2" in jets.fields
    report = jets.attrs["report"]
    assert "left out: d0, " in report
    assert "jet_tau1" in report
    assert "b.root" in report
    assert len(read_jets(pair, missing_columns="drop")) == 120


def test_what_is_missing_is_filled_where_that_is_asked_for(pair) -> None:
    jets = read_jets(pair, missing_columns="fill")
    assert ak.all(jets.constituents.d0[60:] == 0)
    assert not ak.all(jets.constituents.d0[:60] == 0)
    assert ak.all(np.isnan(jets.jet_tau1[60:]))
    assert ak.all(np.isfinite(jets.jet_tau1[:60]))
    assert "filled with zero: d0 (not in" in jets.attrs["report"]
    assert "filled with NaN: " in jets.attrs["report"]


def test_what_is_missing_is_refused_where_it_is_needed_or_refusal_is_asked_for(pair) -> None:
    with pytest.raises(LayoutError, match=r"column 'd0' is in some files and not in others \(in .*b.root\)"):
        read_jets(pair, missing_columns="refuse")
    for needed in (Inputs(features=("log_pt", "d0")), Inputs(jet_features=("jet_tau1",))):
        for policy in (None, "refuse", "drop"):
            with pytest.raises(LayoutError, match=r"is in some files and not in others.*b.root"):
                JetDataset.open(pair, needed, missing_columns=policy)
    for options in ({"target": "jet_tau1"}, {"weights": "jet_tau1"}):
        for policy in (None, "fill", "drop"):
            with pytest.raises(LayoutError, match="'jet_tau1' is in some files"):
                JetDataset.open(pair, missing_columns=policy, **options)
    with pytest.raises(ConfigError, match=r"missing_columns is 'fil'.*did you mean 'fill'"):
        JetDataset.open(pair, missing_columns="fil")


def test_filled_features_are_zero_for_the_jets_of_that_file_alone(pair) -> None:
    dataset = JetDataset.open(
        pair, Inputs(features=("log_pt", "d0"), jet_features=("jet_tau1",)), missing_columns="fill"
    )
    assert len(dataset) == 120
    rows = int(dataset.offsets[60])
    assert not dataset.features[rows:, 1].any()
    assert dataset.features[:rows, 1].any()
    assert not dataset.jet_features[60:].any()
    assert dataset.jet_features[:60].all()


def test_all_jet_columns_of_a_data_set_are_those_of_every_file(pair, tmp_path) -> None:
    dataset = JetDataset.open(pair, jet_columns="all")
    assert "jet_tau1" not in dataset.jet_columns
    assert "left out" in str(dataset.report)
    assert {len(c) for c in dataset.jet_columns.values()} == {120}
    cached = JetDataset.open(pair, jet_columns="all", cache=tmp_path / "cache")
    assert sorted(cached.jet_columns) == sorted(dataset.jet_columns)


@pytest.mark.parametrize("weighted_first", [True, False])
def test_event_weights_of_some_files_never_vanish(write, arrays, tmp_path, weighted_first) -> None:
    weighted = write({**arrays, "weight": np.full(60, 2, np.float32)}, "weighted.root")
    files = [weighted, write(arrays, "plain.root")][:: 1 if weighted_first else -1]
    for read in (JetDataset.open, read_jets):
        with pytest.raises(LayoutError, match=r"some files have event weights, others have none.*plain.root"):
            read(files)
    for cache in (None, tmp_path / "cache"):
        dataset = JetDataset.open(files, missing_columns="fill", cache=cache)
        assert dataset.weights.tolist() == ([2.0] * 60 + [1.0] * 60)[:: 1 if weighted_first else -1]
        assert "filled with 1: event weights (not in" in str(dataset.report)
        assert JetDataset.open(files, missing_columns="drop", cache=cache).weights is None
        assert JetDataset.open(files, weights=False, cache=cache).weights is None


def test_a_layout_of_ones_own_may_lack_a_column_in_some_files(pair) -> None:
    inputs = Inputs(features=("d0",))
    with pytest.raises(LayoutError, match="branch 'part_d0val' not found"):
        JetDataset.open(pair, inputs, layout=MAPPED)
    dataset = JetDataset.open(pair, inputs, layout=MAPPED, missing_columns="fill")
    assert not dataset.features[int(dataset.offsets[60]) :].any()


@pytest.mark.parametrize("order", [1, -1])
def test_columns_of_differing_types_come_in_one_that_holds_them_all(write, arrays, tmp_path, order) -> None:
    values = [np.arange(60, dtype=np.int32), np.arange(60) + 0.75, np.arange(60) % 2 == 0]
    files = [write({**arrays, "x": v}, f"{i}.root") for i, v in enumerate(values)][::order]
    expected = np.concatenate(values[::order])
    jets = read_jets(files)
    assert "union" not in str(jets.type)
    assert np.array_equal(jets.x, expected)
    for cache in (None, tmp_path / "cache"):
        dataset = JetDataset.open(files, jet_columns=["x"], cache=cache)
        assert np.array_equal(dataset.jet_columns["x"], expected)


def test_a_column_that_is_a_list_in_one_file_is_no_jet_column_of_the_list_of_files(write, arrays) -> None:
    ragged = ak.unflatten(np.arange(120, dtype=np.float32), 2)
    files = [write({**arrays, "x": arrays["jet_pt"]}, "a.root"), write({**arrays, "x": ragged}, "b.root")]
    jets = read_jets(files)
    assert "x" not in jets.fields
    assert "b.root" in jets.attrs["report"]
    with pytest.raises(LayoutError, match="'x' is in some files and not in others"):
        JetDataset.open(files, target="x")


def test_the_jets_own_momenta_are_summed_where_some_files_have_none(write, arrays, tmp_path) -> None:
    own = [n for n in arrays if n in ("jet_pt", "jet_eta", "jet_phi", "jet_energy")]
    files = [write(arrays, "a.root"), write(without(arrays, *own), "b.root")]
    for cache in (None, tmp_path / "cache"):
        dataset = JetDataset.open(files, cache=cache)
        assert "sum of the constituents taken: the jets' own momenta" in str(dataset.report)
        summed = torch.stack([jet.sum(0) for jet in dataset.four_momenta.tensor_split(dataset.offsets[1:-1])])
        assert torch.allclose(dataset.jet_momenta[60:], summed[60:], rtol=1e-4, atol=1e-2)
        assert not torch.allclose(dataset.jet_momenta[:60], summed[:60], rtol=1e-6)


def test_files_without_labels_among_others_are_refused_to_train_on_and_read_as_none(write, arrays) -> None:
    files = [write(arrays, "a.root"), write(without(arrays, "label_QCD", "label_Tbqq"), "b.root")]
    jets = read_jets(files)
    assert jets.label[60:].to_list() == [-1] * 60
    assert "no label (-1)" in jets.attrs["report"]
    with pytest.raises(LayoutError, match=r"no labels, though other files.*b.root"):
        JetDataset.open(files)


def test_an_empty_file_decides_nothing(write, arrays) -> None:
    empty = write({n: v[:0] for n, v in without(arrays, "part_d0val", "jet_tau1").items()}, "empty.root")
    jets = read_jets([empty, write(arrays, "a.root")])
    assert {"jet_tau1"} <= set(jets.fields)
    assert "left out" not in jets.attrs["report"]


def test_angles_relative_to_the_jet_follow_from_momenta_where_a_file_lacks_them(write, arrays) -> None:
    names = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "delta_r", "delta_eta", "delta_phi")
    plain = write(without(arrays, "part_deta", "part_dphi"), "b.root")
    alone = JetDataset.open(plain, Inputs(features=names))
    by_hand = hepml.JetBatch.from_awkward(hepml.read_jets(plain), "kinematic").features
    assert torch.allclose(alone.features, by_hand, atol=1e-5)
    both = JetDataset.open([write(arrays, "a.root"), plain], Inputs(features=names))
    assert torch.equal(both.features[int(both.offsets[60]) :], alone.features)
    assert "derived from momenta: delta_eta, delta_phi (not in" in str(both.report)


def test_angles_are_derived_for_all_collections_where_one_lacks_them(write, arrays) -> None:
    groups = [
        {"pt": "hard_pt", "delta_eta": "hard_deta", "delta_phi": "hard_dphi"},
        {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy"},
    ]
    hard = {
        "hard_pt": ak.unflatten(np.full(60, 50.0, np.float32), 1),
        "hard_deta": ak.unflatten(np.full(60, 0.1, np.float32), 1),
        "hard_dphi": ak.unflatten(np.full(60, 0.1, np.float32), 1),
    }
    layout = {
        "constituents": groups,
        "jet": {"pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_energy"},
        "labels": MAPPED["labels"],
    }
    dataset = JetDataset.open(
        write({**arrays, **hard}), Inputs(features=("delta_eta", "delta_phi")), layout=layout
    )
    assert (dataset.features.abs() > 0).float().mean() > 0.99
