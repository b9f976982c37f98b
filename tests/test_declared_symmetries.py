"""Every symmetry that a registered model declares is measured; where a model declares none, the same measurement shows it broken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hepml.models import create, registry
from hepml.testing import assert_invariant, measure, sample_jets

# Small sizes, for speed; a model that is not named here is measured as it is.
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"pixels": 16, "maps": ((4, 4), (6,)), "head": (8,)},
    "dgcnn": {"widths": (8, 8), "neighbours": 4, "fusion": 8, "head": (8,)},
    "efn": {"phi": (8, 8), "f": (8,)},
    "gat": {"widths": (8, 8), "neighbours": 4, "embed": 8, "head": (8,)},
    "gcn": {"widths": (8, 8), "neighbours": 4, "embed": 8, "head": (8,)},
    "graph_network": {"widths": (8, 8), "neighbours": 4, "embed": 8, "head": (8,)},
    "hamiltonian_cloud": {"hidden": 8, "embedding": (8,), "phi": (8,), "f": (8,)},
    "lgatr": {"channels": 2, "scalars": 4, "blocks": 2, "heads": 2},
    "lgatr_slim": {"vectors": 4, "scalars": 8, "blocks": 2, "heads": 2},
    "lgn": {"channels": (2, 3, 2)},
    "lloca": {"hidden": 8, "backbone_arguments": {"width": 16, "heads": 2, "blocks": 2}},
    "lloca_transformer": {"width": 24, "heads": 2, "blocks": 2, "hidden": 8},
    "lorentznet": {"n_hidden": 8, "n_blocks": 3},
    "part": {"embedding": (16, 16), "pair_embedding": (8,), "heads": 2, "blocks": 2, "class_blocks": 1},
    "p_cnn": {"stem": 4, "stages": ((6,), (8, 8)), "head": (8,)},
    "particlenet": {"widths": ((8, 8), (8, 8)), "neighbours": 4, "head": (8,)},
    "particlenet_lite": {"widths": ((8, 8), (8, 8)), "neighbours": 4, "head": (8,)},
    "pelican": {"hidden": 9, "messages": 6, "blocks": 2, "scalars": 3},
    "pfn": {"phi": (8, 8), "f": (8,)},
    "residual_cloud": {"embedding": (8,), "phi": (8,), "f": (8,)},
    "resnext": {"pixels": 16, "stem": 6, "widths": (4, 8), "blocks": (1, 2), "groups": 2},
    "rnn": {"hidden": 8, "head": (8,)},
    "topodnn": {"hidden": (16, 8)},
    "transformer": {"width": 16, "heads": 2, "blocks": 2},
}
# What a declared symmetry is measured as. Models that are equivariant by construction are held to far less than rounding allows others.
MEASURED = ("permutation", "rotation", "azimuthal-rotation", "lorentz", "irc-safe")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
CARRIED_ALONG = {"lorentz": ("rotation", "azimuthal-rotation"), "rotation": ("azimuthal-rotation",)}
BROKEN = 1e-5  # a model that does not know a symmetry moves by far more than rounding

NAMES = sorted(registry())


def random_model(name: str) -> nn.Module:
    """A registered model with random weights, and with the statistics and affine maps of its batch norms randomised."""
    torch.manual_seed(7)
    model = create(name, outputs=3, **SMALL.get(name, {}))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def respected(name: str) -> set[str]:
    declared = set(registry()[name].symmetries)
    return declared.union(*(CARRIED_ALONG.get(s, ()) for s in declared))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("name", "symmetry"), [(n, s) for n in NAMES for s in sorted(respected(n)) if s in MEASURED])
def test_declared_symmetry_holds(name: str, symmetry: str, dtype: torch.dtype) -> None:
    """Under boosts to gamma = 4000 too, where the symmetry has boosts."""
    assert_invariant(
        random_model(name), symmetry, dtype=dtype, tolerance=TOLERANCE[dtype], gammas=(1.5, 10, 100, 4000), repeats=2
    )


@pytest.mark.parametrize(("name", "symmetry"), [(n, s) for n in NAMES for s in MEASURED if s not in respected(n)])
def test_symmetry_that_is_not_declared_is_broken(name: str, symmetry: str) -> None:
    model = random_model(name)
    assert float(measure(model, symmetry, gammas=(2,), repeats=2)) > BROKEN
    with pytest.raises(AssertionError, match=f"not invariant under {symmetry}"):
        assert_invariant(model, symmetry, gammas=(2,), repeats=2)


@pytest.mark.parametrize("name", [n for n in NAMES if "energy-conserving" in registry()[n].symmetries])
def test_declared_energy_is_conserved_to_the_square_of_the_step(name: str) -> None:
    jets, drift = sample_jets(), []
    for steps in (8, 16):
        torch.manual_seed(7)
        model = create(name, steps=steps, step_size=1 / steps, **SMALL.get(name, {})).double().eval()
        with torch.no_grad():
            before = model.energy(jets, after=False)
            drift.append(float(((model.energy(jets) - before).abs() / before.abs().mean()).max()))
    assert drift[1] < 1e-2
    assert drift[0] / drift[1] > 3, drift


def test_every_declaration_is_measured_somewhere_here() -> None:
    declared = {symmetry for entry in registry().values() for symmetry in entry.symmetries}
    assert declared <= {*MEASURED, "energy-conserving"}
    assert set(SMALL) <= set(NAMES)
