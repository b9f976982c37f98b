"""Samples with cross-sections, reweighted spectra, splits by event, leaks, and a cache that every process
finds again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from event_files import nano_events, write_tree
from toys import toy_arrays

import hepml
from hepml.cli.main import main
from hepml.data.dataset import JetDataset
from hepml.data.reading.inspection import inspect, inspect_together
from hepml.data.sampling.reweighting import Reweighting
from hepml.data.sampling.samples import files_of, parse_samples
from hepml.data.sampling.splitting import parts_by_share
from hepml.errors import ConfigError, LayoutError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("qcd_a", "qcd_b", "ttbar")):
        write_tree(tmp_path / f"{name}.root", "Events", nano_events(30 + 10 * i, seed=i))
    return tmp_path


def test_a_sample_weighs_as_its_cross_section(folder: Path) -> None:
    samples = parse_samples(
        {
            f"{folder}/qcd_*.root": {"class": "QCD", "cross_section": 1.2},
            "ttbar": {"files": f"{folder}/ttbar.root", "cross_section": 831.76, "label": "top"},
        }
    )
    jets = JetDataset.open(files_of(samples), jets="Jet", samples=samples)
    assert jets.classes == ("QCD", "top")
    assert jets.weights is not None
    assert jets.labels is not None
    for label, cross_section, seeds in ((0, 1.2, (0, 1)), (1, 831.76, (2,))):
        events = [nano_events(30 + 10 * i, seed=i) for i in seeds]
        total = sum(float(e["genWeight"].astype(np.float64).sum()) for e in events)
        own = np.concatenate([np.repeat(e["genWeight"], e["nJet"]) for e in events])
        found = jets.weights.numpy()[jets.labels.numpy() == label]
        np.testing.assert_allclose(found, own * cross_section / total, rtol=1e-5)


def test_a_sample_is_weighted_by_a_column_of_the_layout(tmp_path: Path) -> None:
    """An element of a list an event, a branch with a unit, a constant; and the same in files of jets."""
    events = nano_events(40)
    scale = np.random.default_rng(2).uniform(0.5, 1.5, (40, 3)).astype(np.float32)
    write_tree(tmp_path / "a.root", "Events", events | {"LHEScale": ak.Array(scale.tolist())})
    jets_of = np.repeat(np.arange(40), events["nJet"])
    flat = toy_arrays(40) | {"half_weight": scale[:, 2]}
    write_tree(tmp_path / "flat.root", "tree", flat)
    momentum = {n: f"part_{n}" for n in ("px", "py", "pz", "energy")}
    for column, of_event in (
        ({"branch": "LHEScale", "element": 2}, scale[:, 2]),
        ({"branch": "genWeight", "scale": 2.0}, 2 * events["genWeight"]),
        ({"constant": 3.0}, np.full(40, 3.0)),
    ):
        about = {"class": "top", "cross_section": 5.0, "weight": "mine"}
        samples = parse_samples({f"{tmp_path}/a.root": about})
        layout = {"jets": {"collection": "Jet"}, "columns": {"mine": column}}
        jets = JetDataset.open(files_of(samples), layout=layout, samples=samples)
        expected = of_event[jets_of] * 5.0 / of_event.astype(np.float64).sum()
        assert jets.weights is not None
        np.testing.assert_allclose(jets.weights.numpy(), expected, rtol=1e-5)
    samples = parse_samples({f"{tmp_path}/flat.root": about})
    own: dict[str, Any] = {
        "constituents": momentum,
        "columns": {"mine": {"branch": "half_weight", "scale": 0.5}},
    }
    jets = JetDataset.open(files_of(samples), layout=own, samples=samples)
    assert jets.weights is not None
    np.testing.assert_allclose(
        jets.weights.numpy(), scale[:, 2] * 5.0 / scale[:, 2].astype(np.float64).sum(), rtol=1e-5
    )


@pytest.mark.parametrize(
    "samples",
    [
        {"a.root": {"clas": "QCD"}},
        {"a.root": {"class": "QCD", "cross_section": -1}},
        {"a.root": {"class": "QCD"}, "b.root": {}},
        {"a.root": {"class": "QCD", "cross_section": 1}, "b.root": {"class": "top"}},
    ],
)
def test_wrong_samples_are_refused(samples: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ConfigError):
        parse_samples(samples)


@pytest.mark.parametrize(
    ("weight", "words"),
    [("nope", "branch 'nope' not found"), ("PFCand_pt", "'PFCand_pt' is a list of numbers")],
)
def test_a_weight_that_samples_lack_is_named(folder: Path, weight: str, words: str) -> None:
    about = {"class": "QCD", "cross_section": 1.2, "weight": weight}
    samples = parse_samples({f"{folder}/ttbar.root": about})
    with pytest.raises(LayoutError, match=words):
        JetDataset.open(files_of(samples), jets="Jet", samples=samples)


@pytest.mark.parametrize("to", ["flat", "b"])
def test_reweighted_classes_have_one_spectrum(to: str) -> None:
    rng = np.random.default_rng(0)
    pt = np.concatenate([rng.exponential(100, 4000) + 200, rng.uniform(200, 1000, 3000)])
    labels = np.repeat([0, 1], [4000, 3000])
    edges = [200, 300, 500, 700]
    rule = Reweighting.parse({"columns": {"jet_pt": edges}, "to": to})
    weights = rule.factors({"jet_pt": pt}, labels, ["a", "b"])
    spectra = [np.histogram(pt[labels == c], edges, weights=weights[labels == c])[0] for c in (0, 1)]
    shapes = [s / s.sum() for s in spectra]
    np.testing.assert_allclose(shapes[0], shapes[1], rtol=1e-9)
    if to == "flat":
        np.testing.assert_allclose(shapes[0], 1 / 3)
    inside = (pt >= 200) & (pt < 700)
    assert (weights[~inside] == 0).all()
    assert weights[inside & (labels == 0)].sum() == pytest.approx((inside & (labels == 0)).sum())


def test_bins_that_a_class_leaves_empty_are_named() -> None:
    pt, labels = np.array([250.0, 350, 250, 650, 900]), np.array([0, 0, 1, 1, 1])
    rule = Reweighting.parse({"columns": {"jet_pt": [200, 300, 500, 700]}})
    said = rule.lacking({"jet_pt": pt}, labels, ["a", "b", "c"])
    assert (
        said
        == "a none in 1 of 3 bins, as in jet_pt 500 to 700; b none in 1 of 3 bins, as in jet_pt 300 to 500"
    )
    assert rule.lacking({"jet_pt": pt}, labels, ["a", "b"], np.array([0, 2])) == ""


def test_no_event_is_in_two_parts() -> None:
    events = np.repeat(np.arange(200), np.random.default_rng(1).integers(0, 5, 200))
    parts = parts_by_share(len(events), {"val": 0.1, "test": 0.2}, 0, events)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(events)))
    sets = [set(events[p]) for p in parts.values()]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    assert len(parts["val"]) == pytest.approx(0.1 * len(events), abs=4)


def test_every_process_finds_the_cache_again(tmp_path: Path) -> None:
    file = write_tree(tmp_path / "j.root", "tree", toy_arrays(60, seed=3))
    code = (
        "import sys; from hepml.data.dataset import JetDataset; from hepml.data.inputs import Inputs;"
        f"JetDataset.open({str(file)!r}, Inputs(features=('log_pt',)), cache={str(tmp_path / 'cache')!r})"
    )
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert len([p for p in (tmp_path / "cache").iterdir() if p.is_dir()]) == 1


def test_a_column_that_tells_the_class_is_listed(tmp_path: Path) -> None:
    branches = toy_arrays(200, seed=3)
    label = (
        branches["label_QCD"]
        if "label_QCD" in branches
        else next(v for n, v in branches.items() if n.startswith("label_"))
    )
    branches["aux_truth"] = np.asarray(label, dtype=np.float32) + 0.1
    branches["aux_noise"] = np.random.default_rng(0).random(200).astype(np.float32)
    found = inspect(write_tree(tmp_path / "j.root", "tree", branches))
    named = [leak["column"] for leak in found.as_dict()["leaks"]]
    assert "aux_truth" in named
    assert not any(name.startswith("label_") for name in named)
    assert "aux_noise" not in named


def test_packed_jets_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_tree(tmp_path / "j.root", "tree", toy_arrays(60, seed=3))
    packed = tmp_path / "packed"
    assert main(["data", "pack", str(file), "-o", str(packed), "--features", "log_pt,delta_r"]) == 0
    assert main(["data", "verify", str(packed)]) == 0
    assert "whole" in capsys.readouterr().out
    column = next(packed.rglob("four_momenta.bin"))
    column.write_bytes(column.read_bytes()[:-4] + b"abcd")
    assert main(["data", "verify", str(packed)]) == 2
    assert "four_momenta.bin has changed" in capsys.readouterr().out


def test_inspect_shows_the_spectra_before_and_after_the_reweighting_of_a_config(write, tmp_path) -> None:
    from hepml.data.reading.inspection import inspect

    jets = write(toy_arrays(300, seed=5))
    config = tmp_path / "run.yaml"
    config.write_text(
        "data: {layout: jetclass, reweight: {columns: {jet_pt: [540, 580, 600, 620, 660]}, to: flat}}\n"
    )
    columns = inspect(str(jets), str(config)).columns
    before, after = columns["jet_pt"], columns["jet_pt, reweighted"]
    assert np.array_equal(before.edges, after.edges)
    for name, drawn in before.histograms.items():
        assert after.histograms[name].sum() == pytest.approx(drawn.sum(), rel=1e-5)  # a class keeps its sum
        assert not np.array_equal(after.histograms[name], drawn)


def test_inspect_takes_a_run_config_that_has_no_layout(write, tmp_path) -> None:
    """Its samples, model and jet collection are none of a layout's keys."""
    jets, config = write(toy_arrays(300, seed=5)), tmp_path / "run.yaml"
    reweight = "reweight: {columns: {jet_pt: [540, 580, 600, 620, 660]}, to: flat}"
    samples = "samples: {a: {files: x.root, label: top}}"
    config.write_text(f"model: {{name: pfn}}\ndata: {{{samples}, {reweight}}}")
    assert "jet_pt, reweighted" in inspect(str(jets), str(config)).columns
    assert "jet_pt, reweighted" in inspect_together([str(jets), str(jets)], str(config)).columns
    nano = write_tree(tmp_path / "nano.root", "Events", nano_events(20))
    config.write_text("model: {name: pfn}\ndata: {train: x.root, jets: Jet}")
    assert inspect(str(nano), str(config)).jets == inspect(str(nano), jets="Jet").jets


def test_inspect_shows_the_reweighting_of_samples_to_one_of_their_classes(tmp_path) -> None:
    """With cross-sections, of files named in another way; one sample alone says what is missing."""
    arrays = toy_arrays(400, seed=5)
    low = np.asarray(arrays["jet_pt"]) < np.median(arrays["jet_pt"])
    for name, taken in (("qcd", low | (np.arange(400) % 3 == 0)), ("top", np.ones(400, dtype=bool))):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            file["tree"] = {n: c[taken] for n, c in arrays.items() if not n.startswith("label_")}
    config = tmp_path / "run.yaml"
    samples = ", ".join(
        f"{n}: {{files: {tmp_path}/{n}*.root, class: {n}, cross_section: {xs}}}"
        for n, xs in (("qcd", 50), ("top", 2))
    )
    edges = "{jet_pt: [500, 570, 600, 630, 700]}"
    config.write_text(f"data: {{samples: {{{samples}}}, reweight: {{columns: {edges}, to: qcd}}}}\n")
    files = [os.path.relpath(tmp_path / f"{n}.root") for n in ("top", "qcd")]
    found = inspect_together(files, str(config))
    assert found.classes == {"qcd": int((low | (np.arange(400) % 3 == 0)).sum()), "top": 400}
    before, after = found.columns["jet_pt"], found.columns["jet_pt, reweighted"]
    centres = (after.edges[1:] + after.edges[:-1]) / 2
    for n, xs in (("qcd", 50), ("top", 2)):
        assert after.histograms[n].sum() == pytest.approx(xs, rel=1e-5)
    means = {n: np.average(centres, weights=h) for n, h in after.histograms.items()}
    assert means["qcd"] == pytest.approx(np.average(centres, weights=before.histograms["qcd"]), rel=1e-6)
    assert abs(means["top"] - means["qcd"]) < 3
    assert np.average(centres, weights=before.histograms["top"]) > means["qcd"] + 10
    assert not found.problems
    alone = inspect(files[0], str(config))
    assert any("no jets of class 'qcd' to reweight to" in p for p in alone.problems)
    shutil.copy(tmp_path / "top.root", tmp_path / "other.root")
    assert any(
        "in none of data.samples" in p
        for p in inspect_together([*files, str(tmp_path / "other.root")], str(config)).problems
    )


def test_jets_that_coffea_made_bring_their_own_momenta() -> None:
    def jets(name: str | None) -> ak.Array:
        parts = {n: ak.Array([[20.0, 5.0], [7.0]]) for n in ("pt",)} | {
            n: ak.Array([[0.1, -0.2], [0.3]]) for n in ("eta", "phi", "mass")
        }
        cands = ak.zip(parts, with_name="PFCand")
        own = {"pt": [30.0, 9.0], "eta": [0.0, 0.2], "phi": [0.0, 0.1], "mass": [3.0, 1.0]}
        return ak.zip({**own, "constituents": cands}, depth_limit=1, with_name=name)

    batch = hepml.JetBatch.from_awkward(jets("FatJet"))
    assert batch.select_jets(["jet_pt"])[:, 0].tolist() == pytest.approx([30.0, 9.0], rel=1e-5)
    plain = hepml.JetBatch.from_awkward(jets(None))  # columns of a file that happen to be called so
    assert plain.select_jets(["jet_pt"])[0, 0].item() < 26
