"""ParticleNet equals weaver-core's own network with the same weights (extra `bench`), padding and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cloud import cloud
from padded import dense_features
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.models.particlenet import weaver_state_dict_to_hepml
from hepml.packed.rectangle import mask_of, to_dense

weaver = pytest.importorskip(
    "weaver.nn.model.ParticleNet", reason="weaver-core is absent: pip install 'hepml-jets[bench]'"
)
WIDTHS = ((16, 16, 16), (24, 24, 24))


def theirs(
    columns: int, outputs: int, widths: tuple[tuple[int, ...], ...], k: int, **options: object
) -> nn.Module:
    return weaver.ParticleNet(
        columns,
        outputs,
        [(k, w) for w in widths],
        [(32, 0.1)],
        **{"use_fusion": False, "trim": False, **options},
    )


def stirred(model: nn.Module) -> nn.Module:
    """Batch norms that are far from the identity."""
    torch.manual_seed(5)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def padded(model: nn.Module, batch: JetBatch, names: tuple[str, ...], width: int) -> Tensor:
    """weaver's network on the same jets, padded to `width`."""
    x, mask = dense_features(batch, names, width)
    x = x.transpose(1, 2).contiguous()
    at = [names.index("delta_eta"), names.index("delta_phi")]
    return model(x[:, at], x, mask[:, None])


@pytest.mark.parametrize("fusion", [False, True])
@pytest.mark.parametrize("features", ["kinematic", ("delta_eta", "log_pt", "delta_phi")])
def test_outputs_equal_weaver_whatever_its_padding(fusion: bool, features: str | tuple[str, ...]) -> None:
    batch = cloud((30, 0, 12, 1, 41, 2, 17, 25, 16, 7))
    ours = create(
        "particlenet", outputs=3, features=features, neighbours=7, widths=WIDTHS, head=(32,), fusion=fusion
    )
    names = ours.inputs.features
    reference = stirred(theirs(len(names), 3, WIDTHS, 7, use_fusion=fusion)).double().eval()
    ours.load_state_dict(
        weaver_state_dict_to_hepml({f"mod.{k}": v for k, v in reference.state_dict().items()})
    )
    ours = ours.double().eval()
    with torch.no_grad():
        found = ours(batch)
        for width in (49, 60, 128):
            assert torch.allclose(found, padded(reference, batch, names, width), atol=1e-12)
        # With gradients the plain definition runs, not the folded one.
    assert torch.allclose(found, ours(batch), atol=1e-12)


def test_a_training_step_equals_weaver_where_nothing_is_padded() -> None:
    batch = cloud([25] * 6)
    ours = create("particlenet", neighbours=7, widths=WIDTHS, head=(32,), dropout=0.0).double().train()
    reference = stirred(theirs(7, 2, WIDTHS, 7)).double().train()
    for module in reference.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ours.load_state_dict(weaver_state_dict_to_hepml(reference.state_dict()))
    results = []
    for logits, model in (
        (ours(batch), ours),
        (padded(reference, batch, ours.inputs.features, 25), reference),
    ):
        nn.functional.cross_entropy(logits, batch.labels).backward()
        gradients = {f"{name}.grad": p.grad for name, p in model.named_parameters()}
        results.append(
            weaver_state_dict_to_hepml({**model.state_dict(), **gradients, "logits": logits.detach()})
        )
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert torch.allclose(value, results[1][name], rtol=1e-8, atol=1e-11), name


def published(shared: Path, jets: str, dtype: torch.dtype, most: int) -> tuple[Tensor, Tensor, JetBatch]:
    """Logits of both with the published JetClass weights on shared jets, and the jets."""
    data, weights = (
        shared / "data" / "real" / f"{jets}.npz",
        shared / "reference" / "weights" / "particlenet_jetclass_kin.pt",
    )
    arrays = np.load(data)
    batch = JetBatch.from_arrays(arrays["four_momenta"], arrays["offsets"]).to(dtype).take(torch.arange(most))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    ours = create("particlenet", outputs=10)
    ours.load_state_dict(weaver_state_dict_to_hepml(state))
    reference = weaver.ParticleNet(
        7,
        10,
        [(16, (64,) * 3), (16, (128,) * 3), (16, (256,) * 3)],
        [(256, 0.1)],
        use_fusion=False,
        trim=False,
    )
    reference.load_state_dict({name.removeprefix("mod."): value for name, value in state.items()})
    with torch.no_grad():
        found = ours.to(dtype).eval()(batch)
        names = ours.inputs.features
        return found, padded(reference.to(dtype).eval(), batch, names, max(batch.max_count, 17)), batch


def test_published_weights_give_weavers_outputs_on_jetclass_jets(shared: Path) -> None:
    found, expected, _ = published(shared, "jetclass_500", torch.float32, 100)
    assert (found - expected).abs().max() < 1e-5


def test_published_weights_give_weavers_outputs_on_reference_jets_without_twins(shared: Path) -> None:
    found, expected, batch = published(shared, "toptag_reference_1000", torch.float64, 60)
    at = batch.select(("delta_eta", "delta_phi"))
    x, mask = to_dense(at, batch.offsets), mask_of(batch.offsets, batch.max_count)
    apart = (x[:, :, None] - x[:, None]).square().sum(-1)
    apart = apart.masked_fill(~mask[:, None] | ~mask[:, :, None], 9.0)
    apart.diagonal(dim1=1, dim2=2).fill_(9.0)
    single = apart.amin(dim=(1, 2)) > 1e-13  # weaver drops a constituent or its twin, as rounding falls
    assert single.sum() > 4
    assert (found - expected)[single].abs().max() < 1e-9
