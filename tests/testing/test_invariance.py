"""`hepml.testing` passes models that respect a symmetry, fails those that do not, and says where."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import ModelError
from hepml.testing import GROUPS, assert_invariant, measure, sample_jets


class Function(nn.Module):
    """A model without parameters, from a function."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, batch: JetBatch) -> Tensor:
        return self.function(batch)  # type: ignore[operator, no-any-return]


def per_jet(batch: JetBatch, values: Tensor) -> Tensor:
    return values.new_zeros((len(batch), *values.shape[1:])).index_add_(0, batch.jet_of, values)


jet_mass = Function(lambda b: kinematics.mass(b.jets)[:, None])
jet_energy = Function(lambda b: b.jets[:, :1])
jet_momentum = Function(lambda b: torch.linalg.vector_norm(b.jets[:, 1:], dim=-1, keepdim=True))
jet_pt = Function(lambda b: kinematics.pt(b.jets)[:, None])
first_energy = Function(lambda b: b.four_momenta[b.offsets[:-1], :1])
multiplicity = Function(lambda b: b.counts[:, None].to(b.dtype))
girth = Function(lambda b: per_jet(b, b.select(("pt_fraction",)) * b.select(("delta_r",))))
squares = Function(lambda b: per_jet(b, b.select(("pt_fraction",)).square()))

HOLDS = [
    (jet_mass, "lorentz"),
    (jet_mass, "boost-x"),
    (jet_mass, "boost-y"),
    (jet_mass, "boost-z"),
    (jet_mass, "irc-safe"),
    (jet_momentum, "rotation"),
    (jet_pt, "azimuthal-rotation"),
    (jet_pt, "boost-z"),
    (jet_energy, "permutation"),
    (multiplicity, "lorentz"),
    (girth, "irc-safe"),
    (squares, "soft"),
]
BREAKS = [
    (jet_energy, "lorentz"),
    (jet_pt, "lorentz"),
    (jet_pt, "boost-x"),
    (jet_pt, "boost-y"),
    (jet_pt, "rotation"),
    (jet_energy, "boost-z"),
    (Function(lambda b: b.jets[:, 1:2]), "azimuthal-rotation"),
    (first_energy, "permutation"),
    (multiplicity, "soft"),
    (multiplicity, "collinear"),
    (multiplicity, "irc-safe"),
    (squares, "collinear"),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("model", "group"), HOLDS)
def test_invariant_functions_pass(model: nn.Module, group: str, dtype: torch.dtype) -> None:
    assert_invariant(model, group, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("model", "group"), BREAKS)
def test_other_functions_fail(model: nn.Module, group: str, dtype: torch.dtype) -> None:
    with pytest.raises(AssertionError, match=f"not invariant under {group}"):
        assert_invariant(model, group, dtype=dtype)


def test_every_group_has_a_function_that_passes_and_one_that_fails() -> None:
    assert {group for _, group in HOLDS} | {"collinear"} == set(GROUPS)
    assert {group for _, group in BREAKS} == set(GROUPS)


def test_the_message_says_how_much_which_jet_and_which_element() -> None:
    with pytest.raises(
        AssertionError,
        match=r"relative deviation [\d.e+]+ > .* in jet \d+ under (a )?rotation by .* about \(.*became",
    ):
        assert_invariant(jet_pt, "rotation")
    with pytest.raises(AssertionError, match=r"boost along -?x with gamma 3"):
        assert_invariant(jet_pt, "boost-x", gammas=(3,))


def test_a_tiny_violation_is_found_and_measured() -> None:
    slightly = Function(lambda b: kinematics.mass(b.jets)[:, None] + 1e-7 * b.jets[:, :1])
    deviation = measure(slightly, "boost-x", gammas=(2,))
    assert 1e-8 < deviation.relative < 1e-5
    with pytest.raises(AssertionError):
        assert_invariant(slightly, "boost-x", gammas=(2,))


def test_outputs_that_are_not_finite_fail() -> None:
    class OnlyHere(nn.Module):
        calls = 0

        def forward(self, batch: JetBatch) -> Tensor:
            OnlyHere.calls += 1
            return torch.full(
                (len(batch), 1), 1.0 if OnlyHere.calls == 1 else float("nan"), dtype=batch.dtype
            )

    with pytest.raises(AssertionError, match="inf"):
        assert_invariant(OnlyHere(), "permutation")


def test_the_deviation_is_returned_logged_and_known_by_gamma(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hepml.testing"):
        deviation = assert_invariant(jet_mass, "lorentz", gammas=(2, 50))
    assert set(deviation.by_gamma) == {1.0, 2.0, 50.0}
    assert float(deviation) == max(deviation.by_gamma.values())
    assert "lorentz: relative deviation" in caplog.text


def test_the_model_stays_as_it_is() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(1, 2)

        def forward(self, batch: JetBatch) -> Tensor:
            return self.map(kinematics.mass(batch.jets)[:, None] / 100)

    net = Net().train()
    assert_invariant(net, "lorentz")
    assert net.training
    assert net.map.weight.dtype == torch.float32


def test_own_jets_with_track_features_keep_them_under_a_boost() -> None:
    jets = sample_jets()
    columns = torch.stack(
        (jets.select(("log_pt",))[:, 0], torch.arange(len(jets.four_momenta)).double().sin()), dim=1
    )
    own = JetBatch.from_arrays(jets.four_momenta, jets.offsets, columns, feature_names=("log_pt", "d0"))
    displaced = Function(lambda b: per_jet(b, b.select(("d0",))))
    assert_invariant(displaced, "lorentz", own)
    with pytest.raises(AssertionError):  # a kinematic column is made anew, not carried along
        assert_invariant(Function(lambda b: per_jet(b, b.select(("log_pt",)))), "lorentz", own)
    unnamed = JetBatch.from_arrays(jets.four_momenta, jets.offsets, columns)
    with pytest.raises(ModelError, match="features without names"):
        measure(jet_mass, "lorentz", unnamed)


def test_unknown_groups_and_shapes_are_named() -> None:
    with pytest.raises(ModelError, match="did you mean 'lorentz'"):
        measure(jet_mass, "lorenz")
    with pytest.raises(ModelError, match="one row of outputs a jet"):
        measure(Function(lambda b: b.four_momenta), "permutation")


def test_sample_jets_are_massless_and_never_alike() -> None:
    jets = sample_jets(5, smallest=1, largest=9)
    assert jets.counts.tolist() == [1, 3, 5, 7, 9]
    assert (kinematics.mass_squared(jets.four_momenta).abs() < 1e-9 * jets.four_momenta[:, 0] ** 2).all()
    assert torch.equal(jets.four_momenta, sample_jets(5, smallest=1, largest=9).four_momenta)
    assert len(torch.unique(jets.four_momenta[:, 0])) == 25
