"""Jets whose constituents do not add up to them are counted, kept and told; what may rightly differ is
not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from toys import toy_arrays

import hepml
from hepml.data.reading.reader import iterate_chunks
from hepml.data.reading.report import DataReport

COLUMNS = ("px", "py", "pz", "energy")


def _report(path: Path, arrays: dict[str, Any]) -> DataReport:
    with uproot.recreate(path) as file:
        types = {
            n: f"var * {v.layout.content.dtype}" if isinstance(v, ak.Array) else v.dtype
            for n, v in arrays.items()
        }
        file.mktree("tree", types, counter_name=lambda counted: "npart").extend(arrays)
    report = DataReport()
    kept = sum(len(chunk) for chunk in iterate_chunks(path, report=report, bad="drop"))
    assert kept == report.read, "no jet is dropped for its sum"
    return report


def _changed(arrays: dict[str, Any], name: str, change: Any) -> dict[str, Any]:
    flat = np.asarray(ak.flatten(arrays[name])).copy()
    change(flat)
    return arrays | {name: ak.unflatten(flat, ak.num(arrays[name]))}


def _exponent(bit: int) -> Any:
    def flip(flat: np.ndarray) -> None:
        flat.view(np.uint32)[7] ^= np.uint32(1 << bit)

    return flip


def test_a_flipped_exponent_in_one_constituent_is_told(tmp_path: Path) -> None:
    arrays = toy_arrays(200, seed=5)
    assert not _report(tmp_path / "good.root", arrays).doubts()
    report = _report(tmp_path / "bad.root", _changed(arrays, "part_energy", _exponent(27)))
    (found,) = [b for what, b in report.unlike.items() if what == "energy"]
    assert found.jets == 1
    assert found.where.endswith("entry 0")
    assert "energy of the constituents' sum" in str(report)


def test_a_small_change_is_told_where_sums_are_exact(tmp_path: Path) -> None:
    def change(flat: np.ndarray) -> None:
        flat[np.argmax(np.abs(flat))] *= 1.1

    report = _report(tmp_path / "bad.root", _changed(toy_arrays(200, seed=5), "part_energy", change))
    assert [b.jets for b in report.unlike.values()] == [1]


def test_what_calibration_truncation_grooming_and_tracks_change_is_not_told(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    arrays = toy_arrays(400, seed=6)
    names = [n for n, v in arrays.items() if isinstance(v, ak.Array)]
    calibrated = arrays | {n: arrays[n] * draw.normal(1.1, 0.15, 400).clip(0.7).astype(np.float32)
                           for n in ("jet_pt",)}  # fmt: skip
    calibrated["jet_energy"] = arrays["jet_energy"] * calibrated["jet_pt"] / arrays["jet_pt"]
    cut = arrays | {n: arrays[n][:, :6] for n in names}
    charged = arrays["part_charge"] != 0
    tracks = arrays | {n: arrays[n][charged] for n in names}
    for name, made in {"calibrated": calibrated, "cut": cut, "tracks": tracks}.items():
        assert not _report(tmp_path / f"{name}.root", made).doubts(), name


def test_constituents_in_another_unit_than_their_jets_are_told(tmp_path: Path) -> None:
    arrays = toy_arrays(60, seed=7)
    other = arrays | {f"part_{n}": arrays[f"part_{n}"] * np.float32(1000) for n in COLUMNS}
    (line,) = _report(tmp_path / "mev.root", other).doubts()
    assert "times the jets' own: are both in one unit" in line
    model = hepml.models.create("pfn")
    with pytest.warns(UserWarning, match="unit"):
        hepml.predict(model, tmp_path / "mev.root")
