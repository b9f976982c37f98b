"""A page of an RNTuple whose checksum does not fit is an error, and never another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from ntuples import write_checked_ntuple
from toys import toy_arrays

import hepml
from hepml.data.reading.checksums import check_when_read
from hepml.errors import FileError


def _pages(path: Path) -> list[Any]:
    with uproot.open(path) as file:
        clusters = file["tree"].page_link_list
        return [page for columns in clusters for column in columns for page in column.pages]


def _few_columns() -> dict[str, Any]:
    names = ("part_px", "part_py", "part_pz", "part_energy", "label_QCD", "label_Tbqq")
    return {n: v for n, v in toy_arrays(8, seed=1).items() if n in names}


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("compression", [None, uproot.ZSTD(5)], ids=["raw", "zstd"])
def test_a_flipped_bit_in_any_page_is_refused(tmp_path: Path, compression: Any) -> None:
    path = tmp_path / "jets.root"
    write_checked_ntuple(path, _few_columns(), compression=compression)
    whole, pages = path.read_bytes(), _pages(path)
    assert len(hepml.read_jets(path)) == 8
    assert len(pages) > 5
    assert all(page.has_checksum for page in pages)
    for page in pages:
        for at in (
            page.locator.offset + page.locator.num_bytes // 2,
            page.locator.offset + page.locator.num_bytes,
        ):
            path.write_bytes(whole)
            _flip(path, at)
            with pytest.raises(FileError) as refused:
                len(hepml.read_jets(path))
            assert "\n" not in str(refused.value)
            assert str(path) in str(refused.value)


def test_a_page_without_a_checksum_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    arrays = toy_arrays(40, seed=1)
    with uproot.recreate(path, compression=None) as file:
        file.mkrntuple("tree", arrays)
    page = next(p for p in _pages(path) if not p.has_checksum)
    _flip(path, page.locator.offset)
    with uproot.open(path) as file:
        check_when_read(file["tree"]).arrays()


def test_a_page_list_that_does_not_fit_its_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    write_checked_ntuple(path, toy_arrays(40, seed=1))
    with uproot.open(path) as file:
        place = file["tree"].footer.cluster_group_records[0].page_list_link.locator
    _flip(path, place.offset + place.num_bytes - 9)  # the last byte before the checksum
    with pytest.raises(FileError, match="checksum"):
        len(hepml.read_jets(path))


def test_checked_trees_give_what_uproot_gives(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    write_checked_ntuple(path, toy_arrays(40, seed=1), times=3)
    with uproot.open(path) as file, uproot.open(path) as other:
        checked, plain = check_when_read(file["tree"]).arrays(), other["tree"].arrays()
    assert checked.fields == plain.fields
    assert all(
        np.array_equal(checked[n].tolist(), plain[n].tolist())
        if checked[n].ndim == 1
        else checked[n].tolist() == plain[n].tolist()
        for n in plain.fields
    )
