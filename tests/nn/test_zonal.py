"""Messages of irreps, made without pairs of irreps, against their definition as a sum over pairs; and their
covariance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hepml import kinematics
from hepml.nn.lorentz import zonal
from hepml.nn.lorentz.clebsch_gordan import decomposition, product
from hepml.nn.lorentz.irreps import (
    dimension,
    from_four_vector,
    irrep_matrix,
    lorentz_matrix,
    sl2_boost,
    sl2_rotation,
)
from hepml.nn.lorentz.zonal import (
    Distances,
    RadialFunctions,
    groups_of_similar_size,
    message_types,
    zonal_messages,
)
from hepml.packed.rectangle import widest
from hepml.testing import sample_jets

IRREPS = [(0, 0), (1, 1), (2, 0), (2, 2)]


def setting(mass: float = 0.3) -> tuple[Tensor, Tensor, dict[tuple[int, int], Tensor], RadialFunctions]:
    """Momenta, offsets, features of two channels, radial functions; jets of 2, 0, 1 and 5 particles."""
    torch.manual_seed(0)
    x = sample_jets(2, mass=mass, smallest=3, largest=5).four_momenta / 100
    offsets = torch.tensor([0, 2, 2, 3, 8])
    features = {k: torch.randn(2, 8, dimension(k), dtype=torch.complex128) for k in IRREPS}
    return x, offsets, features, RadialFunctions(2, 3).double()


def messages(
    x: Tensor, offsets: Tensor, features: dict[tuple[int, int], Tensor], radial: RadialFunctions
) -> dict[tuple[int, int], list[Tensor]]:
    distances = Distances.of(x, offsets, widest(offsets), None, 1.0, torch.float64)
    return zonal_messages(features, from_four_vector(x), radial(distances.values), distances, 2)


def test_messages_are_the_sums_over_pairs_that_define_them() -> None:
    x, offsets, features, radial = setting()
    got = messages(x, offsets, features, radial)
    expected = {k: [torch.zeros_like(v) for v in values] for k, values in got.items()}
    jet = torch.repeat_interleave(torch.arange(4), offsets.diff())
    for i in range(8):
        for j in range(8):
            if i == j or jet[i] != jet[j]:
                continue
            difference = x[i] - x[j]
            s = kinematics.minkowski_product(difference, difference)
            r = radial((s.sign() * s.abs().sqrt()).view(1, 1))[0, :, 0]
            seen = dict.fromkeys(got, 0)
            for irrep, f in features.items():
                expected[irrep][0][:, i] += r[:2, None] * f[:, j]
                seen[irrep] = 1
            for irrep, f in features.items():
                for result in decomposition((1, 1), irrep, 2):
                    part = product(from_four_vector(difference), f[:, j], (1, 1), irrep, result)
                    expected[result][seen[result]][:, i] += r[2:, None] * part
                    seen[result] += 1
    assert message_types(IRREPS, 2) == {k: len(v) for k, v in got.items()}
    for irrep, values in got.items():
        for a, b in zip(values, expected[irrep], strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9), irrep


@pytest.mark.parametrize("gamma", [1.0, 2.0, 30.0])
def test_messages_are_covariant(gamma: float) -> None:
    x, offsets, features, radial = setting()
    axis = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    a = sl2_boost(axis, gamma) @ sl2_rotation(axis.flip(0), 1.3)
    moved = {k: v @ irrep_matrix(k, a).T for k, v in features.items()}
    before = messages(x, offsets, features, radial)
    after = messages(kinematics.transform(x, lorentz_matrix(a)), offsets, moved, radial)
    for irrep, values in before.items():
        for value, got in zip(values, after[irrep], strict=True):
            expected = value @ irrep_matrix(irrep, a).T
            assert (got - expected).abs().max() < 1e-10 * expected.abs().max() * gamma, irrep
    features[1, 1] = features[1, 1].conj()  # the negative case: what transforms otherwise is noticed
    moved[1, 1] = moved[1, 1].conj()
    before = messages(x, offsets, features, radial)
    after = messages(kinematics.transform(x, lorentz_matrix(a)), offsets, moved, radial)
    worst = max(
        (w - v @ irrep_matrix(k, a).T).abs().max().item()
        for k in after
        for v, w in zip(before[k], after[k], strict=True)
    )
    assert worst > 0.1


def test_jets_are_grouped_by_size_and_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(zonal._PAIRS, "cpu", 400)
    counts = torch.tensor([0, 0, 1, 1, 2, 3, 10, 10, 11, 11, 12, 100])
    groups = list(groups_of_similar_size(counts))
    assert [low for low, _ in groups] == [0, *(high for _, high in groups)][:-1]
    assert groups[-1][1] == len(counts)
    for low, high in groups:
        own = counts[low:high]
        assert own[-1] <= 4 or own[-1] <= 1.25 * own[0]
        assert high - low == 1 or own[-1] <= 4 or own.square().sum() <= 800
    assert list(groups_of_similar_size(counts[:0])) == []
