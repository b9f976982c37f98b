"""Odd HDF5, npz, Parquet and Arrow files as they are really met: read rightly, or refused for what they
are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from toys import toy_arrays

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.inspection import inspect
from hepml.errors import DataError, HepmlError, LayoutError

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

JETS = [("pt", "f4"), ("eta", "f4"), ("mass", "f4"), ("HadronConeExclTruthLabelID", "i4")]
TRACKS = [("pt", "f4"), ("deta", "f4"), ("dphi", "f4"), ("d0", "f4"), ("valid", "?")]


def salt(path: Path, jets: Any = None, tracks: Any = None, **how: Any) -> tuple[Any, Any]:
    """A file of ten jets whose rows 0 to 3 of 6 are tracks; the arrays."""
    rng = np.random.default_rng(0)
    j, t = np.zeros(10, dtype=jets or JETS), np.zeros((10, 6), dtype=tracks or TRACKS)
    values = {"pt": rng.uniform(2e4, 6e4, 10), "eta": rng.uniform(-2, 2, 10), "mass": 5e3}
    values |= {"HadronConeExclTruthLabelID": np.arange(10) % 2 * 5, "flavour_label": np.arange(10) % 3}
    rows = {"pt": rng.uniform(1e3, 5e4, (10, 4)), "valid": True, "d0": rng.normal(size=(10, 4))}
    rows |= {n: rng.normal(0, 0.1, (10, 4)) for n in ("deta", "dphi")}
    for array, own in ((j, values), (t[:, :4], rows)):
        for name in set(array.dtype.names or ()) & own.keys():
            array[name] = own[name]
    with h5py.File(path, "w") as file:
        file.create_dataset("jets", data=j, **how)
        file.create_dataset("tracks", data=t, **how)
    return j, t


def typed(names: list[tuple[str, str]], to: Callable[[str], str]) -> list[tuple[str, str]]:
    return [(n, to(k)) for n, k in names]


@pytest.mark.parametrize(
    ("jets", "tracks", "how"),
    [
        (None, None, {"compression": "gzip", "shuffle": True}),
        (None, None, {"compression": "lzf", "chunks": True}),
        (typed(JETS, lambda k: f">{k}"), typed(TRACKS, lambda k: k if k == "?" else f">{k}"), {}),
        (typed(JETS, lambda k: k.replace("f4", "f2")), typed(TRACKS, lambda k: k.replace("f4", "f2")), {}),
        (JETS, typed(TRACKS, lambda k: "f4" if k == "?" else k), {}),
        ([*JETS, ("cov", "f4", (3,)), ("name", "S5")], [*TRACKS, ("hits", "f4", (3,)), ("name", "S5")], {}),
    ],
)
def test_salt_files_of_any_types_give_the_numbers_in_them(
    tmp_path: Path, jets: Any, tracks: Any, how: dict[str, Any]
) -> None:
    j, t = salt(tmp_path / "s.h5", jets, tracks, **how)
    read = hepml.read_jets(tmp_path / "s.h5")
    assert ak.num(read.constituents.px).tolist() == [4] * 10
    pt = np.hypot(ak.flatten(read.constituents.px), ak.flatten(read.constituents.py))
    np.testing.assert_allclose(pt, t["pt"][:, :4].astype(np.float64).ravel() / 1000, rtol=2e-6)
    assert {"hits", "name"}.isdisjoint(read.constituents.fields)
    data = JetDataset.open(tmp_path / "s.h5", Inputs(features=("d0",), jet_features=("mass",)))
    assert data.jet_features is not None
    np.testing.assert_allclose(data.jet_features[:, 0], j["mass"].astype(np.float64))


@pytest.mark.parametrize(
    ("jets", "tracks", "change", "words"),
    [
        (
            None,
            TRACKS[:-1],
            {},
            r"no column 'valid', and 20 of 60 rows have no momentum.*write `valid`",
        ),
        (
            None,
            [*TRACKS[:-1], ("valid", "f4")],
            {"valid": np.nan},
            "`valid` of tracks .* neither.*jet 2",
        ),
        (None, [*TRACKS[:-1], ("valid", "i4")], {"valid": 2}, "`valid` of tracks that is neither 0 nor 1"),
        ([JETS[0], *JETS[2:]], None, {}, r"no 'eta' among the columns of 'jets' \(pt, mass"),
        (JETS[1:], None, {}, "no 'pt' among the columns of 'jets'"),
        (None, [("pt", "S5"), *TRACKS[1:]], {}, "no momentum among the columns of 'tracks'"),
    ],
)
def test_salt_files_that_lack_something_say_what(
    tmp_path: Path, jets: Any, tracks: Any, change: dict[str, Any], words: str
) -> None:
    salt(tmp_path / "s.h5", jets, tracks)
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        rows = file["tracks"][:]
        for name, value in change.items():
            rows[name][2, 1] = value
        file["tracks"][...] = rows
    with pytest.raises(HepmlError, match=words) as problem:
        hepml.read_jets(tmp_path / "s.h5")
    assert "\n" not in str(problem.value)


def test_jets_of_two_dimensions_are_no_damage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["jets"], file["tracks"] = np.zeros((5, 1), dtype=JETS), np.zeros((5, 4), dtype=TRACKS)
    with pytest.raises(LayoutError, match=r"'jets' has shape \(5, 1\)"):
        hepml.read_jets(tmp_path / "s.h5")


def test_flavour_labels_without_names_are_numbers(tmp_path: Path) -> None:
    salt(tmp_path / "s.h5", [*JETS[:3], ("flavour_label", "i4")])
    read = hepml.read_jets(tmp_path / "s.h5")
    assert read.attrs["classes"] == ["0", "1", "2"]
    assert read.label.tolist() == (np.arange(10) % 3).tolist()


def test_names_without_their_column_do_not_rename_the_flavours(tmp_path: Path) -> None:
    salt(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["jets"].attrs["flavour_label"] = ["ujets", "cjets", "bjets"]
    read = hepml.read_jets(tmp_path / "s.h5")
    assert [read.attrs["classes"][i] for i in read.label[:2]] == ["ujets", "bjets"]


def test_the_label_itself_is_no_leak(tmp_path: Path) -> None:
    salt(tmp_path / "s.h5", [*JETS, ("truth", "f4")])
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        rows = file["jets"][:]
        rows["truth"] = rows["HadronConeExclTruthLabelID"]
        file["jets"][...] = rows
    assert [leak["column"] for leak in inspect(tmp_path / "s.h5").leaks] == ["truth"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [((10, 6), "jet_features have shape"), ((9, 4), "for 10 jets"), ((10,), "jet_features have shape")],
)
def test_jet_features_of_another_form_are_refused(tmp_path: Path, shape: Any, words: str) -> None:
    with h5py.File(tmp_path / "j.hdf5", "w") as file:
        file["particle_features"], file["jet_features"] = np.ones((10, 5, 4)), np.ones(shape)
    with pytest.raises(LayoutError, match=words):
        hepml.read_jets(tmp_path / "j.hdf5")


def energyflow(path: Path, y: Any, change: Callable[[Any], Any] = lambda x: x) -> Path:
    x = np.zeros((20, 6, 4))
    x[:, :4] = np.random.default_rng(0).uniform(1, 2, (20, 4, 4))
    x[:, :4, 3] = 22
    np.savez(path, X=change(x), **({} if y is None else {"y": y}))
    return path


@pytest.mark.parametrize(
    ("y", "change", "words"),
    [
        (np.eye(2)[np.arange(20) % 2], None, r"y has shape \(20, 2\).*argmax"),
        (None, None, "EnergyFlow's X without y"),
        (np.arange(20) % 2, np.asfortranarray, "Fortran order.*ascontiguousarray"),
        (np.arange(20) % 2, lambda x: x[:, :, [0, 1, 2, 3, 3]], r"X has shape \(20, 6, 5\)"),
        (np.arange(20) % 3, None, "unknown class 2 .*entry 2"),
    ],
)
def test_energyflow_arrays_of_another_form_are_refused(
    tmp_path: Path, y: Any, change: Any, words: str
) -> None:
    file = energyflow(tmp_path / "e.npz", y, change or (lambda x: x))
    with pytest.raises(HepmlError, match=words):
        JetDataset.open(file)


@pytest.mark.parametrize("kind", [float, bool, ">i4", np.uint8])
def test_energyflow_labels_of_any_type_are_read(tmp_path: Path, kind: Any) -> None:
    y = np.arange(20) % 2
    labels = hepml.read_jets(energyflow(tmp_path / "e.npz", y.astype(kind))).label
    assert labels.tolist() == y.tolist()


BRANCHES = toy_arrays(40, seed=1)


def table(**changes: Any) -> Any:
    """The toy jets as an Arrow table, with some columns changed."""
    columns = {}
    for name, values in BRANCHES.items():
        nested = isinstance(values, ak.Array)
        kind = pa.list_(pa.bool_() if "is" in name else pa.float32()) if nested else None
        columns[name] = pa.array(values.tolist() if nested else np.asarray(values), type=kind)
    return pa.table(columns | {n: change(columns.get(n)) for n, change in changes.items()})


def as_list(kind: Any) -> Callable[[Any], Any]:
    return lambda column: pa.array(column.to_pylist(), type=kind)


def decimals(column: Any) -> Any:
    return pa.array([Decimal(str(round(v, 2))) for v in column.to_pylist()])


LISTS = {
    "large": as_list(pa.large_list(pa.float64())),
    "view": as_list(pa.list_view(pa.float32())),
    "large view": as_list(pa.large_list_view(pa.float32())),
    "dictionary": lambda c: pa.ListArray.from_arrays(c.offsets, c.flatten().dictionary_encode()),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_any_kind_give_the_same_jets(tmp_path: Path, kind: str) -> None:
    held = table(part_px=LISTS[kind])
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, held.schema) as writer:
        for batch in held.to_batches(max_chunksize=7):
            writer.write_batch(batch)
    read = hepml.read_jets(tmp_path / "x.arrow")
    assert read.constituents.px.tolist() == BRANCHES["part_px"].tolist()
    some = list(hepml.data.iterate_jets(tmp_path / "x.arrow", step_size=9))
    assert ak.concatenate([p.constituents.px for p in some]).tolist() == BRANCHES["part_px"].tolist()


@pytest.mark.parametrize("change", [decimals, lambda c: c.dictionary_encode()])
def test_jet_columns_of_any_kind_are_numbers(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    parquet.write_table(table(jet_sdmass=change), tmp_path / "x.parquet", row_group_size=7)
    data = JetDataset.open(tmp_path / "x.parquet", jet_columns="all")
    np.testing.assert_allclose(data.jet_columns["jet_sdmass"], BRANCHES["jet_sdmass"], atol=0.01)


def test_event_numbers_beyond_float64_stay_exact_over_row_groups(tmp_path: Path) -> None:
    numbers = 2**53 + 1 + np.arange(40, dtype=np.uint64)
    parquet.write_table(table(evt=lambda _: pa.array(numbers)), tmp_path / "x.parquet", row_group_size=7)
    data = JetDataset.open(tmp_path / "x.parquet", jet_columns=["evt"])
    assert data.jet_columns["evt"].tolist() == numbers.tolist()


def test_columns_that_cannot_be_read_are_no_damage(tmp_path: Path) -> None:
    held = table(part_px=lambda c: pa.array([["a"] * len(x) for x in c.to_pylist()]))
    parquet.write_table(held, tmp_path / "x.parquet")
    with pytest.raises(HepmlError, match="'part_px'") as problem:
        hepml.read_jets(tmp_path / "x.parquet")
    assert "damaged" not in str(problem.value)
    held = table()
    twice = pa.Table.from_arrays([*held.columns, held["jet_pt"]], names=[*held.schema.names, "jet_pt"])
    parquet.write_table(twice, tmp_path / "y.parquet")
    with pytest.raises(DataError, match="several columns 'jet_pt'"):
        hepml.read_jets(tmp_path / "y.parquet")


def test_reading_parquet_warns_of_nothing(tmp_path: Path) -> None:
    from hepml.data.formats.arrow import ArrowFile

    parquet.write_table(table(), tmp_path / "x.parquet")
    px = ArrowFile(str(tmp_path / "x.parquet"))["table"]["part_px"].array()
    assert ak.to_numpy(ak.flatten(px)).flags.writeable  # torch warns of others, once a process
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JetDataset.open(tmp_path / "x.parquet")
