"""Data YAMLs of weaver that are wrong in themselves, or say what is not understood: refused with their line,
or named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hepml.data.layouts.weaver_yaml import Translation, translate
from hepml.errors import ConfigError

MOMENTA = ["part_px", "part_py", "part_pz", "part_energy"]
BASE: dict[str, Any] = {
    "new_variables": {"part_pt": "np.hypot(part_px, part_py)"},
    "preprocess": {"method": "manual"},
    "inputs": {
        "pf_features": {"length": 64, "vars": [["part_charge", None], ["part_pt", 1.0, 0.5]]},
        "pf_vectors": {"length": 64, "vars": MOMENTA},
    },
    "labels": {"type": "simple", "value": ["label_QCD", "label_Tbqq"]},
    "weights": {
        "reweight_method": "flat",
        "reweight_vars": {"jet_pt": [500, 600]},
        "reweight_classes": ["label_QCD", "label_Tbqq"],
    },
}


def translated(folder: Path, key: str, value: Any) -> Translation:
    content = copy.deepcopy(BASE)
    *path, last = key.split(".")
    section = content
    for part in path:
        section = section[part]
    section[last] = value
    (folder / "w.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return translate(folder / "w.yaml")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("new_variables", ["a"], "new_variables is .*where a mapping belongs .*line 1"),
        ("new_variables", {"a": "b + 1", "b": "a + 1", "part_pt": "a"}, "circle: a -> b -> a"),
        ("selection", ["jet_pt > 1"], "selection is .*where an expression belongs"),
        ("labels", "x", "labels is 'x', where a mapping belongs"),
        ("observers", "jet_pt", "observers is 'jet_pt', where a list belongs"),
        ("weights", "x", "weights is 'x'"),
        ("weights.reweight_vars", ["jet_pt"], "weights.reweight_vars is"),
        ("weights.reweight_vars", {"jet_pt": ["a", "b"]}, "are no numbers"),
        ("weights.class_weights", ["a", "b"], "are no numbers"),
        ("preprocess.params", ["x"], "preprocess.params is"),
        ("preprocess.params", {"part_charge": {"center": "x"}}, "centre of part_charge is 'x'"),
        ("inputs.pf_features.length", "many", "length of pf_features is 'many'"),
        ("inputs.pf_features.length", -5, "length of pf_features is -5"),
        ("inputs.pf_features.vars", [3], "an input of pf_features is 3"),
        ("inputs.pf_features.vars", [[]], "an input of pf_features is .*"),
        ("inputs.pf_features.vars", [{"part_charge": 1}], "an input of pf_features is"),
        ("inputs.pf_features.vars", [["part_charge", "abc", 1]], "centre of part_charge is 'abc'"),
        ("inputs.pf_features.vars", [["part_charge", float("nan"), 1]], "centre of part_charge is nan"),
        ("inputs.pf_features.vars", [["part_charge", 1, None]], "scale of part_charge is None"),
        ("inputs.pf_features.vars", [["part_charge", 1, 0]], "scale is 0"),
        ("inputs.pf_features.vars", [["part_charge", 0, 1, 5, -5]], "bounds are 5 and -5"),
    ],
)
def test_what_is_wrong_in_itself_is_refused_with_its_line(
    tmp_path: Path, key: str, value: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as problem:
        translated(tmp_path, key, value)
    assert ", line " in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("foo", 3, "unknown key 'foo'"),
        ("preprocess.foo", 3, "unknown key 'foo' of preprocess"),
        ("preprocess.method", "quantum", "method quantum: taken for manual"),
        ("inputs.pf_features.foo", 3, "unknown key 'foo' of pf_features"),
        ("labels.foo", 3, "unknown key 'foo' of labels"),
        ("labels.value", ["label_QCD", "label_QCD"], "label label_QCD: it is named twice"),
        ("labels.value", ["foo(label_QCD)", "label_Tbqq"], "'foo' is not among the known functions"),
        ("new_variables.x", "part_px.__class__", "is not allowed in an expression"),
        ("new_variables.x", "open('/etc/passwd')", "'open' is not among the known functions"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, key: str, value: Any, words: str) -> None:
    lost = translated(tmp_path, key, value).untranslated
    assert any(words in sentence for _, sentence in lost)
    assert all(line for line, _ in lost)


def test_nothing_is_lost_of_one_that_is_right(tmp_path: Path) -> None:
    assert translated(tmp_path, "labels.type", "simple").untranslated == []
    pads = [["part_charge", 0, 1, -5, 5, -1]]
    notes = translated(tmp_path, "inputs.pf_features.vars", pads).notes
    assert any("pad value -1: nothing is padded here" in sentence for _, sentence in notes)
