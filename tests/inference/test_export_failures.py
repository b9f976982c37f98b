"""What cannot be exported, and files and inputs that do not fit, are answered in one line with the mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepml import models
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import DataError, FileError, ModelError
from hepml.inference.exporting import export
from hepml.inference.exporting.session import ExportedTagger, open_exported

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Counting(nn.Module):
    """Asks its data for a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x[: int(x.sum())]


class Folding(nn.Module):
    """Uses an operator that ONNX has not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Odd(nn.Module):
    """A tagger of somebody else's, with a layer that cannot be exported."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inputs = Inputs()
        self.plain = nn.Linear(4, 2)
        self.odd = nn.Sequential(nn.ReLU(), layer)

    def forward(self, batch: JetBatch) -> Tensor:
        return self.odd(self.plain(batch.jets))


@pytest.mark.parametrize(
    ("layer", "wanted"), [(Counting(), "Counting, test_export"), (Folding(), "bessel_j0")]
)
def test_an_operation_that_cannot_be_exported_names_its_layer(
    layer: nn.Module, wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"layer 'odd\.1'") as told:
        export(Odd(layer).eval(), tmp_path / "odd.onnx")
    assert wanted in str(told.value)
    assert told.value.mend


def test_inputs_and_files_that_do_not_fit_are_answered_with_what_does(tmp_path: Path) -> None:
    path = tmp_path / "tagger.onnx"
    export(models.create("perceptron", observables=("jet_pt", "jet_mass")).eval(), path)
    tagger = ExportedTagger(path)
    momenta, mask = np.ones((2, 3, 4), np.float32), np.ones((2, 3), bool)
    wrong = (
        {"four_momenta": momenta, "presence": mask},  # a name that does not exist
        {"four_momenta": momenta},
        {"four_momenta": momenta[..., :3], "mask": mask},
        {"four_momenta": momenta, "mask": mask[:1, :2]},
        {"four_momenta": momenta.astype(np.float64), "mask": mask},
        {"four_momenta": momenta, "mask": mask.astype(np.float32)},
    )
    for inputs in wrong:
        with pytest.raises(DataError) as told:
            tagger.run(inputs)
        assert "four_momenta float32 [jets, constituents, 4], mask bool" in str(told.value)
    for jets, constituents in ((0, 0), (0, 5), (3, 0)):
        found = tagger.run(
            {
                "four_momenta": np.zeros((jets, constituents, 4), np.float32),
                "mask": np.zeros((jets, constituents), bool),
            }
        )
        assert found["probabilities"].shape == (jets, 2)
        assert np.isfinite(found["probabilities"]).all()
    newer = onnx.load(path)
    newer.opset_import[0].version = 99
    onnx.save(newer, tmp_path / "newer.onnx")
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:500])
    for name in ("newer.onnx", "torn.onnx"):
        with pytest.raises(FileError) as refused:
            open_exported(tmp_path / name)
        assert "opset" in str(refused.value)
        assert name in str(refused.value)
    with pytest.raises(FileError, match="nowhere"):
        ExportedTagger(tmp_path / "nowhere.onnx")
