"""A data YAML of weaver becomes a layout that gives weaver's own numbers: inputs, labels, selection,
weights; what it cannot say is named with its line, and nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import yaml
from toys import toy_arrays

import hepml
from hepml.cli.main import main as command_line
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.layouts.weaver_yaml import translate
from hepml.data.reading.expressions import Expression
from hepml.data.reading.layouts import Layout
from hepml.data.sampling.group_weights import GroupWeights
from hepml.errors import ConfigError, LayoutError

# The form of the YAMLs of particle_transformer and sophon, with everything in it that theirs have.
FULL = """
treename: tree
selection:
   (jet_pt > 560) & (np.abs(jet_eta) < 1.9)
test_time_selection: jet_pt > 550
new_variables:
   part_mask: ak.ones_like(part_energy)
   part_px_scale: part_px / jet_pt * 500
   part_py_scale: part_py / jet_pt * 500
   part_pz_scale: part_pz / jet_pt * 500
   part_energy_scale: part_energy / jet_pt * 500
   part_pt: np.hypot(part_px, part_py)
   part_pt_log: np.log(part_pt)
   part_logptrel: np.log(part_pt/jet_pt)
   part_deltaR: np.hypot(part_deta, part_dphi)
   part_isCHad: (np.abs(part_charge)==1)*0.5 + (part_isChargedHadron)*0.2
   part_d0: np.tanh(part_d0val)
   jet_isTop: label_Tbqq
   jet_isQCD: 1-label_Tbqq
preprocess: {method: manual, data_fraction: 0.5}
inputs:
   pf_points: {length: 128, pad_mode: wrap, vars: [[part_deta, null], [part_dphi, null]]}
   pf_features:
      length: 128
      pad_mode: wrap
      vars:
         - [part_pt_log, 1.7, 0.7]
         - [part_logptrel, -4.7, 0.7]
         - [part_deltaR, 0.2, 4.0]
         - [part_isCHad, null]
         - [part_d0, null]
         - [part_d0err, 0, 1, 0, 1]
         - [part_deta, null]
   pf_vectors:
      length: 128
      pad_mode: wrap
      vars: [[part_px_scale, null], [part_py_scale, null], [part_pz_scale, null], [part_energy_scale, null]]
   pf_mask: {length: 128, pad_mode: constant, vars: [[part_mask, null]]}
labels: {type: simple, value: [jet_isTop, jet_isQCD]}
observers: [jet_pt, jet_sdmass]
weights:
   use_precomputed_weights: false
   reweight_method: METHOD
   reweight_vars: {jet_pt: [560, 590, 620, 650], jet_eta: [-2, 0, 1.5, 2]}
   reweight_classes: [jet_isTop, jet_isQCD]
   class_weights: [0.4, 1]
   reweight_threshold: 15
"""


def written(tmp_path: Path, text: str, name: str = "weaver.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def features_of(jets: Path, layout: dict[str, Any]) -> JetDataset:
    parsed = Layout.parse(layout)
    return JetDataset.open(jets, Inputs(features=parsed.features), layout=layout, jet_columns="all")


@pytest.mark.parametrize("method", ["flat", "ref"])
def test_inputs_labels_selection_and_weights_are_those_of_weaver(
    write: Any, tmp_path: Path, method: str
) -> None:
    weaver = pytest.importorskip("weaver.utils.data.preprocess", reason="weaver-core is not installed")
    from weaver.utils.data.config import DataConfig

    arrays = toy_arrays(400, seed=2)
    jets, source = write(arrays), written(tmp_path, FULL.replace("METHOD", method))
    config = DataConfig.load(str(source))
    table = ak.Array(arrays)
    table = weaver._apply_selection(table, config.selection, funcs=config.var_funcs)
    table = weaver._build_new_variables(table, config.var_funcs)

    layout = translate(source).layout
    dataset = features_of(jets, layout)
    keep = np.nonzero(dataset.jet_columns["weaver_selection"])[0]
    assert 50 < len(keep) == len(table) < 400
    found = dataset.batch(keep)
    for name, ours in zip(config.input_dicts["pf_features"], found.features.T.numpy(), strict=True):
        p = config.preprocess_params[name]
        theirs = ak.to_numpy(ak.flatten(table[name])).astype(np.float32)
        if p["center"] is not None:
            theirs = np.clip((theirs - p["center"]) * p["scale"], p["min"], p["max"])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=name)
    for i, name in enumerate(("part_energy_scale", "part_px_scale", "part_py_scale", "part_pz_scale")):
        theirs = ak.to_numpy(ak.flatten(table[name]))
        np.testing.assert_allclose(found.four_momenta[:, i].numpy(), theirs, rtol=1e-6, err_msg=name)
    assert dataset.classes == ("jet_isTop", "jet_isQCD")
    np.testing.assert_array_equal(found.labels.numpy(), ak.to_numpy(table["_label_"]))

    maker = weaver.WeightMaker([], config)
    hists = maker.make_weights(table)
    weights = GroupWeights.parse(layout["reweight"])
    columns = {name: dataset.jet_columns[name][keep] for name in weights.columns}
    ours = weights.measured(columns)
    for name, histogram in hists.items():
        np.testing.assert_allclose(ours[name], histogram, rtol=1e-6, err_msg=name)
    theirs = weaver._build_weights(table, config, reweight_hists=hists)
    np.testing.assert_allclose(weights.weights(columns, ours), theirs, rtol=1e-6)


def test_auto_standardisation_measures_what_weaver_measures(write: Any, tmp_path: Path) -> None:
    weaver = pytest.importorskip("weaver.utils.data.preprocess", reason="weaver-core is not installed")
    from weaver.utils.data.config import DataConfig

    from hepml.data import standardising

    text = FULL.replace("METHOD", "flat").replace("method: manual", "method: auto")
    text = text.replace("[part_pt_log, 1.7, 0.7]", "part_pt_log").replace("[part_d0, null]", "part_d0")
    arrays = toy_arrays(120, seed=4)
    jets, source = write(arrays), written(tmp_path, text)
    config = DataConfig.load(str(source))
    table = weaver._build_new_variables(ak.Array(arrays), config.var_funcs)
    theirs = weaver.AutoStandardizer([], config).make_preprocess_params(table)
    layout = translate(source).layout
    parsed = Layout.parse(layout)
    names = standardising.wanted(Inputs(features=parsed.features), layout)
    assert names == {"": ("part_pt_log", "part_d0")}  # the others are given in numbers, or taken as they are
    ours = standardising.measure(features_of(jets, layout), names)[""]
    for name, found in ours.items():
        assert found.shift == pytest.approx(theirs[name]["center"], rel=1e-5)
        assert found.scale == pytest.approx(theirs[name]["scale"], rel=1e-5)


def test_a_training_takes_the_layout_as_a_file(write: Any, tmp_path: Path) -> None:
    jets = write(toy_arrays(300, seed=6))
    layout = tmp_path / "layout.yaml"
    source = written(tmp_path, FULL.replace("METHOD", "flat"))
    assert command_line(["data", "layout-from", str(source), "-o", str(layout), "--check", str(jets)]) == 0
    run = hepml.train(
        {
            "data": {"train": str(jets), "val": 0.2, "test": 0.2, "layout": str(layout)},
            "model": {"name": "pfn", "phi": [8], "f": [8]},
            "training": {"epochs": 1, "batch_size": 64, "device": "cpu", "threads": 1},
            "tracking": {"enabled": False},
        },
        output=tmp_path / "run",
    )
    assert run.summary["classes"] == ["jet_isTop", "jet_isQCD"]
    assert run.summary["standards"] == {}
    selected = (arrays := toy_arrays(300, seed=6))["jet_pt"] > 560
    selected &= np.abs(arrays["jet_eta"]) < 1.9
    assert sum(run.summary["jets"].values()) == selected.sum()
    model = hepml.load_model(run.path)
    assert model.inputs.features[:2] == ("part_pt_log", "part_logptrel")
    layout.unlink()  # the checkpoint carries the layout itself
    assert hepml.predict(model, str(jets)).shape == (300, 2)


def test_precomputed_weights_and_custom_labels(write: Any, tmp_path: Path) -> None:
    arrays = toy_arrays(40, seed=1)
    arrays["w1"], arrays["w2"] = np.full(40, 2.0), np.linspace(1, 2, 40)
    content = yaml.safe_load(FULL.replace("METHOD", "flat"))
    del content["selection"], content["test_time_selection"]
    content["weights"] = {"use_precomputed_weights": True, "weight_branches": ["w1", "w2"]}
    content["labels"] = {"type": "custom", "value": {"truth": "label_Tbqq + 0"}}
    made = translate(written(tmp_path, yaml.safe_dump(content)), classes=["qcd", "top"])
    dataset = features_of(write(arrays), made.layout)
    np.testing.assert_allclose(dataset.weights.numpy(), arrays["w1"] * arrays["w2"], rtol=1e-6)
    assert dataset.classes == ("qcd", "top")
    np.testing.assert_array_equal(dataset.labels.numpy(), arrays["label_Tbqq"])
    made = translate(written(tmp_path, yaml.safe_dump(content)))
    assert any("--classes" in told for _, told in made.untranslated)


def test_what_cannot_be_translated_is_named_with_its_line(tmp_path: Path, capsys: Any) -> None:
    text = FULL.replace("METHOD", "flat") + "bucketing: {var: jet_pt, bins: [1]}\nunheard: 3\n"
    made_by_weaver = "_p4_from_pxpypze(part_px, part_py, part_pz, part_energy).mass"
    text = text.replace("np.tanh(part_d0val)", made_by_weaver)
    source = written(tmp_path, text)
    made = translate(source)
    lines = text.splitlines()
    told = {sentence: lines[line - 1] for line, sentence in made.untranslated if line}
    assert any("unheard" in s and "unheard" in where for s, where in told.items())
    assert any(s.startswith("part_d0:") and "_p4_from" in where for s, where in told.items())
    assert any("input part_d0" in s and "[part_d0" in where for s, where in told.items())
    assert any(s.startswith("bucketing") for s in told)
    assert "part_d0" not in made.layout["features"]
    assert command_line(["data", "layout-from", str(source), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["untranslated"]) == len(made.untranslated)
    assert Layout.parse(document["layout"]).features == tuple(made.layout["features"])


def test_momenta_are_found_where_there_are_no_vectors_and_their_absence_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(FULL.replace("METHOD", "flat"))
    del content["inputs"]["pf_vectors"]
    made = translate(written(tmp_path, yaml.safe_dump(content)))
    assert [made.layout["constituents"][n] for n in ("px", "py", "pz", "energy")] == [
        "part_px", "part_py", "part_pz", "part_energy",
    ]  # fmt: skip
    content["new_variables"] = {}
    content["inputs"]["pf_features"]["vars"] = ["d0"]
    with pytest.raises(LayoutError, match="four-momenta"):
        translate(written(tmp_path, yaml.safe_dump(content)))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "part_px.__class__",
        "[x for x in part_px]",
        "open('/etc/passwd')",
        "np.load('x')",
        "(lambda: 1)()",
        "np.ones_like.__globals__",
        "f'{part_px}'",
        "ak.sum(part_px, axis=0)",
    ],
)
def test_nothing_but_arithmetic_is_an_expression(text: str) -> None:
    with pytest.raises(ConfigError):
        Expression(text)


def test_expressions_give_what_numpy_and_awkward_give(write: Any) -> None:
    arrays = toy_arrays(50, seed=9)
    a = ak.Array(arrays)
    cases = {
        "where": ("np.where(part_charge > 0, part_px, -1)", ak.where(a.part_charge > 0, a.part_px, -1)),
        "total": ("ak.sum(part_px, axis=1) / jet_pt", ak.sum(a.part_px, axis=1) / a.jet_pt),
        "largest": ("ak.max(part_energy, axis=-1)", ak.max(a.part_energy, axis=1)),
        "leading": ("ak.firsts(part_px)", ak.firsts(a.part_px)),
        "second": ("part_px[:, 1] - part_px[:, 0]", a.part_px[:, 1] - a.part_px[:, 0]),
        "number": ("ak.num(part_px) ** 2", ak.num(a.part_px) ** 2),
        "both": ("(jet_pt > 600) & ~(jet_eta < 0)", (a.jet_pt > 600) & ~(a.jet_eta < 0)),
        "angle": ("np.arctan2(part_py, part_px) % np.pi", np.arctan2(a.part_py, a.part_px) % np.pi),
    }
    layout = {
        "constituents": {
            "px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy",
            "where": "where_", "angle": "angle_",
        },
        "define": {f"{name}_": text for name, (text, _) in cases.items()},
        "label_prefix": "label_",
    }  # fmt: skip
    jets = hepml.read_jets(write(arrays), layout)
    for name, (_, expected) in cases.items():
        ours = jets.constituents[name] if name in ("where", "angle") else jets[f"{name}_"]
        assert ak.all(ak.isclose(ours, expected, rtol=1e-5, atol=1e-5)), name


def test_a_definition_that_names_itself_or_an_absent_branch_is_refused(write: Any) -> None:
    base = {"constituents": {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "e"}}
    with pytest.raises(ConfigError, match="defined by itself"):
        Layout.parse({**base, "define": {"e": "f + 1", "f": "e * 2"}})
    with pytest.raises(LayoutError, match=r"part_enrgy.*part_energy"):
        hepml.read_jets(write(toy_arrays(5)), {**base, "define": {"e": "part_enrgy * 1"}})


def test_lengths_that_differ_and_those_of_further_lists_are_named(tmp_path: Path) -> None:
    text = FULL.replace("METHOD", "flat").replace("pf_points: {length: 128", "pf_points: {length: 16")
    further = "   sv_features: {length: 10, vars: [[sv_deta, null]]}\n   sv_vectors: {length: 10, vars: ["
    further += "[sv_px, null], [sv_py, null], [sv_pz, null], [sv_energy, null]]}\n"
    mask = "   pf_mask: {length: 128, pad_mode: constant, vars: [[part_mask, null]]}\n"
    assert mask in text
    made = translate(written(tmp_path, text.replace(mask, mask + further)))
    assert made.layout["max_constituents"] == 128
    assert set(made.layout["collections"]) == {"sv"}
    told = [sentence for _, sentence in (*made.untranslated, *made.notes)]
    assert any(s.startswith("pf_points: length 16: one jet has one list") for s in told), told
    assert "sv: length 10: all are kept (weaver takes the first 10)" in told, told
