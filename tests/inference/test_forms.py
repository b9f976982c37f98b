"""Files in the forms of experiments' software give the probabilities of the tagger they were made of, and an
experiment's own file is run as its software runs it."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_export import _jets
from torch import nn

import hepml
from hepml import models
from hepml.errors import HepmlError
from hepml.inference.exporting import export
from hepml.inference.exporting.session import ExportedTagger, open_exported
from hepml.inference.prediction import score

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

COUNTS = (0, 1, 2, 7, 12)


@pytest.fixture(scope="module")
def tagger() -> nn.Module:
    torch.manual_seed(1)
    model = models.create("pfn", phi=(8,), f=(8,), features="kinematic").eval()
    model.hepml_classes = ("QCD", "top")  # type: ignore[assignment]
    return model


@pytest.fixture(scope="module")
def files(tagger: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tagger's file in a form, written once for all tests: an export takes seconds."""

    @functools.cache
    def written(form: str) -> Path:
        path = tmp_path_factory.mktemp(form) / "tagger.onnx"
        export(tagger, path, form=form)
        return path

    return written


@pytest.mark.parametrize("form", ["cmssw", "athena"])
def test_a_file_in_an_experiments_form_gives_the_taggers_probabilities(
    tagger: nn.Module, form: str, files: Callable[[str], Path]
) -> None:
    exported = ExportedTagger(files(form))
    jets = _jets(COUNTS)
    wanted = score(tagger, jets)
    np.testing.assert_allclose(exported.probabilities(jets), wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(hepml.predict(exported, jets), wanted, rtol=0, atol=1e-6)
    session = ort.InferenceSession(files(form))
    names = {i.name: i.shape for i in session.get_inputs()}
    if form == "athena":
        assert names == {"jet_features": [1, 4], "track_features": ["constituents", 4]}
        assert [o.name for o in session.get_outputs()] == ["pQCD", "ptop"]
        assert [o.shape for o in session.get_outputs()] == [[], []]
    else:
        assert set(names) == {"pf_features", "pf_vectors", "pf_mask"}
        np.testing.assert_allclose(exported.probabilities(jets, 9), wanted, rtol=0, atol=1e-6)


def test_preprocess_json_has_the_keys_of_cms(
    tagger: nn.Module, files: Callable[[str], Path], shared: Path
) -> None:
    theirs = json.loads((shared / "reference/cms_particlenet_ak4_hlt/preprocess.json").read_text())
    ours = json.loads(files("cmssw").with_name("preprocess.json").read_text())
    kinds = {"output_names", "input_names"}
    assert kinds < set(ours)
    assert set(ours) == {*kinds, *ours["input_names"]}
    block, their_block = ours["pf_features"], theirs["pf_features"]
    assert set(block) == set(their_block)
    info = set(their_block["var_infos"]["jet_pfcand_eta"])
    assert all(set(found) == info for found in block["var_infos"].values())
    assert block["var_names"] == list(tagger.inputs.features)  # type: ignore[union-attr, arg-type]


@pytest.mark.slow
def test_weights_of_half_the_size_change_probabilities_by_their_rounding_alone(
    tagger: nn.Module, tmp_path: Path
) -> None:
    jets = _jets(COUNTS)
    export(tagger, tmp_path / "half.onnx", precision="float16")
    found = ExportedTagger(tmp_path / "half.onnx").probabilities(jets)
    rounded = models.create("pfn", phi=(8,), f=(8,), features="kinematic").eval()
    rounded.load_state_dict(
        {
            k: v.half().float() if v.numel() >= 64 and v.is_floating_point() else v
            for k, v in tagger.state_dict().items()
        }
    )
    assert np.abs(found - score(tagger, jets)).max() > 1e-6
    np.testing.assert_allclose(found, score(rounded, jets), rtol=0, atol=1e-6)
    with pytest.raises(HepmlError, match="float32, or float16"):
        export(tagger, tmp_path / "none.onnx", precision="int8")


# ---------------------------------------------------------------- CMS's own


@pytest.fixture(scope="module")
def cms(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CMS's HLT ParticleNet in a folder that can be written to."""
    folder = tmp_path_factory.mktemp("cms")
    for path in (shared / "reference/cms_particlenet_ak4_hlt").iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder / "particle-net.onnx"


def _as_in_cmssw(network: Path, lists: dict[str, list[np.ndarray]]) -> np.ndarray:
    """One jet at a time, one number at a time."""
    told = json.loads((network.parent / "preprocess.json").read_text())
    session = ort.InferenceSession(network)
    rows = []
    for jet in range(len(next(iter(lists.values())))):
        given = {}
        for name in told["input_names"]:
            block, kind = told[name], "pf" if name.startswith("pf") else "sv"
            counted = "jet_pfcand_dz" if kind == "pf" else "jet_sv_mass"
            n = len(lists[counted][jet])
            length = min(max(n, block["min_length"]), block["max_length"])
            out = np.zeros((1, len(block["var_names"]), length), np.float32)
            for row, variable in enumerate(block["var_names"]):
                info = block["var_infos"][variable]
                out[0, row] = info["pad"]
                values = np.ones(n) if variable.endswith("_mask") else lists[variable][jet]
                for i, x in enumerate(values[:length]):
                    x = info["replace_inf_value"] if not np.isfinite(x) else float(x)
                    x = (x - info["median"]) * info["norm_factor"]
                    out[0, row, i] = min(max(x, info["lower_bound"]), info["upper_bound"])
            given[name] = out
        rows.append(session.run(None, given)[0][0])
    return np.array(rows)


def _made(path: Path, network: Path, jets: int = 40, rename: str = "") -> dict[str, list[np.ndarray]]:
    """A file with the columns that the network reads, of every length, with numbers that are not finite."""
    import awkward as ak
    import uproot

    rng = np.random.default_rng(3)
    told = json.loads((network.parent / "preprocess.json").read_text())
    counts = {"pf": rng.integers(0, 70, jets), "sv": rng.integers(0, 8, jets)}
    lists: dict[str, list[np.ndarray]] = {}
    for name in ("pf_features", "sv_features"):
        for variable, info in told[name]["var_infos"].items():
            lists[variable] = [
                (info["median"] + rng.normal(size=n) / info["norm_factor"]).astype(np.float32)
                for n in counts[name[:2]]
            ]
    filled = next(i for i, n in enumerate(counts["pf"]) if n > 5)
    lists["jet_pfcand_dz"][filled][:2] = np.inf, np.nan
    classes = rng.integers(0, 6, jets)
    arrays: dict[str, Any] = {f"{rename}{name}": ak.Array(values) for name, values in lists.items()}
    arrays |= {
        f"{rename}{name}": (classes == i).astype(np.int32) for i, name in enumerate(told["output_names"][:6])
    }
    arrays["jet_pt"] = rng.uniform(30, 300, jets).astype(np.float32)
    kinds = {n: "var * float32" if a.ndim > 1 else a.dtype for n, a in arrays.items()}
    with uproot.recreate(path) as file:
        file.mktree("tree", kinds).extend(arrays)
    return lists


def test_cms_own_tagger_scores_as_in_cmssw(cms: Path, tmp_path: Path) -> None:
    from hepml.cli.main import main

    lists = _made(tmp_path / "jets.root", cms)
    wanted = _as_in_cmssw(cms, lists)
    out = tmp_path / "scores.npz"
    assert main(["predict", str(cms), str(tmp_path / "jets.root"), "-o", str(out), "-q"]) == 0
    with np.load(out) as found:
        names = ["score_taup", "score_taum", "score_b", "score_c", "score_uds", "score_g", "predicted_pt"]
        rows = np.stack([found[name] for name in names], axis=1)
        assert "jet_pt" in found
    np.testing.assert_allclose(rows, wanted, rtol=0, atol=1e-5)


def test_cms_own_tagger_stands_in_the_table_with_columns_that_a_layout_maps(
    cms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hepml.cli.main import main

    lists = _made(tmp_path / "jets.root", cms, rename="my_")
    jets, layout = str(tmp_path / "jets.root"), tmp_path / "layout.yaml"
    assert main(["evaluate", str(cms), jets, "--json", "-q"]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in lists)  # each column that is missing, by name
    labels = ("taup", "taum", "b", "c", "uds", "g")
    layout.write_text(
        json.dumps({"columns": {n: f"my_{n}" for n in lists}, "labels": {n: f"my_label_{n}" for n in labels}})
    )
    assert main(["evaluate", str(cms), jets, "--layout", str(layout), "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)["particle-net"]
    assert set(report["classes"]) == set(labels)
    rows = _as_in_cmssw(cms, lists)
    found = hepml.predict(open_exported(cms), jets, layout={"columns": {n: f"my_{n}" for n in lists}})
    np.testing.assert_allclose(found, rows, rtol=0, atol=1e-5)


def test_a_network_without_its_preprocess_json_is_refused_with_the_mend(cms: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.onnx"
    shutil.copyfile(cms, alone)
    with pytest.raises(HepmlError, match=r"preprocess\.json"):
        open_exported(alone)
    told = json.loads((cms.parent / "preprocess.json").read_text())
    told["input_names"].remove("sv_mask")
    (tmp_path / "preprocess.json").write_text(json.dumps(told))
    with pytest.raises(HepmlError, match="where the network has"):
        open_exported(alone)


def test_files_without_columns_by_name_are_refused_for_a_network_that_reads_them(
    cms: Path, tmp_path: Path
) -> None:
    jets = tmp_path / "jets.npz"
    np.savez(jets, four_momenta=np.zeros((1, 4)), offsets=np.array([0, 1]))
    with pytest.raises(HepmlError, match="ROOT, Parquet or Arrow file with its columns"):
        hepml.predict(open_exported(cms), jets)
