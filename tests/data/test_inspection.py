"""`hepml inspect`: what it finds in files that it knows, does not know, and cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hepml.cli.inspect import bars
from hepml.cli.main import main
from hepml.data.reading.inspection import inspect
from hepml.errors import DataError, FileError
from hepml.evaluation.plots.inspection import plot_inspection


def test_a_known_file_is_described(write, arrays) -> None:
    path = write(arrays)
    found = inspect(path)
    assert found.layout == "jetclass"
    assert found.jets == 60
    assert found.classes == {"QCD": 30, "Tbqq": 30}
    assert found.trees["tree"].branches["part_px"] == "float[]"
    pt = found.columns["jet_pt"]
    assert (pt.lowest, pt.highest) == (arrays["jet_pt"].min(), arrays["jet_pt"].max())
    assert pt.total.sum() == 60
    assert found.problems == ()


def test_the_json_document_has_the_promised_keys(write, arrays, capsys) -> None:
    path = write(arrays)
    assert main(["inspect", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"file", "layout", "trees", "jets", "classes", "ranges", "problems"} <= document.keys()
    assert document["classes"] == {"QCD": 30, "Tbqq": 30}


def test_the_command_prints_and_draws(write, arrays, capsys, tmp_path) -> None:
    assert main(["inspect", str(write(arrays)), "--plot", str(tmp_path / "p.png")]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("part_px", "jetclass", "Tbqq", "jet_pt", "▁"))
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_problems_are_told_not_raised(write, arrays) -> None:
    arrays["label_QCD"][:] = 1
    found = inspect(write(arrays))
    assert any("do not sum to 1" in p for p in found.problems)
    arrays["jet_pt"][3] = np.nan
    assert any("NaN or infinite jet momentum: 1" in p for p in inspect(write(arrays, "b.root")).problems)
    assert inspect(write({n: v[:0] for n, v in arrays.items()}, "c.root")).problems == (
        "the tree has no entries",
    )


def test_a_file_that_cannot_be_read_is_an_error_of_the_user(tmp_path, capsys) -> None:
    (tmp_path / "x.root").write_bytes(b"nonsense")
    assert main(["inspect", str(tmp_path / "x.root")]) == 2
    assert "not a ROOT file" in capsys.readouterr().err
    with pytest.raises(FileError, match="no such file"):
        inspect(tmp_path / "y.root")


@pytest.mark.parametrize(
    ("name", "tree", "hint"),
    [
        ("cms_deepjet_ttbar_7199jets.root", "deepntuplizer/tree", "Cpfcan_"),
    ],
)
def test_unknown_layouts_are_listed_and_the_way_to_map_them_named(shared, name, tree, hint) -> None:
    path = shared / "data" / "root" / name
    found = inspect(path)
    assert found.layout is None
    assert found.jets is None
    assert found.trees[tree].branches
    assert any("data-layouts.md" in p for p in found.problems)
    if hint:
        assert any(hint in h for h in found.hints)
    with pytest.raises(DataError, match="nothing to draw"):
        plot_inspection(found)


def test_integer_columns_have_bins_of_equal_numbers_of_integers(write, arrays) -> None:
    column = inspect(write(arrays)).columns["jet_nparticles"]
    widths = np.diff(column.edges)
    assert np.allclose(widths, widths[0])
    assert column.total.sum() == 60


def test_bars_are_as_high_as_the_counts() -> None:
    assert bars(np.array([0, 1, 4, 8])) == " ▁▄█"
    assert bars(np.zeros(3, dtype=int)) == "   "


def test_of_several_trees_with_many_branches_the_collections_are_shown(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(shared / "data/root/cms_pfnano_10events.root")]) == 0
    shown = capsys.readouterr().out
    for words in ("LuminosityBlocks", "1,802 branches", "collection", "FatJetPFCands", "PFCands"):
        assert words in shown
    assert "FatJet_btagCMVA" not in shown, "1,802 rows help nobody"
    assert main(["inspect", str(shared / "data/root/cms_pfnano_10events.root"), "--all"]) == 0
    assert "FatJet_btagCMVA" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["folder", "list", "glob"])
def test_several_files_are_counted_together(write, arrays, capsys, form: str) -> None:
    first = write(arrays, "a.root")
    second = write({n: v[:20] for n, v in arrays.items()}, "b.root")
    given = {"folder": [first.parent], "list": [first, second], "glob": [first.parent / "*.root"]}[form]
    assert main(["inspect", *map(str, given), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [line["entries"] for line in found["files"]] == [60, 20]
    assert found["jets"] == sum(found["classes"].values()) == 80
    assert found["layout"] == "jetclass"
    assert found["ranges"]["jet_pt"]["max"] == pytest.approx(arrays["jet_pt"].max())
    assert main(["inspect", *map(str, given), "-q"]) == 0
    assert "80 jets" in capsys.readouterr().out


def test_a_file_among_several_that_cannot_be_read_is_named(write, arrays, capsys) -> None:
    path = write(arrays, "a.root")
    (path.parent / "b.root").write_bytes(b"nonsense")
    assert main(["inspect", str(path.parent), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jets"] == 60
    assert any("b.root" in problem for problem in found["problems"])


def test_a_picture_goes_into_a_folder_that_is_there(write, arrays, capsys, tmp_path) -> None:
    place = tmp_path / "new" / "folder"
    assert main(["inspect", str(write(arrays)), "--plot", str(place / "x.png")]) == 2
    assert "mkdir -p" in capsys.readouterr().err
    assert not place.parent.exists()
