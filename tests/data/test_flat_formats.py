"""Formats that are no ROOT trees, read as they are: HDF5 of several kinds, EnergyFlow, Parquet and Arrow."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from event_files import nano_events, write_tree
from toys import toy_arrays

import hepml
from hepml.cli.main import main
from hepml.data.dataset import JetDataset
from hepml.data.reading.inspection import inspect
from hepml.errors import DataError, FileError, LayoutError

h5py = pytest.importorskip("h5py")


def salt(path: Path, jets: int = 50, seed: int = 0) -> np.ndarray:
    """A file of salt: valid tracks anywhere in their row; returns the mask."""
    rng = np.random.default_rng(seed)
    names = [("pt", "f4"), ("eta", "f4"), ("mass", "f4"), ("HadronConeExclTruthLabelID", "i4")]
    j = np.zeros(jets, dtype=[*names, ("eventNumber", "i8")])
    j["pt"], j["eta"], j["mass"] = rng.uniform(2e4, 2e5, jets), rng.uniform(-2, 2, jets), 5e3
    j["HadronConeExclTruthLabelID"] = rng.choice([0, 4, 5, 15], jets)
    j["eventNumber"] = np.arange(jets) // 3
    kinds = [("qOverP", "f4"), ("deta", "f4"), ("dphi", "f4"), ("d0", "f4"), ("valid", "?")]
    t = np.zeros((jets, 12), dtype=kinds)
    t["qOverP"] = rng.choice([-1, 1], t.shape) / rng.uniform(1e3, 5e4, t.shape)
    t["deta"], t["dphi"] = rng.normal(0, 0.1, t.shape), rng.normal(0, 0.1, t.shape)
    t["valid"] = rng.random(t.shape) < 0.6
    t["d0"][~t["valid"]] = np.nan
    with h5py.File(path, "w") as file:
        file["jets"], file["tracks"] = j, t
    return t["valid"]


def test_salt_reads_valid_tracks_and_mev(tmp_path: Path) -> None:
    valid = salt(tmp_path / "ftag.h5")
    jets = hepml.read_jets(tmp_path / "ftag.h5")
    assert ak.num(jets.constituents.px).tolist() == valid.sum(1).tolist()
    with h5py.File(tmp_path / "ftag.h5") as file:
        p, eta = file["tracks"]["qOverP"][:], file["tracks"]["deta"][:] + file["jets"]["eta"][:][:, None]
        expected = (1e-3 / np.abs(p) / np.cosh(eta))[valid]
        np.testing.assert_allclose(jets.jet_pt, file["jets"]["pt"][:] / 1000, rtol=1e-6)
    c = ak.flatten(jets.constituents)
    np.testing.assert_allclose(np.hypot(c.px, c.py), expected, rtol=1e-4)
    assert jets.attrs["classes"] == ["bjets", "cjets", "ujets", "taujets"]
    found = inspect(tmp_path / "ftag.h5").as_dict()
    assert (found["layout"], found["units"], found["jets"]) == ("salt", "MeV", 50)
    assert found["collections"][0]["constituents"] == valid.sum()


def test_jets_of_one_event_stay_together_in_a_split(tmp_path: Path) -> None:
    salt(tmp_path / "ftag.h5")
    first, second = JetDataset.open(tmp_path / "ftag.h5").split(0.3)
    assert first.events is not None
    assert second.events is not None
    assert not set(first.events) & set(second.events)
    assert abs(len(second) - 15) <= 3


@pytest.mark.parametrize("form", ["table", "fixed"])
def test_top_tagging_table_is_read_directly(tmp_path: Path, form: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    rng = np.random.default_rng(1)
    p = np.zeros((20, 30, 4))
    p[:, :10, 1:] = rng.normal(0, 20, (20, 10, 3))
    p[:, :, 0] = np.sqrt((p[:, :, 1:] ** 2).sum(-1))
    names = [f"{q}_{i}" for i in range(30) for q in ("E", "PX", "PY", "PZ")]
    table = pandas.DataFrame(p.reshape(20, -1), columns=names)
    table["is_signal_new"] = np.arange(20) % 2
    table.to_hdf(tmp_path / "top.h5", key="table", format=form, mode="w")
    jets = hepml.read_jets(tmp_path / "top.h5")
    assert jets.label.tolist() == (np.arange(20) % 2).tolist()
    np.testing.assert_allclose(ak.sum(jets.constituents.energy, axis=1), p[:, :, 0].sum(1), rtol=1e-5)
    assert inspect(tmp_path / "top.h5").layout == "toptagging"
    assert len(hepml.read_jets(tmp_path / "top.h5", entry_start=5, entry_stop=9)) == 4


def test_jetnet_without_masked_particles(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0, 0.1, (15, 30, 2)), rng.random((15, 30, 1)), np.ones((15, 30, 1))], 2)
    x[:, 20:, 3] = 0
    with h5py.File(tmp_path / "g.hdf5", "w") as file:
        file["particle_features"] = x
        file["jet_features"] = np.stack(
            [np.full(15, 800.0), np.zeros(15), np.full(15, 90.0), np.full(15, 20)], 1
        )
    jets = hepml.read_jets(tmp_path / "g.hdf5")
    assert ak.num(jets.constituents.px).tolist() == [20] * 15
    pt = ak.to_numpy(np.hypot(jets.constituents.px, jets.constituents.py))
    np.testing.assert_allclose(pt, 800 * x[:, :20, 2], rtol=1e-5)


def test_lhco_events_become_their_two_leading_jets(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(3)
    x = np.zeros((6, 2101))
    for row in x:
        for jet, (eta, phi) in enumerate([(0.3, 0.5), (-0.4, -2.4)]):
            part = np.stack([rng.uniform(5, 50, 20), rng.normal(eta, 0.1, 20), rng.normal(phi, 0.1, 20)], 1)
            row[60 * jet : 60 * jet + 60] = part.ravel()
    x[:, 2100] = [0, 1, 0, 1, 1, 0]
    pandas.DataFrame(x).to_hdf(tmp_path / "lhco.h5", key="df", mode="w")
    assert main(["convert", str(tmp_path / "lhco.h5"), "-o", str(tmp_path / "o.root")]) == 2
    jets = hepml.read_jets(tmp_path / "lhco.h5")
    assert len(jets) == 12
    assert ak.num(jets.constituents.px).tolist() == [20] * 12
    assert jets.label.tolist() == np.repeat([0, 1, 0, 1, 1, 0], 2).tolist()
    assert jets.event.tolist() == np.repeat(np.arange(6), 2).tolist()
    path = str(tmp_path / "lhco.h5")
    (tmp_path / "other.h5").write_bytes((tmp_path / "lhco.h5").read_bytes())
    events = JetDataset.open([path, str(tmp_path / "other.h5")]).events
    assert events is not None
    assert np.unique(events, return_counts=True)[1].tolist() == [2] * 12


def test_energyflow_npz_is_read_directly(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = np.zeros((12, 8, 4))
    x[:, :5] = np.stack(
        [
            rng.uniform(1, 50, (12, 5)),
            rng.normal(0, 0.5, (12, 5)),
            rng.uniform(0, 6, (12, 5)),
            np.full((12, 5), 211),
        ],
        2,
    )
    np.savez(tmp_path / "qg.npz", X=x, y=np.arange(12) % 2)
    jets = hepml.read_jets(tmp_path / "qg.npz")
    assert ak.num(jets.constituents.px).tolist() == [5] * 12
    assert jets.attrs["classes"] == ["gluon", "quark"]
    pt = np.hypot(jets.constituents.px, jets.constituents.py)
    np.testing.assert_allclose(ak.to_numpy(ak.sum(pt, axis=1)), x[:, :, 0].sum(1), rtol=1e-5)
    assert inspect(tmp_path / "qg.npz").layout == "energyflow"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_parquet_and_arrow_give_the_jets_of_the_tree(tmp_path: Path, suffix: str) -> None:
    branches = toy_arrays(60, seed=3)
    root = write_tree(tmp_path / "j.root", "tree", branches)
    file = write_arrow(tmp_path / f"j{suffix}", branches)
    a, b = hepml.read_jets(root), hepml.read_jets(file)
    assert ak.all(a.constituents.px == b.constituents.px)
    assert a.label.tolist() == b.label.tolist()
    assert inspect(file).layout == "jetclass"


@pytest.mark.parametrize("place", ["a jet's number", "a jet's list", "a number of a list"])
def test_missing_values_in_parquet_are_said_to_be_missing(tmp_path: Path, place: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = write_arrow(tmp_path / "j.parquet", toy_arrays(60, seed=3))
    table = parquet.read_table(file)
    name = "jet_pt" if place == "a jet's number" else "part_px"
    values = table[name].to_pylist()
    if place == "a number of a list":
        values[3][0] = None
    else:
        values[3] = None
    parquet.write_table(table.set_column(table.column_names.index(name), name, arrow.array(values)), file)
    with pytest.raises(DataError, match=f"column '{name}' has 1 missing values.*fill or drop them"):
        hepml.read_jets(file)


def test_events_in_parquet_are_linked_as_in_root(tmp_path: Path) -> None:
    branches = nano_events()
    root = write_tree(tmp_path / "n.root", "Events", branches)
    file = write_arrow(tmp_path / "n.parquet", branches)
    a, b = (hepml.read_jets(f, jets="FatJet") for f in (root, file))
    assert ak.all(a.constituents.px == b.constituents.px)
    assert a.event.tolist() == b.event.tolist()


def write_arrow(path: Path, branches: dict[str, ak.Array]) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = pa.table({n: ak.to_arrow(ak.Array(v), extensionarray=False) for n, v in branches.items()})
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=17)
    else:
        with pa.ipc.new_file(path, table.schema) as sink:
            sink.write_table(table)
    return path


def test_an_hdf5_file_of_another_kind_says_what_it_holds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weights"] = np.zeros((3, 2))
    with pytest.raises(LayoutError, match=r"no known format.*'weights' float64\[2\]"):
        hepml.read_jets(tmp_path / "x.h5")
    (tmp_path / "y.h5").write_bytes(b"nonsense" * 10)
    with pytest.raises(FileError, match="cannot be read"):
        hepml.read_jets(tmp_path / "y.h5")
    assert main(["inspect", str(tmp_path / "x.h5")]) == 0


def test_a_truncated_parquet_file_is_one_line(tmp_path: Path) -> None:
    file = write_arrow(tmp_path / "j.parquet", toy_arrays(60, seed=3))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FileError, match="Parquet file cannot be read") as problem:
        hepml.read_jets(file)
    assert "\n" not in str(problem.value)
