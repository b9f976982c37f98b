"""An exported file gives the probabilities of the tagger it was made of, whatever the shape of the batch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_jets import differences, real_jets
from torch import nn

from hepml import models
from hepml.data.batch import JetBatch
from hepml.errors import HepmlError
from hepml.inference.exporting import export
from hepml.inference.exporting.operators import translations
from hepml.inference.exporting.parity import parity
from hepml.inference.exporting.session import ExportedTagger
from hepml.inference.exporting.support import REASONS, support
from hepml.inference.exporting.tagger import form_of
from hepml.inference.exporting.writing import fixed_size, without_einsum
from hepml.inference.prediction import head_of, score

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
    "ensemble": {"members": [{"name": "pfn", "phi": (8,), "f": (8,)}, {"name": "perceptron"}]},
    "gcn": {"widths": (8, 8), "embed": 8},
    "gat": {"widths": (8, 8), "embed": 8},
    "dgcnn": {"widths": (8, 8), "fusion": 8},
    "efp": {"degree": 6},
    "lgatr": {"channels": 4, "scalars": 8, "blocks": 2},
    "hamiltonian_cloud": {"steps": 2, "interactions": 4},
    "residual_cloud": {"steps": 2},
    "efp_mlp": {},
    "efp_mlp_safe": {"degree": 3, "betas": (0.5, 1.0)},
}
# What was seen beyond 1e-5, rounded up; docs/export.md has all figures.
TOLERANCES: dict[str, float] = {"topodnn": 3e-5}
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


class _Small(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        there = x.double().clamp_min(torch.finfo(torch.float64).tiny)
        return x / there, torch.where(x > 0, x.double(), 1e-200).log()


def test_a_file_keeps_the_digits_of_float64_constants(tmp_path: Path) -> None:
    """torch's exporter writes numbers as float32, where the smallest of float64 are zero: 0 / tiny was nan,
    and with it whether a padded jet has masses."""
    import onnxruntime

    program = torch.export.export(_Small(), (torch.ones(3),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            custom_translation_table=translations(),
            f=tmp_path / "s.onnx",
        )
    session = onnxruntime.InferenceSession(tmp_path / "s.onnx")
    ratio, logarithm = session.run(None, {"x": np.array([0, 1, 4], np.float32)})
    np.testing.assert_array_equal(ratio, [0, 1, 1])
    np.testing.assert_allclose(logarithm, np.log([1e-200, 1, 4]), rtol=1e-14)


class _Quick(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x[torch.arange(x.shape[0]).flip(0)]
        return torch.einsum("bi,ij->bj", torch.nn.functional.gelu(rows), torch.ones(4, 3))


def test_operators_are_written_as_onnxruntime_runs_them_best(tmp_path: Path) -> None:
    """GELU in the order that it fuses, rows by one Gather, and no Einsum, which ends the process where there
    are no jets."""
    import onnx
    import onnxruntime

    jets = torch.export.Dim("jets")
    program = torch.export.export(_Quick(), (torch.ones(3, 4),), dynamic_shapes=({0: jets},))
    path = tmp_path / "q.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            without_einsum(program),
            dynamo=True,
            verbose=False,
            custom_translation_table=translations(),
            f=path,
        )
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert not kinds & {"Einsum", "GatherND"}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    session = onnxruntime.InferenceSession(path, options)
    assert "Gelu" in {node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node}
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    wanted = _Quick()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, atol=1e-6)
    assert session.run(None, {"x": x[:0]})[0].shape == (0, 3)


class _Sized(nn.Module):
    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, 1)
        return rows + torch.arange(len(rows) if self.fixed else rows.shape[0])


@pytest.mark.parametrize("fixed", [True, False])
def test_a_size_that_a_layer_fixes_is_found_before_a_pt2_file_keeps_it(fixed: bool) -> None:
    sizes = {i: torch.export.Dim(name) for i, name in enumerate(("jets", "constituents"))}
    program = torch.export.export(
        _Sized(fixed),
        (torch.ones(3, 6),),
        dynamic_shapes=(sizes,),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    found = fixed_size(program)
    assert ("18" in str(found)) if fixed else found is None


def test_every_registered_tagger_exports_or_says_why_not() -> None:
    rows = {row["name"]: row for row in support()}
    assert set(rows) == set(models.registry())
    own = {name for name, entry in models.registry().items() if entry.build.__module__.startswith("hepml.")}
    rows = {name: row for name, row in rows.items() if name in own}  # others are plugins of other tests
    for name in set(REASONS) & set(rows):
        assert not rows[name]["exports"]
        assert rows[name]["note"] == REASONS[name]
    assert set(rows) <= set(SMALL) | set(REASONS) | {"graph_network", "lloca"}
    for name in set(SMALL) & set(rows) - set(REASONS):
        assert form_of(models.create(name, **SMALL[name]).eval()).outputs == ("probabilities", "logits")
    with pytest.raises(HepmlError, match="outside of any graph"):
        export(models.create("treenin"), "never.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_agrees_with_torch(name: str, tmp_path: Path, shared: Path) -> None:
    """Real jets of 0, 1, 2, k - 1, k, k + 1, 128 and 200 constituents and usual ones, batches of 1, 2, 64 and
    512, padded by 0 and by 50, permuted and boosted, in one session of one file."""
    jets = real_jets(shared)
    torch.manual_seed(1)
    model = models.create(name, **SMALL[name])
    with torch.no_grad():  # statistics of batch norms, as after training
        for low in (200, 300, 400):
            model.train()(jets[low : low + 100])
    export(model.eval(), tmp_path / "tagger.onnx")
    found = differences(
        model, ExportedTagger(tmp_path / "tagger.onnx"), jets, SMALL[name].get("neighbours", 16)
    )
    exported = ExportedTagger(tmp_path / "tagger.onnx")
    for count, constituents in ((0, 5), (3, 0), (0, 0)):
        none = exported.padded(_jets((0,) * count), constituents)
        assert exported.run(none)["probabilities"].shape == (count, 2)
    tolerance = TOLERANCES.get(name, 1e-5)
    assert found.usual < tolerance
    assert found.odd < tolerance
    assert found.permuted < tolerance
    assert found.beyond == 0 or name in TOLERANCES
    if found.boosted is not None:
        assert found.boosted < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pfn", "rnn", "part", "particlenet", "lgatr_slim"])
def test_a_pt2_file_agrees_with_torch_in_a_process_without_hepml(name: str, tmp_path: Path) -> None:
    model = _tagger(name)
    path = tmp_path / "tagger.pt2"
    export(model, path, format="pt2")
    exported = ExportedTagger(path)
    jets = _jets(COUNTS)
    rows = parity(model, exported, jets)
    assert max(row.largest for row in rows) < 1e-6
    for extra in (0, 50):
        np.savez(tmp_path / f"{extra}.npz", **exported.padded(jets, extra))
    subprocess.run([sys.executable, "-c", WITHOUT_HEPML, str(tmp_path)], check=True, cwd=tmp_path)
    for extra in (0, 50):
        found = np.load(tmp_path / f"{extra}.npy")
        np.testing.assert_allclose(found, score(model, jets), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
def test_a_compiled_pt2_file_agrees_with_torch(tmp_path: Path) -> None:
    model = _tagger("pfn")
    export(model, tmp_path / "tagger.pt2", format="pt2", compiled=True)
    exported = ExportedTagger(tmp_path / "tagger.pt2")
    assert json.loads(exported.metadata["hepml.outputs"]) == ["probabilities", "logits"]
    assert max(row.largest for row in parity(model, exported, _jets(COUNTS))) < 1e-6
    with pytest.raises(HepmlError, match="pt2"):
        export(model, tmp_path / "tagger.onnx", compiled=True)


WITHOUT_HEPML = """
import sys
import warnings

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hepml":
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
import numpy as np
import torch

program = torch.export.load(sys.argv[1] + "/tagger.pt2").module()
for extra in (0, 50):
    given = {k: torch.from_numpy(v) for k, v in np.load(f"{sys.argv[1]}/{extra}.npz").items()}
    np.save(f"{sys.argv[1]}/{extra}.npy", program(**given)[0].numpy())
assert "hepml" not in sys.modules
"""
