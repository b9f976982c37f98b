"""Files become jets: whatever the container, the way to name files, and the number of chunks."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import hepml
from hepml.data.reading.reader import classes_of, iterate_chunks, iterate_jets, read_jets, scan
from hepml.data.reading.tree_reader import TreeReader
from hepml.errors import DataError, FileError


def same(a: ak.Array, b: ak.Array) -> bool:
    return ak.fields(a) == ak.fields(b) and all(
        ak.array_equal(a[n], b[n], check_parameters=False) for n in ak.fields(a)
    )


def test_jets_have_momenta_columns_labels_and_class_names(write, arrays) -> None:
    jets = hepml.read_jets(write(arrays))
    assert len(jets) == 60
    assert ak.array_equal(jets.constituents.px, arrays["part_px"], check_parameters=False)
    assert ak.all(abs(jets.constituents.pt - np.hypot(arrays["part_px"], arrays["part_py"])) < 1e-3)
    assert {"d0", "dz_error", "charge", "is_muon", "delta_eta"} <= set(jets.constituents.fields)
    assert classes_of(jets) == ("QCD", "Tbqq")
    assert np.array_equal(jets.label, np.arange(60) % 2)
    assert np.array_equal(jets.jet_sdmass, arrays["jet_sdmass"])


@pytest.mark.parametrize(
    "compression", [uproot.ZSTD(1), uproot.LZ4(1), uproot.ZLIB(1), uproot.LZMA(1), uproot.ZLIB(0)]
)
def test_every_compression_and_basket_size_gives_the_same_jets(write, arrays, compression) -> None:
    reference = read_jets(write(arrays, "reference.root"))
    assert same(read_jets(write(arrays, compression=compression, baskets=7)), reference)


def test_an_rntuple_gives_the_same_jets_as_a_ttree(write, arrays) -> None:
    ntuple, tree = read_jets(write(arrays, "n.root", ntuple=True)), read_jets(write(arrays))
    counters = [
        n for n in tree.fields if n not in ntuple.fields
    ]  # a TTree counts its lists in branches of their own
    assert all(n.startswith("npart") for n in counters)
    assert same(ntuple, tree[[n for n in tree.fields if n not in counters]])


def test_baskets_read_directly_equal_what_uproot_reads(write, arrays) -> None:
    path = write(arrays, baskets=4)
    with uproot.open(path) as file:
        tree = file["tree"]
        names = [n for n in tree.keys() if n.startswith(("part_", "jet_"))]  # noqa: SIM118 - uproot's keys
        quick, slow = TreeReader(tree, "x", str(path)), TreeReader(tree, "x")
        assert all(quick._is_quick(n) for n in names)
        a, b = quick.read(names, 7, 51), slow.read(names, 7, 51)
    for name in names:
        assert np.array_equal(a[name].content, b[name].content), name
        assert (a[name].offsets is None) == (b[name].offsets is None)
        if a[name].offsets is not None:
            assert np.array_equal(a[name].offsets, b[name].offsets)


def test_vector_branches_written_by_root_are_read_directly_and_equal_uproots(shared) -> None:
    path = shared / "data" / "root" / "jetclass2_100jets.root"
    with uproot.open(path) as file:
        tree = file["tree"]
        names = ["part_px", "part_charge", "part_isMuon", "genpart_pid"]
        reader = TreeReader(tree, "x", str(path))
        assert all(reader._is_quick(n) for n in names)
        found = reader.read(names, 3, 97)
        for name in names:
            expected = tree[name].array(entry_start=3, entry_stop=97)
            assert np.array_equal(found[name].content, ak.to_numpy(ak.flatten(expected)).astype(np.float32))
            assert np.array_equal(np.diff(found[name].offsets), ak.num(expected))
    jets = read_jets(path)
    assert len(jets) == 100
    assert ak.max(jets.label) < 188


@pytest.mark.parametrize("step", [1, 7, 60, 1000])
def test_pieces_join_to_the_whole(write, arrays, step) -> None:
    path = write(arrays, baskets=3)
    pieces = list(iterate_jets(path, step_size=step))
    assert same(ak.concatenate(pieces), read_jets(path))
    assert max(map(len, pieces)) <= max(2 * step, 1)


def test_files_may_be_a_path_a_glob_a_folder_a_list_or_name_their_tree(write, arrays, tmp_path) -> None:
    a, b = write(arrays, "a.root"), write(arrays, "b.root")
    for files in (f"{tmp_path}/*.root", tmp_path, [a, b], [str(a), f"{b}:tree"]):
        assert len(read_jets(files)) == 120
    assert len(read_jets(f"{a}:tree")) == 60


def test_an_entry_range_runs_over_all_files_behind_each_other(write, arrays) -> None:
    files = [write(arrays, "a.root"), write(arrays, "b.root")]
    part = read_jets(files, entry_start=50, entry_stop=70)
    assert same(part, read_jets(files)[50:70])
    with pytest.raises(DataError, match="no entries between 200"):
        read_jets(files, entry_start=200)


def test_files_without_track_columns_are_read_and_say_so_when_tracks_are_wanted(write, arrays) -> None:
    lean = {n: v for n, v in arrays.items() if not n.startswith("part_d") and "part_is" not in n}
    path = write(lean)
    assert "d0" not in read_jets(path).constituents.fields
    with pytest.raises(hepml.HepmlError, match=r"column 'd0' needs branch 'part_d0val' not found"):
        read_jets(path, columns=["d0"])


def test_labels_of_files_with_different_label_branches_agree(write, arrays) -> None:
    """Each file of a sample may carry only the label branches it needs."""
    tops = {n: v for n, v in arrays.items() if n != "label_QCD"}
    tops["label_Tbqq"] = np.ones(60, dtype=np.float32)
    files = [write(tops, "tops.root"), write(arrays, "both.root")]
    jets = read_jets(files)
    assert classes_of(jets) == ("QCD", "Tbqq")
    assert jets.label.to_list() == [1] * 60 + [0, 1] * 30


def test_npz_files_in_the_reference_format_are_jets_too(tmp_path) -> None:
    p = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    p[:, 0] = np.sqrt((p[:, 1:] ** 2).sum(1)) + 1
    np.savez(
        tmp_path / "j.npz", four_momenta=p, offsets=[0, 4, 4, 9], labels=np.array([1, 0, 1], dtype=np.int16)
    )
    jets = read_jets(tmp_path / "j.npz")
    assert ak.num(jets.constituents).to_list() == [4, 0, 5]
    assert np.array_equal(ak.flatten(jets.constituents.pz), p[:, 3])
    assert jets.label.to_list() == [1, 0, 1]


def test_constituents_beyond_the_leading_ones_are_cut_by_pt_and_counted(write, arrays) -> None:
    order = np.random.default_rng(0).permutation
    shuffled = {
        n: ak.Array([np.asarray(j)[order(len(j))] for j in v]) if n == "part_px" else v
        for n, v in arrays.items()
    }
    shuffled["part_energy"] = arrays["part_energy"] * 100  # above any momentum
    jets = read_jets(write(shuffled), max_constituents=5)
    full = read_jets(write(shuffled, "again.root"))
    expected = ak.sort(full.constituents.pt, ascending=False)[:, :5]
    assert ak.all(ak.isclose(ak.sort(jets.constituents.pt, ascending=False), expected))
    assert "cut to their leading constituents" in jets.attrs["report"]


def test_the_shipped_jets_are_recognised(repository) -> None:
    found = scan(repository / "data" / "toptag").raise_first()
    assert found.entries > 5000
    assert {"QCD", "Tbqq"} <= set(found.classes)
    assert all(f.layout is not None and f.layout.name == "jetclass" for f in found.files)


def test_iterating_does_not_hold_what_it_has_handed_out(write, arrays) -> None:
    import gc
    import weakref

    held = []
    for chunk in iterate_chunks(write(arrays, baskets=6), step_size=10):
        held.append(weakref.ref(chunk.constituents["px"]))
        del chunk
        gc.collect()
        assert sum(r() is not None for r in held) <= 1
    assert len(held) == 6


def test_a_missing_file_names_its_nearest_neighbour(write, arrays) -> None:
    path = write(arrays, "training.root")
    with pytest.raises(FileError, match=r"no such file: .*trainin\.root: did you mean '.*training\.root'"):
        read_jets(path.with_name("trainin.root"))
    with pytest.raises(FileError, match="does not exist either"):
        read_jets(Path("nowhere") / "x.root")
    with pytest.raises(FileError, match="no file matches this pattern"):
        read_jets(str(path.parent / "*.rooot"))
    with pytest.raises(FileError, match="no input files"):
        read_jets([])
