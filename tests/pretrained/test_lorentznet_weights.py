"""The published LorentzNet weights load by `hepml.pretrained.load`, and their logits are the published
network's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hepml import pretrained
from hepml.data.batch import JetBatch
from hepml.errors import FileError, ModelError
from hepml.models import create
from hepml.models.catalogue import count_parameters


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    return shared / "reference/weights/lorentznet_toptag.pt"


def published_names(model: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict of hepml's LorentzNet under the names of the published one."""
    return {
        name.replace("blocks.", "LGEBs.", 1).replace("head.", "graph_dec.", 1): value
        for name, value in model.state_dict().items()
    }


def test_published_weights_give_the_golden_logits(weights: Path, shared: Path) -> None:
    golden = np.load(shared / "reference/golden_lorentznet_toptag.npz")
    model = pretrained.load(weights)
    assert count_parameters(model) == 224_072
    assert not model.training
    assert model.hepml_classes == ("QCD", "top")
    batch = JetBatch.from_arrays(golden["four_momenta"], golden["offsets"], dtype=torch.float64)
    with torch.no_grad():
        logits = model.double()(batch).numpy()
    assert np.abs(logits - golden["logits"]).max() < 1e-9


def test_published_weights_give_the_published_float32_logits(weights: Path, shared: Path) -> None:
    """In float32 the masses of massless constituents are rounding, on which this network depends: the
    arithmetic must be the same, too."""
    jets = np.load(shared / "data/real/toptag_reference_1000.npz")
    expected = np.load(shared / "data/real/toptag_reference_lorentznet_logits.npz")["logits"]
    some = torch.arange(0, 1000, 20)
    batch = JetBatch.from_arrays(jets["four_momenta"], jets["offsets"]).take(some)
    with torch.no_grad():
        logits = pretrained.load(weights)(batch).numpy()
    assert np.abs(logits - expected[some]).max() < 1e-3
    assert np.median(np.abs(logits - expected[some])) < 1e-5


@pytest.mark.parametrize("prefix", ["", "module.", "mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrappers_of_training_scripts_do_not_matter(prefix: str, wrapper: str | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = create("lorentznet", n_hidden=6, n_blocks=2, references=("beam",), outputs=3)
    state = {prefix + name: value for name, value in published_names(source).items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "weights.pt")
    model = pretrained.load(tmp_path / "weights.pt")
    told = model.hepml_hyperparameters
    assert (told["n_hidden"], told["n_blocks"], told["outputs"], told["references"]) == (6, 2, 3, ("beam",))
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_one_scalar_means_no_beams(tmp_path: Path) -> None:
    torch.save(published_names(create("lorentznet", n_hidden=6, n_blocks=2)), tmp_path / "weights.pt")
    assert pretrained.load(tmp_path / "weights.pt").hepml_hyperparameters["references"] == ()


def test_an_unknown_network_is_named(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3, 3), "conv.bias": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"2 tensors, conv.weight, conv.bias.*LorentzNet.*ParticleNet"):
        pretrained.load(tmp_path / "other.pt")


def test_files_without_weights_are_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "nothing.pt")
    with pytest.raises(ModelError, match="epoch, loss"):
        pretrained.load(tmp_path / "nothing.pt")
    with pytest.raises(FileError, match="no file"):
        pretrained.load(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("weights would be nice")
    with pytest.raises(FileError, match="not a file of weights"):
        pretrained.load(tmp_path / "text.pt")


def test_python_objects_in_a_file_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "object.pt")
    with pytest.raises(ModelError, match="Python objects"):
        pretrained.load(tmp_path / "object.pt")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:900])
    with pytest.raises(FileError, match=r"half\.pt"):
        pretrained.load(tmp_path / "half.pt")


def test_a_checkpoint_of_hepml_is_handed_to_load_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hepml

    asked: list[Path] = []
    answer = nn.Identity()

    def load_model(path: Path) -> nn.Module:
        asked.append(Path(path))
        return answer

    monkeypatch.setattr(hepml, "load_model", load_model, raising=False)
    torch.save({"state_dict": {"model.a": torch.zeros(1)}, "hepml": {"name": "pfn"}}, tmp_path / "best.ckpt")
    assert pretrained.load(tmp_path / "best.ckpt") is answer
    assert pretrained.load(tmp_path) is answer
    assert asked == [tmp_path / "best.ckpt", tmp_path]
