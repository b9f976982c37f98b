"""Every symmetry that a registered model declares is measured; where a model declares none, the same
measurement shows it broken."""

from __future__ import annotations

import pytest
import torch
from small_taggers import NAMES, SMALL, random_tagger

from hepml.models import create, registry
from hepml.testing import assert_invariant, measure, sample_jets

# What a declared symmetry is measured as. Models that are equivariant by construction are held to far less
# than rounding allows others.
MEASURED = ("permutation", "rotation", "azimuthal-rotation", "lorentz", "irc-safe")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
CARRIED_ALONG = {"lorentz": ("rotation", "azimuthal-rotation"), "rotation": ("azimuthal-rotation",)}
BROKEN = 1e-5  # a model that does not know a symmetry moves by far more than rounding


def respected(name: str) -> set[str]:
    declared = set(registry()[name].symmetries)
    return declared.union(*(CARRIED_ALONG.get(s, ()) for s in declared))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "symmetry"), [(n, s) for n in NAMES for s in sorted(respected(n)) if s in MEASURED]
)
def test_declared_symmetry_holds(name: str, symmetry: str, dtype: torch.dtype) -> None:
    """Under boosts to gamma = 4000 too, where the symmetry has boosts."""
    assert_invariant(
        random_tagger(name, outputs=3),
        symmetry,
        dtype=dtype,
        tolerance=TOLERANCE[dtype],
        gammas=(1.5, 10, 100, 4000),
        repeats=2,
    )


@pytest.mark.parametrize(
    ("name", "symmetry"), [(n, s) for n in NAMES for s in MEASURED if s not in respected(n)]
)
def test_symmetry_that_is_not_declared_is_broken(name: str, symmetry: str) -> None:
    model = random_tagger(name, outputs=3)
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
