"""Particle Transformers trained with weaver-core load by `hepml.pretrained.load`, and their outputs are
weaver's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from padded import dense_features
from torch import nn

from hepml import pretrained
from hepml.data.batch import JetBatch
from hepml.data.features import FEATURE_SETS
from hepml.errors import ModelError
from hepml.models import count_parameters, create
from hepml.models.part import weaver_state_dict_to_hepml
from hepml.packed.rectangle import to_dense
from hepml.training.checkpoints import initialise_from

DATA = Path(__file__).parent / "data"
SETS = {7: "kinematic", 13: "kinematic_pid", 17: "full"}
OUTPUTS = {7: 2, 13: 10, 17: 10}


def golden_jets(columns: int, dtype: torch.dtype) -> tuple[JetBatch, torch.Tensor]:
    """The stored jets and weaver's logits."""
    golden = np.load(DATA / "weaver_part.npz")
    offsets = np.concatenate([[0], np.cumsum(golden["counts"])])
    names = FEATURE_SETS[SETS[columns]]
    batch = JetBatch.from_arrays(
        golden["four_momenta"], offsets, golden[f"features_{columns}"], feature_names=names, dtype=dtype
    )
    return batch, torch.from_numpy(golden[f"logits_{columns}"])


@pytest.mark.parametrize("columns", SETS)
def test_stored_weaver_logits_are_reproduced_for_jets_of_any_length(columns: int) -> None:
    """The stored logits were made by `data/make_weaver_part_golden.py`, in float64."""
    model = pretrained.load(DATA / f"weaver_part_{columns}.pt")
    assert model.hepml_name == "part"
    assert model.hepml_hyperparameters["features"] == SETS[columns]
    assert model.rounded_masses
    assert not model.training
    assert len(model.hepml_classes) == OUTPUTS[columns]
    assert (model.hepml_classes[0] == "QCD") == (columns > 7)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        batch, expected = golden_jets(columns, dtype)
        with torch.no_grad():
            found = model.to(dtype)(batch)
        assert (found - expected).abs().max() < tolerance
        assert found.std(0).min() > 1e-2  # and jets do differ


def test_gradients_do_not_change_what_evaluation_computes() -> None:
    model = pretrained.load(DATA / "weaver_part_7.pt").double()
    batch, expected = golden_jets(7, torch.float64)
    assert (model(batch) - expected).abs().max() < 1e-11


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {**s, "mod.surprise.weight": torch.zeros(2)}, "has surprise.weight"),
        (lambda s: {k: v for k, v in s.items() if k != "mod.fc.0.bias"}, "lacks fc.0.bias"),
        (lambda s: {k: v for k, v in s.items() if not k.endswith("c_attn")}, "lacks blocks.0.c_attn"),
        (lambda s: {**s, "mod.embed.input_bn.weight": torch.zeros(11)}, "11 input columns"),
        (lambda s: {**s, "mod.pair_embed.embed.0.weight": torch.zeros(6)}, "6 pair features"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: object, said: str, tmp_path: Path) -> None:
    state = torch.load(DATA / "weaver_part_7.pt", weights_only=True)
    torch.save(change(state), tmp_path / "changed.pt")  # type: ignore[operator]
    with pytest.raises(ModelError, match=said):
        pretrained.load(tmp_path / "changed.pt")


def test_a_fine_tuning_takes_all_but_the_last_layer() -> None:
    """`model: {pretrained: PATH}` builds the network from the file, with outputs of its own."""
    given = pretrained.load(DATA / "weaver_part_13.pt")
    hyperparameters = {**given.hepml_hyperparameters, "outputs": 2}
    model = create("part", **hyperparameters)
    fresh = initialise_from(model, DATA / "weaver_part_13.pt")
    assert sorted(fresh) == ["fc.1.bias", "fc.1.weight"]
    assert torch.equal(model.blocks[1].fc1.weight, given.blocks[1].fc1.weight)


def padded(batch: JetBatch, names: tuple[str, ...], width: int) -> tuple[torch.Tensor, ...]:
    """Features, momenta (px, py, pz, E) and mask as weaver's network takes them."""
    x, mask = dense_features(batch, names, width)
    v = to_dense(batch.four_momenta[:, [1, 2, 3, 0]], batch.offsets, width)
    return x.mT, v.mT, mask[:, None].to(x.dtype)


def stirred(model: nn.Module) -> nn.Module:
    """Batch norms, scales and biases that are far from the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.2)
    return model


@pytest.mark.parametrize(("features", "columns", "outputs"), [("kinematic", 7, 2), ("full", 17, 10)])
def test_the_published_network_is_weavers(features: str, columns: int, outputs: int) -> None:
    """2,141,134 and 2,143,486 parameters, and the same outputs whatever weaver's padding."""
    weaver = pytest.importorskip("weaver.nn.model.ParticleTransformer", reason="extra 'bench'")
    torch.manual_seed(2)
    theirs = (
        stirred(weaver.ParticleTransformer(columns, outputs, use_pre_activation_pair=False)).double().eval()
    )
    ours = create("part", features=features, outputs=outputs).double().eval()
    assert count_parameters(ours) == sum(p.numel() for p in theirs.parameters())
    ours.load_state_dict(weaver_state_dict_to_hepml(theirs.state_dict()))
    batch, _ = golden_jets(columns, torch.float64)
    with torch.no_grad():
        found = ours(batch)
        for width in (40, 64):
            assert (found - theirs(*padded(batch, ours.features, width))).abs().max() < 1e-11


def test_outputs_are_weavers_on_real_jets(shared: Path) -> None:
    """Momenta of the file are float32, so that the mass of a narrow pair is rounding. In float64 both take
    the same rounding for it.

    In float32 weaver's own arithmetic rounds it again, which moves its logits here by 0.1; hepml's stay with
    those of float64.
    """
    weaver = pytest.importorskip("weaver.nn.model.ParticleTransformer", reason="extra 'bench'")
    path = shared / "data" / "real" / "toptag_reference_1000.npz"
    file = np.load(path)
    batch = JetBatch.from_arrays(file["four_momenta"], file["offsets"], dtype=torch.float64).take(
        torch.arange(12)
    )
    torch.manual_seed(2)
    theirs = weaver.ParticleTransformer(7, 2, use_pre_activation_pair=False).double().train()
    ours = create("part", rounded_masses=True).double().eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = 1.0  # running statistics are those of these jets
        theirs(*padded(batch, ours.features, batch.max_count))
        theirs.eval()
        ours.load_state_dict(weaver_state_dict_to_hepml(theirs.state_dict()))
        expected = theirs(*padded(batch, ours.features, 128))
        assert (ours(batch) - expected).abs().max() < 1e-7
        assert (ours.float()(batch.to(torch.float32)) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("last_activation", [True, False])
def test_a_training_step_is_weavers_where_nothing_is_padded(last_activation: bool) -> None:
    """Outputs, gradients and running statistics, without dropout and before weaver's trimmer begins."""
    weaver = pytest.importorskip("weaver.nn.model.ParticleTransformer", reason="extra 'bench'")
    torch.manual_seed(2)
    sizes = {"embed_dims": (16, 32, 16), "pair_embed_dims": (8, 12), "num_heads": 4, "num_layers": 2}
    none = {"dropout": 0, "attn_dropout": 0, "activation_dropout": 0}
    theirs = weaver.ParticleTransformer(
        7, 2, use_pre_activation_pair=not last_activation, block_params=none, trim=False, **sizes
    )
    theirs = stirred(theirs).double().train()
    ours = create(
        "part", embedding=(16, 32, 16), pair_embedding=(8, 12), heads=4, blocks=2, dropout=0.0,
        attention_dropout=0.0,
        pair_activation=last_activation,
    ).double().train()  # fmt: skip
    ours.load_state_dict(weaver_state_dict_to_hepml(theirs.state_dict()))
    momenta = golden_jets(7, torch.float64)[0].four_momenta[:100]
    batch = JetBatch.from_arrays(momenta, torch.arange(0, 101, 20), labels=torch.tensor([0, 1, 1, 0, 1]))
    results = []
    for logits, model in ((ours(batch), ours), (theirs(*padded(batch, ours.features, 20)), theirs)):
        nn.functional.cross_entropy(logits, batch.labels).backward()
        gradients = {f"{name}.grad": p.grad for name, p in model.named_parameters()}
        results.append(
            weaver_state_dict_to_hepml({**model.state_dict(), **gradients, "logits": logits.detach()})
        )
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert torch.allclose(value, results[1][name].reshape(value.shape), rtol=1e-7, atol=1e-10), name
