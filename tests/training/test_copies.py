"""Changed copies: other jets near those of the sample, the same each time, scored as jets of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.inference.prediction import predict
from hepml.representations.efp import extra
from hepml.training import distillation
from hepml.training.checkpoints import load_model
from hepml.training.copies import as_read, changed_copies
from hepml.training.distillation import Targets
from hepml.training.jets import open_jets
from hepml.training.perturbations import drop_soft, move_prong, smear_momenta, split_wide
from hepml.training.recipe_config import CopiesConfig, DistillConfig
from hepml.training.run import train
from hepml.training.run_config import RunConfig

Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def jets(toy_files: dict[str, Path]) -> JetBatch:
    found = JetDataset.open(toy_files["train"]).batch(np.arange(50))
    return JetBatch(found.four_momenta, found.offsets)  # whose jets are the sums of their constituents


@pytest.mark.parametrize("change", [move_prong, smear_momenta, drop_soft, split_wide])
def test_a_change_leaves_finite_jets_of_the_same_transverse_momentum(
    jets: JetBatch, change: Callable[[JetBatch], JetBatch]
) -> None:
    torch.manual_seed(0)
    empty = JetBatch(jets.four_momenta, torch.cat((jets.offsets, jets.offsets[-1:])))
    changed = change(empty)
    assert torch.isfinite(changed.four_momenta).all()
    assert len(changed) == 51
    assert int(changed.counts[-1]) == 0
    assert int(changed.counts[:-1].min()) > 0
    torch.testing.assert_close(
        kinematics.pt(changed.jets)[:-1], kinematics.pt(jets.jets), rtol=1e-4, atol=1e-3
    )
    m2 = kinematics.mass_squared(changed.four_momenta.double())
    assert float((m2 / changed.four_momenta[:, 0].double() ** 2).min()) > -1e-5


def test_a_jets_own_momentum_changes_as_its_constituents_do(jets: JetBatch) -> None:
    own = jets.jets + 1.0  # what the file says may differ from the sum
    batch = JetBatch(jets.four_momenta, jets.offsets, jet_momenta=own)
    torch.manual_seed(0)
    changed = move_prong(batch)
    sums = JetBatch(changed.four_momenta, changed.offsets).jets
    assert changed.jet_momenta is not None
    torch.testing.assert_close(changed.jet_momenta - sums, own - jets.jets, rtol=1e-3, atol=1e-2)
    assert not torch.allclose(changed.jet_momenta, own)


def test_copies_are_the_same_each_time_and_more_of_them_begin_with_fewer(jets: JetBatch) -> None:
    two = changed_copies(jets, CopiesConfig(number=2))
    torch.manual_seed(99)
    three = changed_copies(jets, CopiesConfig(number=3))
    assert len(three) == 150
    assert torch.equal(two.four_momenta, three.slice(0, 100).four_momenta)
    assert not torch.equal(three.slice(0, 50).jets, three.slice(50, 100).jets)
    other = changed_copies(jets, CopiesConfig(number=2, seed=1))
    assert not torch.equal(two.jets, other.jets)


def test_a_number_alone_is_a_block_and_none_is_none() -> None:
    teacher = {"run": "runs/x"}
    assert DistillConfig(teacher=teacher, copies=3).copies == CopiesConfig(number=3)  # type: ignore[arg-type]
    assert DistillConfig(teacher=teacher, copies=0).copies is None  # type: ignore[arg-type]


def test_copies_have_what_the_model_reads(jets: JetBatch) -> None:
    copies = changed_copies(jets, CopiesConfig())
    name = extra(2, 1.0)
    read = as_read(copies, Inputs(features=("log_pt",), extras=(name,), max_constituents=4))
    assert read.max_count <= 4
    assert read.features is not None
    assert read.features.shape == (len(read.four_momenta), 1)
    assert read.extras[name].shape[0] == len(copies)
    with pytest.raises(ConfigError, match=r"copies have momenta alone, and charge"):
        as_read(copies, Inputs(features=("log_pt", "charge")))


@pytest.mark.parametrize("model", ["pfn", "{name: topodnn, constituents: 5, hidden: [8]}"])
def test_the_teacher_scores_each_copy_whole(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    train(tiny("training.epochs=2"), tmp_path / "teacher")
    config = tiny(
        f"model={model}",
        "training.epochs=1",
        f"distill.teacher.run={tmp_path}/teacher",
        f"distill.cache={tmp_path}/cache",
        "distill.copies=2",
    )
    kept: list[Targets] = []
    prepared = distillation.prepare

    def watched(*args: object) -> Targets | None:
        kept.append(prepared(*args))  # type: ignore[arg-type]
        return kept[-1]

    monkeypatch.setattr(distillation, "prepare", watched)
    summary = train(config, tmp_path / "student")
    assert summary["jets"]["train"] == 400
    assert summary["copies"] == 800
    rows = kept[0].log_probabilities.exp().numpy()
    whole = open_jets(config.data, Inputs()).train
    copies = changed_copies(whole.batch(np.arange(400)), CopiesConfig(number=2))
    expected = predict(load_model(tmp_path / "teacher"), copies)
    np.testing.assert_allclose(rows[400:], expected, atol=1e-5)
