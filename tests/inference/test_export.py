"""An exported file gives the probabilities of the tagger it was made of, whatever the shape of the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hepml import models
from hepml.data.batch import JetBatch
from hepml.errors import HepmlError
from hepml.inference.exporting import export
from hepml.inference.exporting.parity import parity
from hepml.inference.exporting.session import ExportedTagger
from hepml.inference.exporting.support import REASONS, ROUNDING, support
from hepml.inference.prediction import head_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SMALL: dict[str, dict[str, Any]] = {
    "perceptron": {},
    "mlp": {},
    "pfn": {"phi": (16, 16), "f": (16,)},
    "efn": {"phi": (16, 16), "f": (16,)},
    "particlenet": {"widths": ((8, 8, 8), (8, 8, 8)), "neighbours": 7},
    "particlenet_lite": {"widths": ((8, 8, 8),)},
    "p_cnn": {"stages": ((8,), (8,)), "stem": 8},
    "topodnn": {},
    "cnn": {"pixels": 16, "maps": ((4, 4),), "head": (8,)},
    "resnext": {"pixels": 16, "blocks": (1, 1), "widths": (32, 32), "stem": 8},
    "transformer": {"width": 16, "heads": 2, "blocks": 2},
    "part": {"embedding": (16, 16), "pair_embedding": (8,), "heads": 2, "blocks": 1, "class_blocks": 1},
    "lorentznet": {"n_hidden": 8, "n_blocks": 2},
    "lgatr_slim": {"vectors": 4, "scalars": 8, "blocks": 2, "heads": 2},
    "lloca_transformer": {"width": 16, "heads": 2, "vectors": 1, "blocks": 1, "hidden": 8},
    "rnn": {"hidden": 16, "head": (8,)},
    "pelican": {"hidden": 12, "messages": 6, "blocks": 2, "scalars": 3},
    "pelican_small": {},
    "gcn": {"widths": (8, 8), "embed": 8},
    "gat": {"widths": (8, 8), "embed": 8},
    "dgcnn": {"widths": (8, 8), "fusion": 8},
}
COUNTS = (0, 1, 2, 6, 7, 8, 15, 16, 40)


def _jets(counts: tuple[int, ...], seed: int = 0) -> JetBatch:
    """Massless constituents around a common axis, with falling and well-separated transverse momenta."""
    rng = np.random.default_rng(seed)
    total = sum(counts)
    pt = rng.exponential(20, total) + 0.5
    eta, phi = rng.normal(0.4, 0.3, total), rng.normal(1.0, 0.3, total)
    p = np.stack((pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)), axis=1)
    return JetBatch.from_arrays(p.astype(np.float32), np.cumsum([0, *counts]))


def _tagger(name: str) -> nn.Module:
    torch.manual_seed(1)
    model = models.create(name, **SMALL[name])
    with torch.no_grad():  # statistics of a first batch, as after training
        model.train()(_jets(COUNTS, seed=2))
    return model.eval()


def test_a_file_takes_any_number_of_jets_and_constituents(tmp_path: Path) -> None:
    model = _tagger("pfn")
    export(model, tmp_path / "tagger.onnx")
    exported = ExportedTagger(tmp_path / "tagger.onnx")
    jets = _jets(COUNTS)
    assert max(row.largest for row in parity(model, exported, jets)) < 1e-6
    none = exported.run({"four_momenta": np.zeros((0, 3, 4), np.float32), "mask": np.zeros((0, 3), bool)})
    assert none["probabilities"].shape == (0, 2)
    empty = exported.run({"four_momenta": np.zeros((2, 0, 4), np.float32), "mask": np.zeros((2, 0), bool)})
    wanted = head_of(model).activation(model(_jets((0, 0)))).detach().numpy()
    assert np.allclose(empty["probabilities"], wanted, atol=1e-6)


def test_what_stands_in_padding_is_never_read(tmp_path: Path) -> None:
    model = _tagger("pfn")
    export(model, tmp_path / "tagger.onnx")
    exported = ExportedTagger(tmp_path / "tagger.onnx")
    inputs = exported.padded(_jets(COUNTS), extra=3)
    clean = exported.run(inputs)["probabilities"]
    spoilt = {**inputs, "four_momenta": np.where(inputs["mask"][..., None], inputs["four_momenta"], np.nan)}
    assert np.array_equal(exported.run(spoilt)["probabilities"], clean)


def test_a_file_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    model = models.create("pfn", features=("pt_fraction", "charge", "d0"), phi=(8,), f=(8,)).eval()
    model.hepml_classes = ("QCD", "top")  # type: ignore[assignment]
    export(model, tmp_path / "tagger.onnx")
    exported = ExportedTagger(tmp_path / "tagger.onnx")
    assert json.loads(exported.metadata["hepml.classes"]) == ["QCD", "top"]
    assert json.loads(exported.metadata["hepml.columns"]) == ["charge", "d0"]
    wrong = {"four_momenta": np.zeros((1, 2, 4), np.float32), "mask": np.ones((1, 2), bool)}
    with pytest.raises(HepmlError, match="columns float32"):
        exported.run(wrong)


def test_every_registered_tagger_exports_or_says_why_not() -> None:
    rows = {row["name"]: row for row in support()}
    assert set(rows) == set(models.registry())
    rows = {name: row for name, row in rows.items() if not name.startswith("weaver_")}  # peers of other tests
    for name in set(REASONS) & set(rows):
        assert not rows[name]["exports"]
        assert rows[name]["note"] == REASONS[name]
    assert set(rows) <= set(SMALL) | set(REASONS) | {"graph_network", "lloca"}
    with pytest.raises(HepmlError, match="outside of any graph"):
        export(models.create("treenin"), "never.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_agrees_with_torch(name: str, tmp_path: Path) -> None:
    model = _tagger(name)
    export(model, tmp_path / "tagger.onnx")
    exported = ExportedTagger(tmp_path / "tagger.onnx")
    rows = parity(model, exported, _jets((*COUNTS, 128, 200)))
    tolerance = 1e-5 if name not in ROUNDING else 1e-3
    assert max(row.largest for row in rows) < tolerance


@pytest.mark.slow
def test_a_pt2_file_agrees_with_torch(tmp_path: Path) -> None:
    model = _tagger("pfn")
    export(model, tmp_path / "tagger.pt2", format="pt2")
    rows = parity(model, ExportedTagger(tmp_path / "tagger.pt2"), _jets(COUNTS))
    assert max(row.largest for row in rows) < 1e-6
