"""Input that cannot be used: one line that says what, where and how to mend it; nothing is dropped without a
count."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest

from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.reader import read_jets, scan
from hepml.errors import DataError, FileError, HepmlError, LayoutError

FULL = Inputs(features=("log_pt", "d0"))


def with_value(arrays: dict[str, Any], branch: str, jet: int, value: float) -> dict[str, Any]:
    """The branches with one constituent of one jet changed."""
    flat, counts = ak.to_numpy(ak.flatten(arrays[branch])).copy(), ak.num(arrays[branch])
    flat[int(np.sum(counts[:jet]))] = value
    return {**arrays, branch: ak.unflatten(flat, counts)}


def one_line(error: pytest.ExceptionInfo[HepmlError]) -> str:
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not root at all", b"root", b"root" + bytes(200)])
def test_a_file_that_is_no_root_file_is_named(tmp_path, content) -> None:
    path = tmp_path / "x.root"
    path.write_bytes(content)
    with pytest.raises(FileError) as error:
        read_jets(path)
    assert str(path) in one_line(error)


def test_a_root_file_that_was_never_closed_is_named(shared) -> None:
    path = shared / "data" / "root" / "broken_delphes.root"
    with pytest.raises(FileError, match="never closed") as error:
        read_jets(path)
    assert "broken_delphes" in one_line(error)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_its_sizes(write, arrays, share) -> None:
    path = write(arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        FileError, match=rf"{int(share * len(whole))} of {len(whole)} bytes|cannot be read|truncated"
    ) as error:
        read_jets(path)
    assert str(path) in one_line(error)


def test_damaged_baskets_are_refused_with_the_entries(write, arrays) -> None:
    path = write(arrays)
    content = bytearray(path.read_bytes())
    at = content.index(b"ZS", 400)
    content[at + 9 : at + 60] = bytes(51)
    path.write_bytes(bytes(content))
    with pytest.raises(FileError, match=r"entries 0 to 60 cannot be read") as error:
        read_jets(path)
    one_line(error)


@pytest.mark.parametrize("name", ["x.npz", "y.npz"])
def test_a_broken_npz_is_refused(tmp_path, name) -> None:
    path = tmp_path / name
    if name == "x.npz":
        path.write_bytes(b"nonsense")
    else:
        np.savez(path, momenta=np.zeros((3, 4)), offsets=[0, 3])
    with pytest.raises(HepmlError, match=r"not an npz file|array 'four_momenta' not found"):
        read_jets(path)


def test_a_missing_branch_names_the_nearest(write, arrays) -> None:
    renamed = {("part_enrgy" if n == "part_energy" else n): v for n, v in arrays.items()}
    with pytest.raises(LayoutError, match=r"branch 'part_energy' not found; nearest: part_enrgy") as error:
        read_jets(write(renamed))
    one_line(error)
    with pytest.raises(LayoutError, match=r"branch 'part_energy' not found .*did you mean 'part_enrgy'"):
        read_jets(write(renamed, "again.root"), "jetclass")


def test_a_missing_tree_names_the_nearest(write, arrays) -> None:
    with pytest.raises(LayoutError, match=r"tree 'tre' not found .*did you mean 'tree'"):
        read_jets(f"{write(arrays)}:tre")


def test_an_empty_tree_is_refused_alone_and_noted_among_others(write, arrays) -> None:
    nothing = {n: v[:0] for n, v in arrays.items()}
    empty = write(nothing, "empty.root")
    with pytest.raises(DataError, match="no jets: the tree has no entries") as error:
        read_jets(empty)
    one_line(error)
    dataset = JetDataset.open([empty, write(arrays)])
    assert len(dataset) == 60
    assert "empty.root has no entries" in str(dataset.report)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_columns_are_refused_with_file_and_entry(write, arrays, value) -> None:
    path = write(with_value(arrays, "part_d0val", 17, value))
    with pytest.raises(DataError, match=r"NaN or infinite 'd0'.*jets.root:tree, entry 17") as error:
        read_jets(path)
    one_line(error)


def test_negative_energies_are_refused_with_file_and_entry(write, arrays) -> None:
    with pytest.raises(DataError, match=r"negative energy: -3.*entry 42"):
        read_jets(write(with_value(arrays, "part_energy", 42, -3.0)))


def test_a_data_set_drops_bad_jets_and_counts_them(write, arrays) -> None:
    bad = with_value(with_value(arrays, "part_d0val", 17, np.nan), "part_energy", 42, -3.0)
    dataset = JetDataset.open(write(bad), FULL)
    assert len(dataset) == 58
    assert dataset.report.dropped_bad == 2
    assert not np.isin([17, 42], dataset.entries).any()
    assert "NaN or infinite 'd0': 1 (first in" in str(dataset.report)
    assert "entry 42" in str(dataset.report)
    with pytest.raises(DataError, match="entry 17"):
        JetDataset.open(write(bad, "again.root"), FULL, bad="refuse")


def test_only_columns_that_are_used_can_make_a_jet_bad(write, arrays) -> None:
    dataset = JetDataset.open(
        write(with_value(arrays, "part_d0val", 17, np.nan)), Inputs(features=("log_pt",))
    )
    assert len(dataset) == 60


def test_jets_without_constituents_are_kept_and_counted(write, arrays) -> None:
    lists = [n for n in arrays if n.startswith("part_")]
    empty = {**arrays, **{n: ak.Array([[], *arrays[n][1:].to_list()]) for n in lists}}
    empty = {
        n: ak.values_astype(v, arrays[n].layout.content.dtype) if n in lists else v for n, v in empty.items()
    }
    dataset = JetDataset.open(write(empty), FULL)
    assert dataset.counts[0] == 0
    assert dataset.report.without_constituents == 1
    assert "1 jets without constituents (kept)" in str(dataset.report)


def test_a_file_of_bad_jets_only_leaves_nothing_and_says_why(write, arrays) -> None:
    nothing = {**arrays, "part_energy": -arrays["part_energy"]}
    with pytest.raises(DataError, match=r"no jets left: 0 of 60.*negative energy: 60"):
        JetDataset.open(write(nothing), FULL)


@pytest.mark.parametrize(("value", "words"), [(0.0, "no class"), (1.0, "several classes")])
def test_labels_that_do_not_sum_to_one_are_refused_with_the_entry(write, arrays, value, words) -> None:
    labels = {n: arrays[n].copy() for n in ("label_QCD", "label_Tbqq")}
    for column in labels.values():
        column[11] = value
    path = write({**arrays, **labels})
    with pytest.raises(DataError, match=rf"a jet of {words}.*entry 11") as error:
        JetDataset.open(path, FULL)
    one_line(error)
    assert len(JetDataset.open(path, FULL, labels=False)) == 60  # jets to be scored need no label


def test_an_unknown_class_names_the_nearest(write, arrays) -> None:
    with pytest.raises(LayoutError, match=r"class 'Tbq' not found.*did you mean 'Tbqq'"):
        JetDataset.open(write(arrays), FULL, classes=["QCD", "Tbq"])


def test_columns_of_one_jet_that_differ_in_length_are_refused(write, arrays) -> None:
    lists = arrays["part_px"].to_list()
    lists[5] = lists[5][:-1]
    with pytest.raises(DataError, match=r"have \d+ and \d+ constituents.*entry 5"):
        read_jets(write({**arrays, "part_px": ak.values_astype(ak.Array(lists), np.float32)}))


def test_a_scan_reports_every_problem_and_raises_none(write, arrays, tmp_path) -> None:
    (tmp_path / "not.root").write_bytes(b"no")
    found = scan([write(arrays), tmp_path / "not.root"])
    assert found.entries == 60
    assert len(found.problems) == 1
    with pytest.raises(FileError, match="not a ROOT file"):
        found.raise_first()


def test_prediction_input_that_needs_event_weights_says_so(write, arrays) -> None:
    with pytest.raises(LayoutError, match="no event weights"):
        JetDataset.open(write(arrays), FULL, weights=True)
    with pytest.raises(LayoutError, match=r"branch 'jet_ptt' not found.*did you mean 'jet_pt'"):
        JetDataset.open(write(arrays, "again.root"), FULL, weights="jet_ptt")
