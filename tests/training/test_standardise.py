"""Columns without a published standardisation get one from the training jets, which then belongs to the
model: training, checkpoint, prediction and export agree on it; one that is published or written is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from toys import toy_arrays

import hepml
from hepml.data.standardising import Standard
from hepml.errors import ConfigError

LAYOUT: dict[str, Any] = {
    "constituents": {
        "px": "part_px",
        "py": "part_py",
        "pz": "part_pz",
        "energy": "part_energy",
        "wide": "part_wide",
        "written": {"branch": "part_wide", "scale": 1e-4},
    },
    "label_prefix": "label_",
}
FEATURES = ["log_pt", "wide", "written"]


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy jets with a constituent column far from zero and far from one."""
    arrays = toy_arrays(200, seed=8)
    rng = np.random.default_rng(3)
    counts = ak.num(arrays["part_px"])
    wide = 5000 + 300 * rng.standard_normal(int(ak.sum(counts)))
    arrays["part_wide"] = ak.unflatten(wide.astype(np.float32), counts)
    path = tmp_path_factory.mktemp("wide") / "wide.root"
    with uproot.recreate(path) as file:
        file["tree"] = arrays
    return path


@pytest.fixture(scope="module")
def run(jets: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that standardises `wide` itself."""
    return hepml.train(
        {
            "data": {"train": str(jets), "val": 0.2, "test": 0.2, "layout": LAYOUT},
            "model": {"name": "pfn", "features": FEATURES, "phi": [8], "f": [8]},
            "training": {"epochs": 1, "batch_size": 64, "device": "cpu", "threads": 1},
            "tracking": {"enabled": False},
        },
        output=tmp_path_factory.mktemp("run") / "auto",
    )


def test_median_and_the_larger_side_of_the_16_to_84_range_as_weaver_takes_them() -> None:
    values = np.random.default_rng(0).exponential(3.0, 10_000)
    low, centre, high = np.percentile(values, [16, 50, 84])
    found = Standard.measured(values)
    assert found.shift == pytest.approx(centre)
    assert found.scale == pytest.approx(1 / max(high - centre, centre - low))
    assert Standard.measured(np.full(10, 7.0)) == Standard(7.0, 1.0)


def test_only_columns_without_a_standardisation_get_one_and_the_run_says_which(run: Any, jets: Path) -> None:
    told = json.loads((run.path / "summary.json").read_text())["standards"]
    assert list(told[""]) == ["wide"]  # log_pt is published, `written` has a scale in the layout
    wide = ak.to_numpy(ak.flatten(uproot.open(jets)["tree/part_wide"].array()))
    assert told[""]["wide"]["shift"] == pytest.approx(np.median(wide), abs=30)
    assert 1 / told[""]["wide"]["scale"] == pytest.approx(300, rel=0.1)


def test_a_checkpoint_carries_it_and_every_door_gives_the_same_score(run: Any, jets: Path) -> None:
    model = hepml.load_model(run.path)
    scores = hepml.predict(model, str(jets))
    read = hepml.read_jets(jets, LAYOUT)
    np.testing.assert_allclose(hepml.predict(model, read), scores, atol=1e-6)
    batch = hepml.JetBatch.from_awkward(read, FEATURES)
    logits = model(batch)
    assert torch.allclose(torch.softmax(logits, 1).double(), torch.tensor(scores).double(), atol=1e-6)
    assert logits.abs().max() < 20  # 5000 would have made it hundreds


def test_an_exported_graph_standardises_too(run: Any, jets: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from hepml.inference.exporting import export

    model = hepml.load_model(run.path)
    form = export(model, tmp_path / "tagger.onnx")
    read = hepml.read_jets(jets, LAYOUT, entry_stop=20)
    four = ak.concatenate(
        [getattr(read.constituents, n)[..., None] for n in ("energy", "px", "py", "pz")], axis=2
    )
    most = int(ak.max(ak.num(read.constituents)))

    def padded(x: Any) -> np.ndarray:
        return ak.to_numpy(ak.fill_none(ak.pad_none(x, most, clip=True), 0.0)).astype(np.float32)

    parts = [padded(four[..., i]) for i in range(4)]
    columns = np.stack([padded(read.constituents[n]) for n in form.columns], axis=-1)
    mask = np.arange(most) < ak.to_numpy(ak.num(read.constituents))[:, None]
    session = onnxruntime.InferenceSession(str(tmp_path / "tagger.onnx"))
    given = {"four_momenta": np.stack(parts, axis=-1), "mask": mask, "columns": columns}
    probabilities = session.run(["probabilities"], given)[0]
    np.testing.assert_allclose(probabilities, hepml.predict(model, read), atol=2e-5)
    assert "wide" in session.get_modelmeta().custom_metadata_map["hepml.standards"]


def test_fine_tuning_keeps_the_standardisation_that_the_weights_have_seen(
    run: Any, jets: Path, tmp_path: Path
) -> None:
    shifted = hepml.train(
        {
            "data": {"train": str(jets), "val": 0.2, "layout": LAYOUT, "selection": "jet_pt > 600"},
            "model": {"pretrained": str(run.path)},
            "training": {"epochs": 1, "batch_size": 64, "device": "cpu", "threads": 1},
            "tracking": {"enabled": False},
        },
        output=tmp_path / "tuned",
    )
    assert shifted.summary["standards"] == run.summary["standards"]


@pytest.mark.parametrize("where", ["config", "layout"])
def test_none_takes_columns_as_they_stand(jets: Path, tmp_path: Path, where: str) -> None:
    data: dict[str, Any] = {"train": str(jets), "val": 0.2, "layout": LAYOUT}
    if where == "config":
        data["standardise"] = "none"
    else:
        data["layout"] = {**LAYOUT, "standardise": "none"}
    run = hepml.train(
        {
            "data": data,
            "model": {"name": "pfn", "features": FEATURES, "phi": [8], "f": [8]},
            "training": {"epochs": 1, "batch_size": 64, "device": "cpu", "threads": 1},
            "tracking": {"enabled": False},
        },
        output=tmp_path / "none",
    )
    assert run.summary["standards"] == {}


def test_equal_class_weights_give_every_class_the_same_sum() -> None:
    from types import SimpleNamespace

    from hepml.training.jet_weights import class_scale

    labels = np.array([0] * 90 + [1] * 10)
    for weights in (None, np.random.default_rng(0).uniform(0.5, 2, 100)):
        scale = class_scale(SimpleNamespace(labels=labels, weights=weights), ("a", "b"), "equal")
        assert scale is not None
        w = (np.ones(100) if weights is None else weights) * scale.numpy()[labels]
        assert w[labels == 0].sum() == pytest.approx(w[labels == 1].sum(), rel=1e-5)
    data = SimpleNamespace(labels=labels, weights=None)
    with pytest.raises(ConfigError, match="no class 'c'"):
        class_scale(data, ("a", "b"), {"a": 1, "c": 2})
    assert class_scale(data, ("a", "b")) is None
