"""ParticleNets trained with weaver-core load by `hepml.pretrained.load`, and their outputs are weaver's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hepml import kinematics, pretrained
from hepml.data.batch import JetBatch
from hepml.data.features import FEATURE_SETS
from hepml.errors import ModelError
from hepml.models import create

DATA = Path(__file__).parent / "data"
SETS = {7: "kinematic", 13: "kinematic_pid", 17: "full"}


@pytest.mark.parametrize("columns", SETS)
def test_stored_weaver_logits_are_reproduced_for_jets_of_any_length(columns: int) -> None:
    """The stored logits were made by `data/make_weaver_golden.py`; jets of 1, 2, 5 and 16 constituents have
    fewer than k + 1."""
    golden = np.load(DATA / "weaver_particlenet.npz")
    model = pretrained.load(DATA / f"weaver_particlenet_{columns}.pt")
    assert model.hepml_hyperparameters["features"] == SETS[columns]
    assert not model.training
    assert len(model.hepml_classes) == 10
    offsets = np.concatenate([[0], np.cumsum(golden["counts"])])
    momenta = np.ones((offsets[-1], 4))
    batch = JetBatch.from_arrays(
        momenta,
        offsets,
        golden[f"features_{columns}"],
        feature_names=FEATURE_SETS[SETS[columns]],
        dtype=torch.float64,
    )
    with torch.no_grad():
        exact = model.double()(batch).numpy()
        single = model.float()(batch.to(torch.float32)).numpy()
    assert np.abs(exact - golden[f"logits_{columns}"]).max() < 1e-12
    assert np.abs(single - golden[f"logits_{columns}"]).max() < 1e-5


def test_published_jetclass_weights_equal_weaver_on_real_jets(shared: Path) -> None:
    particlenet = pytest.importorskip("weaver.nn.model.ParticleNet", reason="extra 'bench'")
    path, jets = (
        shared / "reference/weights/particlenet_jetclass_kin.pt",
        shared / "data/real/jetclass_500.npz",
    )
    theirs = particlenet.ParticleNet(
        7,
        10,
        [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        [(256, 0.1)],
        use_fusion=False,
        use_fts_bn=True,
        use_counts=True,
    )
    state = torch.load(path, map_location="cpu", weights_only=True)
    theirs.load_state_dict({name.removeprefix("mod."): value for name, value in state.items()})
    ours = pretrained.load(path)
    batch = first_constituents(jet_file(jets).take(torch.arange(24)), (128, 1, 2, 3, 5, 8, 16, 17, 18))
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        ours.to(dtype), theirs.to(dtype).eval()
        some = batch.to(dtype)
        x = some.select(ours.inputs.features)
        mask = torch.arange(some.max_count) < some.counts[:, None]
        padded = x.new_zeros((*mask.shape, x.shape[1]))
        padded[mask] = x
        with torch.no_grad():
            got, expected = ours(some), theirs(padded.mT[:, -2:], padded.mT, mask[:, None].to(dtype))
        # Logits of jets cut down to one constituent reach 200: float32 itself resolves 1e-5 of that.
        assert ((got - expected).abs() / expected.abs().amax(1, keepdim=True).clamp_min(1)).max() < tolerance
        assert (got.softmax(1) - expected.softmax(1)).abs().max() < 1e-5


def test_published_jetclass_weights_tell_real_jets_apart(shared: Path) -> None:
    """Seven kinematic inputs give an accuracy of 0.72 on the 500 jets, of which the largest class is 13 %."""
    path, jets = (
        shared / "reference/weights/particlenet_jetclass_kin.pt",
        shared / "data/real/jetclass_500.npz",
    )
    model, batch = pretrained.load(path), jet_file(jets).to(torch.float32)
    assert model.hepml_classes[0] == "QCD"
    assert model.hepml_classes[9] == "Tbl"
    with torch.no_grad():
        right = model(batch).argmax(1) == batch.labels
    assert right.double().mean() > 0.68


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {**s, "mod.surprise.weight": torch.zeros(2)}, "has surprise.weight"),
        (lambda s: {k: v for k, v in s.items() if k != "mod.fc.1.bias"}, "lacks fc.1.bias"),
        (lambda s: {k: v for k, v in s.items() if k != "mod.bn_fts.weight"}, "lacks bn_fts.weight"),
        (lambda s: {**s, "mod.edge_convs.1.sc.weight": torch.zeros(3, 3, 1)}, "edge_convs.1.sc.weight"),
        (lambda s: {**s, "mod.edge_convs.0.convs.0.weight": torch.zeros(8, 22, 1, 1)}, "11 input columns"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: object, said: str, tmp_path: Path) -> None:
    state = torch.load(DATA / "weaver_particlenet_7.pt", weights_only=True)
    torch.save(change(state), tmp_path / "changed.pt")  # type: ignore[operator]
    with pytest.raises(ModelError, match=said):
        pretrained.load(tmp_path / "changed.pt")


def test_what_shapes_cannot_tell_can_be_said(tmp_path: Path) -> None:
    model = pretrained.load(DATA / "weaver_particlenet_7.pt", neighbours=5)
    assert model.neighbours == 5
    assert create("particlenet").neighbours == 16


def jet_file(path: Path) -> JetBatch:
    file = np.load(path)
    return JetBatch.from_arrays(
        file["four_momenta"], file["offsets"], labels=file["labels"].astype(np.int64), dtype=torch.float64
    )


def first_constituents(batch: JetBatch, most: tuple[int, ...]) -> JetBatch:
    """The jets cut to their first so many constituents, a number for each jet in turn, with the axis of what
    is left."""
    limit = torch.tensor(most).repeat(len(batch) // len(most) + 1)[: len(batch)]
    within = torch.arange(len(batch.four_momenta)) - batch.offsets[batch.jet_of]
    counts = torch.minimum(batch.counts, limit)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    out = JetBatch.from_arrays(batch.four_momenta[within < limit[batch.jet_of]], offsets)
    assert kinematics.pt(out.jets).min() > 0
    return out
