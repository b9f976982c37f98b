"""Files of the released Lorentz Group Network load, give its numbers, and are refused by name where they are
others."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import released_lgn
import torch
from torch import Tensor

from hepml import pretrained
from hepml.data.batch import JetBatch
from hepml.errors import HepmlError
from hepml.pretrained import lgn
from hepml.testing import assert_invariant, sample_jets

DATA = Path(__file__).parent / "data"


@pytest.fixture
def state() -> OrderedDict[str, Tensor]:
    return released_lgn.weights()


def test_a_released_file_is_6014_numbers_and_gives_the_numbers_of_its_program(
    state: OrderedDict[str, Tensor], tmp_path: Path
) -> None:
    model = pretrained.load(released_lgn.write(tmp_path / "run5_best.pt", state))
    assert sum(p.numel() for p in model.parameters()) == 6014
    assert model.hepml_name == "lgn"
    model.double().load_state_dict(lgn.read(state)[1])  # without the rounding of float32
    jets = released_lgn.jets()
    offsets = np.cumsum([0, *map(len, jets)])
    with torch.no_grad():
        found = model(JetBatch.from_arrays(np.concatenate(jets), offsets)).numpy()
    wanted = np.load(DATA / "lgn_released.npz")["outputs"]
    assert np.ptp(wanted, axis=0).min() > 1
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_without_beams_a_released_file_is_lorentz_invariant(
    state: OrderedDict[str, Tensor], tmp_path: Path
) -> None:
    """Beams break the symmetry, as they do in the released network; the same weights without them keep it."""
    path = released_lgn.write(tmp_path / "run1.pt", state)
    model = pretrained.load(path).double()
    assert_invariant(model, "azimuthal-rotation", tolerance=1e-9)
    with pytest.raises(AssertionError):
        assert_invariant(model, "boost-x", gammas=(3,), tolerance=1e-9)
    state["input_func_atom.weights.(0, 0)"] = state["input_func_atom.weights.(0, 0)"][:, :, :1].contiguous()
    alone = pretrained.load(released_lgn.write(path, state, add_beams=False)).double()
    assert alone.hepml_hyperparameters["nodes"] == 126
    assert assert_invariant(alone, "lorentz", tolerance=1e-9, gammas=(10, 100)).relative < 1e-9
    assert_invariant(alone, "permutation", tolerance=1e-9)


def test_scores_do_not_depend_on_the_batch(state: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    model = pretrained.load(released_lgn.write(tmp_path / "run1.pt", state)).double()
    jets = sample_jets(5, mass=0.3)
    with torch.no_grad():
        together, one = model(jets), torch.cat([model(jets[i : i + 1]) for i in range(len(jets))])
    assert torch.allclose(together, one, rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("lgn_cg.atom_levels.1.cat_mix.mix_reps.weights.(2, 2)", "weights do not fit|lacks"),
        ("output_layer_atom.lin.bias", "output_layer_atom.lin.bias"),
        ("lgn_cg.mlp_levels.1.linear.2.weight", "lgn_cg.mlp_levels.1.linear.2.weight"),
    ],
)
def test_a_file_that_lacks_a_parameter_is_refused_by_name(
    change: str, named: str, state: OrderedDict[str, Tensor], tmp_path: Path
) -> None:
    del state[change]
    with pytest.raises(HepmlError, match=named) as told:
        pretrained.load(released_lgn.write(tmp_path / "run1.pt", state))
    assert "Lorentz Group Network" in str(told.value)


def test_other_irreps_scalars_and_training_arguments_are_refused_by_name(
    state: OrderedDict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "run1.pt"
    for name, shape, named in (
        ("lgn_cg.atom_levels.1.cat_mix.mix_reps.weights.(3, 3)", (2, 4, 8), "irreps"),
        ("input_func_atom.weights.(0, 0)", (2, 2, 7), "scalars"),
        ("lgn_cg.atom_levels.2.cat_mix.mix_reps.weights.(1, 1)", (2, 2, 60), "products"),
    ):
        other = OrderedDict(state)
        other[name] = torch.zeros(shape)
        with pytest.raises(HepmlError, match=named):
            pretrained.load(released_lgn.write(path, other))
    with pytest.raises(HepmlError, match="beam_mass"):
        pretrained.load(released_lgn.write(path, state, beam_mass=2))


class _Runs:
    """Unpickled by a careless reader, this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_nothing_in_such_a_file_runs(state: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    """Training arguments are read as plain values; other objects among them are refused, and never made."""
    trap = tmp_path / "trap"
    path = released_lgn.write(tmp_path / "run1.pt", state, prefix=_Runs(trap))
    with pytest.raises(HepmlError, match="Python objects"):
        pretrained.load(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(_Runs(trap)))
    assert trap.exists()
