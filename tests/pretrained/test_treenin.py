"""The published TreeNiN, read from names that its file has."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cloud import cloud

import hepml
from hepml.errors import ModelError
from hepml.models import create
from hepml.pretrained.treenin import RENAMED
from hepml.representations.trees import forest, node_inputs


def _published(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict as the published program saves it: layers twice, and some of no use."""
    own = model.state_dict()
    theirs = {
        f"{name}.{kind}": own[f"{ours}.{kind}"]
        for name, ours in RENAMED.items()
        for kind in ("weight", "bias")
    }
    bare = {k.removeprefix("transform."): torch.zeros_like(v) for k, v in theirs.items() if "transform" in k}
    return {**bare, **theirs, "transform.fc_N0.weight": torch.zeros(5, 5)}


def test_the_published_treenin_is_read_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = create("treenin", outputs=1, hidden=5, head=(5, 5), frame="lab").eval()
    torch.save(
        {"epoch": 3, "state_dict": _published(made), "optim_dict": {"state": {}}}, tmp_path / "best.pth.tar"
    )
    model = hepml.pretrained.load(tmp_path / "best.pth.tar")
    assert model.hepml_classes == ("QCD", "top")
    batch = cloud(dtype=torch.float32)
    rows = hepml.predict(model, batch)
    assert rows.shape == (len(batch), 2)  # one output, two classes
    with torch.inference_mode():
        np.testing.assert_allclose(rows[:, 1], torch.sigmoid(made(batch))[:, 0].numpy(), atol=1e-6)
    broken = {k: v for k, v in _published(made).items() if k != "transform.fc_N7.weight"}
    torch.save(broken, tmp_path / "broken.pt")
    with pytest.raises(ModelError, match="fc_N7"):
        hepml.pretrained.load(tmp_path / "broken.pt")


def test_inputs_of_the_published_treenin_are_momenta_as_they_are_in_quartile_ranges() -> None:
    batch = cloud([3], seed=5)
    x = node_inputs(forest(batch, "kt"), batch, "lab")[0].tolist()
    e, px, py, pz = batch.four_momenta[0].tolist()
    p = math.sqrt(px**2 + py**2 + pz**2)
    assert x[0] == pytest.approx((p - 11.680418) / 43.887254, abs=1e-9)
    assert x[2] == pytest.approx((math.atan2(py, px) - 0.000769436) / 3.1453394, abs=1e-9)
    whole = batch.four_momenta[:, 0].sum().item()
    assert x[4] == pytest.approx((e / whole - 0.01386037) / 0.051638115, abs=1e-9)
