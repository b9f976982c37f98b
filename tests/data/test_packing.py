"""Packing keeps every constituent of every jet, in order; features equal their formulas, however jets
come."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hepml
from hepml.data import features as feature_table
from hepml.data.awkward_chunk import from_awkward
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.reader import read_jets
from hepml.errors import LayoutError

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=25)


def jets_of(counts: list[int], seed: int = 0) -> ak.Array:
    rng = np.random.default_rng(seed)
    p = rng.normal(0, 10, (sum(counts), 3)).astype(np.float32)
    columns = {
        "px": p[:, 0],
        "py": p[:, 1],
        "pz": p[:, 2],
        "energy": np.sqrt((p**2).sum(1) + 1).astype(np.float32),
    }
    lists = ak.unflatten(ak.zip({**columns, "d0": p[:, 0] / 7}, with_name="Momentum4D"), counts)
    return ak.zip({"constituents": lists, "label": np.arange(len(counts)) % 3}, depth_limit=1)


def dataset_of(counts: list[int]) -> JetDataset:
    return JetDataset.from_batch(JetBatch.from_awkward(jets_of(counts), ["log_pt", "d0"]), ["a", "b", "c"])


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_packing_keeps_every_constituent_in_order(counts) -> None:
    jets = jets_of(counts)
    batch = JetBatch.from_awkward(jets)
    assert batch.counts.tolist() == counts
    assert batch.offsets[0] == 0
    assert batch.offsets[-1] == len(batch.four_momenta) == sum(counts)
    for i, name in enumerate(("energy", "px", "py", "pz")):
        assert np.array_equal(batch.four_momenta[:, i], ak.to_numpy(ak.flatten(jets.constituents[name])))
    assert batch.labels.tolist() == [i % 3 for i in range(len(counts))]


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.data())
def test_any_jets_in_any_order_can_be_taken(counts, data) -> None:
    which = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=30))
    dataset = dataset_of(counts)
    whole = dataset.batch(slice(None))
    for taken in (
        dataset.batch(np.array(which, dtype=np.int64)),
        whole.take(torch.tensor(which, dtype=torch.int64)),
    ):
        assert taken.counts.tolist() == [counts[i] for i in which]
        for at, i in enumerate(which):
            a, b = slice(*taken.offsets[at : at + 2].tolist()), slice(*whole.offsets[i : i + 2].tolist())
            assert torch.equal(taken.four_momenta[a], whole.four_momenta[b])
            assert torch.equal(taken.features[a], whole.features[b])
        assert taken.labels.tolist() == [i % 3 for i in which]
    assert dataset.batch(np.array(which, dtype=np.int64)).index.tolist() == which


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(1, 6))
def test_the_leading_constituents_are_those_of_largest_pt(counts, most) -> None:
    jets = jets_of(counts, seed=1)
    batch = JetBatch.from_awkward(jets, max_constituents=most)
    assert batch.counts.tolist() == [min(n, most) for n in counts]
    pt = torch.hypot(batch.four_momenta[:, 1], batch.four_momenta[:, 2]).numpy()
    expected = ak.sort(np.hypot(jets.constituents.px, jets.constituents.py), ascending=False)[:, :most]
    got = ak.sort(ak.unflatten(pt, batch.counts.numpy()), ascending=False)
    assert ak.all(ak.isclose(got, expected, rtol=1e-6))


@pytest.mark.parametrize("name", [*feature_table.FULL, "pt_fraction"])
def test_every_feature_equals_its_published_formula(write, arrays, name) -> None:
    """JetClass (arXiv:2202.03772): shift, scale and clip, computed here from the branches in double
    precision."""
    a = {n: v if np.asarray(v[0]).ndim == 0 else ak.values_astype(v, np.float64) for n, v in arrays.items()}
    pt = np.hypot(a["part_px"], a["part_py"])
    formula = {
        "log_pt": lambda: (np.log(pt) - 1.7) * 0.7,
        "log_energy": lambda: (np.log(a["part_energy"]) - 2.0) * 0.7,
        "log_pt_rel": lambda: (np.log(pt / a["jet_pt"]) + 4.7) * 0.7,
        "log_energy_rel": lambda: (np.log(a["part_energy"] / a["jet_energy"]) + 4.7) * 0.7,
        "delta_r": lambda: (np.hypot(a["part_deta"], a["part_dphi"]) - 0.2) * 4,
        "d0": lambda: np.tanh(a["part_d0val"]),
        "d0_error": lambda: a["part_d0err"],
        "dz": lambda: np.tanh(a["part_dzval"]),
        "dz_error": lambda: a["part_dzerr"],
        "delta_eta": lambda: a["part_deta"],
        "delta_phi": lambda: a["part_dphi"],
        "pt_fraction": lambda: pt / a["jet_pt"],
        "charge": lambda: a["part_charge"],
        "is_charged_hadron": lambda: a["part_isChargedHadron"],
        "is_neutral_hadron": lambda: a["part_isNeutralHadron"],
        "is_photon": lambda: a["part_isPhoton"],
        "is_electron": lambda: a["part_isElectron"],
        "is_muon": lambda: a["part_isMuon"],
    }
    expected = ak.to_numpy(ak.flatten(formula[name]()))
    if name.startswith("log") or name == "delta_r":
        expected = np.clip(expected, -5, 5)
    dataset = JetDataset.open(write(arrays), Inputs(features=(name,)))
    assert np.abs(dataset.features[:, 0].numpy() - expected).max() < 1e-5


def test_features_do_not_depend_on_how_jets_came(write, arrays, monkeypatch) -> None:
    path = write(arrays, baskets=3)
    reference = JetDataset.open(path, Inputs(features=feature_table.FULL)).features
    assert torch.equal(JetBatch.from_awkward(read_jets(path), "full").features, reference)
    monkeypatch.setattr("hepml.data.packing.BLOCK", 37)
    monkeypatch.setattr("hepml.data.reading.tree_reader.IN_CACHE", 7)
    assert torch.equal(JetDataset.open(path, Inputs(features=feature_table.FULL)).features, reference)


def test_double_precision_jets_stay_double() -> None:
    jets = jets_of([3, 0, 2])
    jets = ak.with_field(jets, ak.values_astype(jets.constituents, np.float64), "constituents")
    batch = JetBatch.from_awkward(jets, "kinematic", dtype=torch.float64)
    assert batch.four_momenta.dtype == batch.features.dtype == torch.float64
    assert torch.equal(
        batch.four_momenta[:, 1], torch.from_numpy(ak.to_numpy(ak.flatten(jets.constituents.px)))
    )


def test_collider_coordinates_are_accepted() -> None:
    lists = ak.zip(
        {
            "pt": [[10.0, 5.0], [3.0]],
            "eta": [[0.1, -1.0], [2.0]],
            "phi": [[0.0, 1.0], [2.0]],
            "mass": [[0.0, 0.0], [0.1]],
        }
    )
    chunk = from_awkward(ak.zip({"constituents": lists}, depth_limit=1))
    assert np.allclose(chunk.constituents["px"], [10, 5 * np.cos(1), 3 * np.cos(2)])
    assert np.allclose(
        chunk.constituents["energy"] ** 2 - sum(chunk.constituents[n] ** 2 for n in ("px", "py", "pz")),
        [0, 0, 0.01],
        atol=1e-6,
    )


def test_jets_without_constituents_or_columns_are_refused_by_name() -> None:
    with pytest.raises(LayoutError, match="no field 'constituents'"):
        JetBatch.from_awkward(ak.Array([{"x": 1}]))
    with pytest.raises(LayoutError, match=r"feature 'dz' needs column 'dz'.*"):
        JetBatch.from_awkward(jets_of([2]), ["dz"])


def test_an_awkward_array_that_was_sliced_and_reordered_packs_as_it_looks(write, arrays) -> None:
    jets = hepml.read_jets(write(arrays))
    picked = jets[::-3]
    batch = JetBatch.from_awkward(picked, "kinematic")
    assert batch.labels.tolist() == picked.label.to_list()
    assert np.array_equal(batch.four_momenta[:, 0], ak.to_numpy(ak.flatten(picked.constituents.energy)))
    assert np.allclose(torch.hypot(batch.jets[:, 1], batch.jets[:, 2]), picked.jet_pt.to_numpy(), rtol=1e-5)
