"""One rule says which jets no model can use, for every form of file: it is counted, and rows of zeros are no
constituents."""

from __future__ import annotations

import re
import warnings
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.reader import read_jets
from hepml.errors import DataError
from hepml.inference.prediction import predict

INPUTS = Inputs(features=("log_pt", "delta_eta"))
LABELS = {"QCD": "label_QCD", "Tbqq": "label_Tbqq"}
PX = ("part_px", "part_py", "part_pz", "part_energy")
BAD = {
    "negative energy": (1.0, 0.0, 0.0, -2.0),
    "no transverse momentum": (0.0, 0.0, 10.0, 10.0),
    r"\|eta\| above 10": (1e-4, 0.0, 50.0, 50.0),
    "energy below momentum": (3.0, 4.0, 0.0, 4.9),
    "NaN or infinite 'px'": (np.nan, 0.0, 0.0, 1.0),
    "NaN or infinite 'energy'": (1.0, 0.0, 0.0, np.inf),
}


def with_first_constituent(arrays: dict[str, Any], jet: int, values: tuple[float, ...]) -> dict[str, Any]:
    """The branches with another four-momentum (px, py, pz, E) for the first constituent of one jet."""
    out = dict(arrays)
    for name, value in zip(PX, values, strict=True):
        counts = ak.num(arrays[name])
        flat = ak.to_numpy(ak.flatten(arrays[name])).copy()
        flat[int(np.sum(counts[:jet]))] = value
        out[name] = ak.unflatten(flat, counts)
    return out


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.parametrize("form", ["TTree", "RNTuple", "npz"])
def test_unphysical_constituents_are_refused_dropped_or_kept_and_counted(
    write, arrays, tmp_path, reason, form
) -> None:
    branches = with_first_constituent(arrays, 17, BAD[reason])
    if form == "npz":
        path = tmp_path / "jets.npz"
        columns = [ak.to_numpy(ak.flatten(branches[PX[i]])) for i in (3, 0, 1, 2)]
        offsets = np.concatenate([[0], np.cumsum(ak.num(branches["part_px"]))])
        labels = branches["label_Tbqq"].astype(np.int64)
        np.savez(path, four_momenta=np.stack(columns, 1), offsets=offsets, labels=labels)
    else:
        path = write(branches, ntuple=form == "RNTuple")
    dataset = JetDataset.open(path)
    assert len(dataset) == 59
    assert 17 not in dataset.entries
    assert dataset.report.dropped_bad == 1
    assert any(re.search(reason, found) for found in dataset.report.bad)
    assert "entry 17" in str(dataset.report)
    with pytest.raises(DataError, match=rf"{reason}.*entry 17"):
        read_jets(path)
    assert len(read_jets(path, bad="drop")) == 59
    assert len(read_jets(path, bad="keep")) == 60
    rows = predict(hepml.models.create("pfn"), path)
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == [17]


def test_energies_within_rounding_of_the_momentum_pass(write, arrays) -> None:
    for factor, kept in ((1 - 5e-4, 60), (1 - 0.01, 0)):
        lowered = {**arrays, "part_energy": arrays["part_energy"] * np.float32(factor)}
        if kept:
            assert len(JetDataset.open(write(lowered))) == kept
        else:
            with pytest.raises(DataError, match="energy below momentum: 60"):
                JetDataset.open(write(lowered))


def padded(arrays: dict[str, Any], width: int = 40) -> dict[str, np.ndarray]:
    """The lists of constituents as arrays of fixed size, filled up with zeros."""
    return {
        n: ak.to_numpy(ak.fill_none(ak.pad_none(v, width, clip=True), 0)).astype(np.float32)
        for n, v in arrays.items()
        if isinstance(v, ak.Array)
    }


def test_the_padding_of_arrays_of_fixed_size_is_no_constituent(tmp_path, arrays) -> None:
    path, lists = tmp_path / "padded.root", padded(arrays)
    with uproot.recreate(path) as file:
        file["tree"] = {**arrays, **lists}
    with uproot.recreate(tmp_path / "lists.root") as file:
        file["tree"] = arrays
    a, b = (JetDataset.open(tmp_path / name, INPUTS) for name in ("padded.root", "lists.root"))
    assert a.digest == b.digest
    assert a.report.padding == 60 * 40 - int(b.offsets[-1])
    assert f"{a.report.padding} rows of zeros left out as padding" in str(a.report)
    model = hepml.models.create("pfn").eval()
    assert np.allclose(predict(model, path), predict(model, tmp_path / "lists.root"))


@pytest.mark.parametrize("mass", [None, 0.13957])
def test_padding_stays_padding_whatever_mass_the_layout_gives(tmp_path, arrays, mass) -> None:
    lists = padded(arrays)
    px, py, pz = (lists[n] for n in PX[:3])
    pt = np.hypot(px, py)
    there = pt > 0
    eta = np.where(there, np.arcsinh(pz / np.where(there, pt, 1)), 0).astype(np.float32)
    with uproot.recreate(tmp_path / "a.root") as file:
        file["tree"] = {
            "c_pt": pt,
            "c_eta": eta,
            "c_phi": np.arctan2(py, px),
            **{n: arrays[n] for n in LABELS.values()},
        }
    group = {"pt": "c_pt", "eta": "c_eta", "phi": "c_phi", **({"mass": mass} if mass else {})}
    dataset = JetDataset.open(tmp_path / "a.root", layout={"constituents": group, "labels": LABELS})
    assert dataset.counts.tolist() == ak.num(arrays["part_px"]).to_list()
    assert bool((dataset.four_momenta[:, 0] > 0).all())


def test_a_jet_of_nothing_but_padding_has_no_constituents(write, arrays) -> None:
    lists = {n: ak.values_astype(v, np.float32) for n, v in arrays.items() if isinstance(v, ak.Array)}
    empty = {n: ak.values_astype(ak.Array([[0.0], *v[1:].to_list()]), np.float32) for n, v in lists.items()}
    empty = {**arrays, **empty}
    dataset = JetDataset.open(write(empty), INPUTS)
    assert dataset.counts[0] == 0
    assert "1 rows of zeros left out as padding" in str(dataset.report)
    assert "1 jets without constituents (kept)" in str(dataset.report)


@pytest.mark.parametrize(
    ("column", "value"), [("jet_pt", 0.0), ("jet_pt", -1.0), ("jet_eta", -999.0), ("jet_eta", 12.0)]
)
def test_a_jets_own_momentum_must_be_one(write, arrays, column, value) -> None:
    changed = arrays[column].copy()
    changed[9] = value
    dataset = JetDataset.open(write({**arrays, column: changed}), INPUTS)
    assert len(dataset) == 59
    assert "jet momentum" in str(dataset.report)


@pytest.mark.parametrize("value", [-999.0, 500.0, np.nan])
def test_what_overflows_is_screened_without_a_warning(tmp_path, arrays, value) -> None:
    lists = padded(arrays, 5)
    eta = np.zeros((60, 5), np.float32)
    eta[4, 1] = value
    pt = np.full((60, 5), 10, np.float32)
    pt[8, 0] = -1
    with uproot.recreate(tmp_path / "a.root") as file:
        file["tree"] = {
            "pt": pt,
            "eta": eta,
            "phi": lists["part_dphi"],
            **{n: arrays[n] for n in LABELS.values()},
        }
    layout = {"constituents": {"pt": "pt", "eta": "eta", "phi": "phi"}, "labels": LABELS}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        dataset = JetDataset.open(tmp_path / "a.root", layout=layout)
    assert sorted(set(range(60)) - set(dataset.entries.tolist())) == [4, 8]
    assert torch.isfinite(dataset.four_momenta).all()
