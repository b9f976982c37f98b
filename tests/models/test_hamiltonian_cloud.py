"""The Hamiltonian cloud is what it says: reversible, volume-preserving, energy-conserving,
permutation-invariant, frugal."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.models import create
from hepml.models.catalogue import count_parameters
from hepml.nn.kernels.pair_sums import differences, products, spread
from hepml.nn.symplectic import CloudHamiltonian, flow
from hepml.packed.pairs import UnorderedPairs
from hepml.packed.rectangular import rectangular


def jets(
    counts: tuple[int, ...] = (7, 0, 12, 1, 30), seed: int = 0, dtype: torch.dtype = torch.float64
) -> JetBatch:
    """Collimated massless constituents around pT = 500 GeV jets."""
    g = torch.Generator().manual_seed(seed)
    n = sum(counts)
    pt = torch.rand(n, generator=g, dtype=dtype) * 40 + 1
    eta, phi = 0.3 * torch.randn(n, generator=g, dtype=dtype), 0.3 * torch.randn(n, generator=g, dtype=dtype)
    p = torch.stack(
        (pt * torch.cosh(eta), pt * torch.cos(phi), pt * torch.sin(phi), pt * torch.sinh(eta)), dim=-1
    )
    offsets = torch.tensor((0, *counts)).cumsum(0)
    return JetBatch.from_arrays(p, offsets)


def cloud(**arguments: object) -> torch.nn.Module:
    torch.manual_seed(1)
    return create("hamiltonian_cloud", outputs=2, **arguments).double().eval()


def cloud_state(
    d: int = 3, k: int = 4, counts: tuple[int, ...] = (4, 1, 6)
) -> tuple[CloudHamiltonian, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    n = sum(counts)
    h = CloudHamiltonian(d, 16, k).double()
    q, p, c = (torch.randn(n, w, dtype=torch.float64) for w in (d, d, k))
    return h, q, p, c, torch.tensor((0, *counts)).cumsum(0)


def test_packed_pairs_are_each_two_constituents_of_each_jet_once() -> None:
    pairs = UnorderedPairs.of(torch.tensor([0, 2, 2, 3, 6]))
    got = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert got == [(0, 1), (3, 4), (3, 5), (4, 5)]
    assert pairs.second[pairs.by_second].tolist() == [1, 4, 5, 5]
    assert pairs.first[pairs.by_second].tolist() == [0, 3, 3, 4]
    assert pairs.before.diff().tolist() == [0, 1, 0, 0, 1, 2]
    assert pairs.after.diff().tolist() == [1, 0, 0, 2, 1, 0]


@pytest.mark.parametrize("counts", [(4, 0, 1, 6), (0, 1), ()])
def test_sums_over_pairs_are_those_of_the_dense_matrix_and_so_are_their_gradients(
    counts: tuple[int, ...],
) -> None:
    offsets = torch.tensor((0, *counts)).cumsum(0)
    x = torch.randn(sum(counts), 3, dtype=torch.float64, requires_grad=True)
    jet = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))
    together = (jet[:, None] == jet) & ~torch.eye(len(jet), dtype=torch.bool)
    pairs = UnorderedPairs.of(offsets)
    packed = spread(differences(x, pairs) * products(x, pairs), pairs)
    dense = ((x[:, None] - x) * (x[:, None] * x) * together[..., None]).sum(1)
    assert torch.allclose(packed, dense, atol=1e-13)
    ours, theirs = (torch.autograd.grad(value.pow(3).sum(), x)[0] for value in (packed, dense))
    assert torch.allclose(ours, theirs, atol=1e-11)


def test_force_is_minus_the_gradient_of_the_energy() -> None:
    h, q, p, c, offsets = cloud_state()
    pairs = UnorderedPairs.of(offsets)
    q = q.requires_grad_()
    (gradient,) = torch.autograd.grad(h.energy(q, p, c, pairs, offsets).sum(), q)
    assert torch.allclose(h.force(q, products(c, pairs), pairs), -gradient, atol=1e-13)


def test_velocity_is_the_gradient_of_the_energy() -> None:
    h, q, p, c, offsets = cloud_state()
    p = p.requires_grad_()
    (gradient,) = torch.autograd.grad(h.energy(q, p, c, UnorderedPairs.of(offsets), offsets).sum(), p)
    assert torch.allclose(h.velocity(p), gradient, atol=1e-14)


def test_flow_runs_back_to_where_it_began_to_1e_10_in_float64() -> None:
    model, batch = cloud(steps=50), jets()
    with torch.no_grad():
        q, p, c = model.phase_space(batch)
        pairs = UnorderedPairs.of(batch.offsets)
        there = flow(model.hamiltonian, q, p, c, pairs, steps=50, step_size=0.25)
        back = flow(model.hamiltonian, *there, c, pairs, steps=50, step_size=-0.25)
    assert (there[0] - q).abs().max() > 0.1, "nothing moved"
    error = max(float((back[0] - q).abs().max()), float((back[1] - p).abs().max()))
    assert error < 1e-10, error


def test_flow_preserves_phase_space_volume() -> None:
    h, q, p, c, offsets = cloud_state()
    pairs = UnorderedPairs.of(offsets)

    def whole(z: Tensor) -> Tensor:
        a, b = z.view(2, *q.shape)
        return torch.stack(flow(h, a, b, c, pairs, steps=6, step_size=0.3)).flatten()

    jacobian = torch.autograd.functional.jacobian(whole, torch.stack((q, p)).flatten())
    sign, log_determinant = torch.linalg.slogdet(jacobian)
    assert sign == 1
    assert abs(float(log_determinant)) < 1e-10
    assert (jacobian - torch.eye(len(jacobian), dtype=torch.float64)).abs().max() > 0.1, "nothing moved"


def test_flow_is_symplectic() -> None:
    h, q, p, c, offsets = cloud_state(counts=(5,))
    pairs = UnorderedPairs.of(offsets)

    def whole(z: Tensor) -> Tensor:
        a, b = z.view(2, *q.shape)
        return torch.stack(flow(h, a, b, c, pairs, steps=3, step_size=0.3)).flatten()

    m = torch.autograd.functional.jacobian(whole, torch.stack((q, p)).flatten())
    n = q.numel()
    j = torch.zeros(2 * n, 2 * n, dtype=torch.float64)
    j[:n, n:], j[n:, :n] = torch.eye(n), -torch.eye(n)
    assert (m.T @ j @ m - j).abs().max() < 1e-12


def test_energy_drift_falls_with_the_square_of_the_step() -> None:
    batch, drift = jets(), {}
    for steps in (8, 16, 32):
        model = cloud(steps=steps, step_size=4.0 / steps)
        with torch.no_grad():
            drift[steps] = float((model.energy(batch) - model.energy(batch, after=False)).abs().max())
    assert drift[8] / drift[16] == pytest.approx(4, rel=0.35)
    assert drift[16] / drift[32] == pytest.approx(4, rel=0.35)
    assert drift[32] < 1e-2 * float(model.energy(batch).detach().abs().max())


def test_backward_through_the_reversed_flow_equals_ordinary_backpropagation() -> None:
    batch, gradients = jets(), []
    for reversible in (True, False):
        model = cloud(reversible=reversible, steps=7)
        model(batch).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, wanted in gradients[1].items():
        assert torch.allclose(gradients[0][name], wanted, rtol=1e-9, atol=1e-10), name
    assert gradients[0]["hamiltonian.log_inverse_mass"].abs().max() > 0


def test_memory_kept_for_the_backward_pass_does_not_grow_with_the_number_of_steps() -> None:
    def kept(steps: int, reversible: bool) -> int:
        model, batch, seen = cloud(steps=steps, reversible=reversible), jets(), {}

        def note(t: Tensor) -> Tensor:
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            held.append(t)  # so that no storage is used twice
            return t

        held: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            model(batch)
        gc.collect()
        return sum(seen.values())

    assert kept(20, True) == kept(2, True)
    assert kept(20, False) > 5 * kept(2, True)


def test_twin_has_as_many_parameters() -> None:
    for arguments in ({}, {"dimension": 8, "hidden": 200}, {"positions": "physical"}):
        a, b = (
            count_parameters(create(n, outputs=2, **arguments))
            for n in ("hamiltonian_cloud", "residual_cloud")
        )
        assert abs(a - b) / a < 0.005


def test_flow_matters_to_the_score() -> None:
    batch = jets()
    still, moving = cloud(steps=0), cloud(steps=4)
    moving.load_state_dict(still.state_dict())
    with torch.no_grad():
        assert (still(batch) - moving(batch)).abs().max() > 1e-4


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(ConfigError, match="use learned or physical"):
        create("hamiltonian_cloud", positions="polar")


def test_sums_over_pairs_of_a_rectangle_are_those_of_its_constituents() -> None:
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.bool)
    rows = mask.flatten().nonzero()[:, 0]
    packed = UnorderedPairs.of(torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)))
    padded = UnorderedPairs.of(rectangular(mask))
    x = torch.randn(12, 3, dtype=torch.float64)
    for name in ("differences", "products"):
        wanted = packed.spread(getattr(packed, name)(x[rows]).square() + 1)
        found = padded.spread(getattr(padded, name)(x).square() + 1)
        assert torch.allclose(found[rows], wanted)
    assert torch.equal(padded.share(torch.float64)[rows], packed.share(torch.float64))
