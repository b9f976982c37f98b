"""Files as users have them, which one once read wrongly in silence or refused for nothing: each is read as
uproot reads it, or refused in one line."""

from __future__ import annotations

from typing import Any

import awkward as ak
import pytest
import uproot

from hepml.data.reading.inspection import inspect
from hepml.data.reading.reader import read_jets
from hepml.errors import LayoutError


def cut(arrays: dict[str, Any], part: slice) -> dict[str, Any]:
    return {name: values[part] for name, values in arrays.items()}


def kinds(arrays: dict[str, Any]) -> dict[str, Any]:
    return {n: ak.type(v).content if isinstance(v, ak.Array) else v.dtype for n, v in arrays.items()}


@pytest.mark.parametrize("sizes", [(60, 0, 60), (0, 60), (60, 0), (0, 0, 30, 0, 0, 30, 0)])
@pytest.mark.parametrize("compression", [uproot.ZSTD(1), uproot.LZMA(1)])
def test_baskets_without_entries_are_read_over(tmp_path, arrays, sizes, compression) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=compression) as file:
        tree = file.mktree("tree", kinds(arrays))
        for size in sizes:
            tree.extend(cut(arrays, slice(0, size)))
    jets = read_jets(path)
    assert len(jets) == sum(sizes)
    expected = uproot.open(f"{path}:tree").arrays(["part_px", "jet_pt"])
    assert ak.all(jets.constituents.px == expected.part_px)
    assert ak.all(jets.jet_pt == expected.jet_pt)


def test_a_cycle_and_a_path_of_folders_belong_to_the_name_of_a_tree(tmp_path, arrays) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        for name in ("tree", "dir/deep"):
            for size in (10, 50):
                file.mktree(name, kinds(arrays))
                file[name].extend(cut(arrays, slice(0, size)))
    sizes = {
        "tree": 50,
        "tree;2": 50,
        "tree;1": 10,
        "/tree": 50,
        "dir/deep": 50,
        "/dir/deep": 50,
        "/dir/deep;1": 10,
        "dir;1/deep;1": 10,
    }
    assert {name: len(read_jets(f"{path}:{name}")) for name in sizes} == sizes
    with pytest.raises(LayoutError, match=r"tree 'tree' has no cycle 3.*cycles at hand: 1, 2"):
        read_jets(f"{path}:tree;3")


def test_a_tree_that_is_not_there_is_never_replaced_by_another(write, arrays) -> None:
    path = write(arrays)
    for name in ("foo", "tre", "tree/x", "dir/tree"):
        for look in (read_jets, inspect):
            with pytest.raises(LayoutError, match="not found"):
                look(f"{path}:{name}")
    with pytest.raises(LayoutError, match=r"tree 'tre' not found .*did you mean 'tree'"):
        inspect(f"{path}:tre")


@pytest.mark.parametrize(
    "name", ["e[GeV]", "e GeV", "π_e", "e-GeV", "e::GeV", "2e", "e*", "e?", "[e]", "e+1"]
)
@pytest.mark.parametrize("kind", ["TTree", "TTree by uproot", "RNTuple"])
def test_branches_of_odd_names_are_read_as_they_are(write, arrays, name, kind) -> None:
    renamed = {name if n == "part_energy" else n: v for n, v in arrays.items()}
    renamed["extra_e"] = arrays["part_px"]  # what a pattern might match
    layout = {"constituents": {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": name}}
    path = write(renamed, ntuple=kind == "RNTuple", compression=uproot.LZMA(1) if "uproot" in kind else None)
    assert ak.all(read_jets(path, layout).constituents.energy == arrays["part_energy"])
