"""Every hand-written pass equals the definition it stands for, in values and in gradients, and one switch
turns all of them off."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from cloud import cloud
from norms import stir_norms
from small_taggers import CASES, SMALL, random_tagger, seen
from torch import Tensor, nn

import hepml
from hepml.models import create
from hepml.nn import kernels
from hepml.nn.edgeconv import EdgeConv
from hepml.nn.kernels import gate
from hepml.nn.kernels.pair_sums import differences, products, spread
from hepml.nn.kernels.pieces import sum_of
from hepml.nn.recursive import fold, networked_cell
from hepml.nn.symplectic import CloudHamiltonian, flow
from hepml.packed.neighbours import nearest_neighbours
from hepml.packed.pairs import UnorderedPairs
from hepml.testing import sample_jets

OFFSETS = torch.tensor([0, 0, 1, 5, 30, 31, 70])
# A function of the tensors that gradients are taken with respect to.
Case = tuple[Callable[[], Any], list[Tensor]]


def random(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=g).requires_grad_()


def stirred(module: nn.Module) -> nn.Module:
    """In float64, with parameters that are all of order one."""
    torch.manual_seed(1)
    for q in module.double().parameters():
        nn.init.normal_(q, 0.2, 0.4)
    return module


def edge_messages() -> Case:
    block = stirred(EdgeConv(5, (8, 6, 7)))
    x = random(70, 5)
    near = nearest_neighbours(x.detach(), OFFSETS, 4)
    return lambda: block(x, near), [x, *block.parameters()]


def model_case(name: str, **arguments: Any) -> Case:
    torch.manual_seed(1)
    model = create(name, **{**SMALL[name], **arguments}).double()
    stir_norms(model)
    batch = sample_jets(4, mass=0.3, largest=12)
    p = batch.four_momenta.clone().requires_grad_()
    state = {k: v.clone() for k, v in model.state_dict().items()}

    def compute() -> Tensor:
        model.load_state_dict(state)
        return model(batch.with_four_momenta(p))

    return compute, [p, *model.parameters()]


def folded() -> Case:
    children, levels = torch.tensor([[0, 1], [4, 3], [2, 8], [9, 5], [11, 6]]), (2, 2, 1)
    leaves, inputs = random(8, 6), random(5, 6, seed=1)
    weights = [random(*s, seed=i) for i, s in enumerate([(6, 12), (6, 6), (6,), (6, 6), (6,)], start=2)]
    return lambda: fold(networked_cell, leaves, inputs, children, levels, weights), [leaves, inputs, *weights]


def flown() -> Case:
    hamiltonian, pairs = stirred(CloudHamiltonian(3, 6, 4)), UnorderedPairs.of(OFFSETS)
    q, p, charges = random(70, 3), random(70, 3, seed=1), random(70, 4, seed=2)

    def compute() -> Tensor:
        return torch.stack(flow(hamiltonian, q, p, charges, pairs, steps=5, step_size=0.1))

    return compute, [q, p, charges, *hamiltonian.parameters()]


def summed_pairs() -> Case:
    x, pairs = random(70, 3), UnorderedPairs.of(OFFSETS)
    return lambda: spread(differences(x, pairs) * products(x, pairs), pairs), [x]


def in_pieces() -> Case:
    x, w = random(9000, 3), random(3, 4, seed=1)
    offsets = torch.arange(0, 9001, 30)
    return lambda: sum_of(lambda rows: torch.tanh(rows @ w), x, offsets), [x, w]


CASES_OF: dict[str, Callable[[], Case]] = {
    "edge_messages": edge_messages,
    "flow": flown,
    "fold": folded,
    "lorentznet_messages": lambda: model_case("lorentznet", dropout=0.0),
    "pair_sums": summed_pairs,
    "pelican_network": lambda: model_case("pelican", dropout=0.0),
    "pieces": in_pieces,
    "scalar_vector": lambda: model_case("lgatr_slim", blocks=3),
}
# Random by nature: compared in what it draws, in tests/nn/test_dropout.py.
RANDOM = {"dropout"}


class Asked(frozenset[str]):
    """The kernels that are off, which notes what it is asked for."""

    names: ClassVar[set[str]] = set()

    def __contains__(self, kernel: object) -> bool:
        self.names.add(str(kernel))
        return super().__contains__(kernel)


def computed(case: Case) -> list[Tensor]:
    compute, leaves = case
    out = compute()
    pull = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * pull).sum(), leaves, materialize_grads=True)]


def test_every_kernel_is_compared_with_its_definition() -> None:
    assert set(CASES_OF) | RANDOM == set(kernels.KERNELS)


@pytest.mark.parametrize("kernel", sorted(CASES_OF))
def test_a_kernel_equals_its_definition_in_values_and_gradients(kernel: Any) -> None:
    case = CASES_OF[kernel]()
    Asked.names = set()
    token = gate._closed.set(Asked())  # type: ignore[arg-type]
    try:
        fast = computed(case)
    finally:
        gate._closed.reset(token)
    assert kernel in Asked.names, "the layer does not ask for its kernel"
    with kernels.disabled(kernel):
        slow = computed(case)
    for a, b in zip(fast, slow, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-11 * max(1.0, float(b.abs().max()))
    assert max(float(b.abs().max()) for b in slow[1:]) > 1e-3, "gradients are there"


@pytest.mark.parametrize("case", CASES)
def test_every_tagger_gives_the_same_scores_by_its_definition(case: str) -> None:
    model, batch = seen(case), cloud()
    with torch.no_grad():
        found = model(batch)
        with hepml.nn.kernels.disabled():
            assert (model(batch) - found).abs().max() < 1e-9


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_tagger_gets_the_same_gradients_by_its_definition(name: str) -> None:
    results = []
    for off in (False, True):
        model, batch = random_tagger(name).double().train(), cloud()
        for module in model.modules():
            for attribute in ("p", "dropout"):
                if isinstance(getattr(module, attribute, None), float):
                    setattr(module, attribute, 0.0)
        with kernels.disabled() if off else nullcontext():
            out = model(batch)
            (out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum().backward()
        results.append(
            [out.detach(), *(torch.zeros(()) if q.grad is None else q.grad for q in model.parameters())]
        )
    scale = max(float(b.abs().max()) for b in results[1])
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() <= 1e-7 * scale


def test_the_switch_holds_inside_its_block_alone_and_nests() -> None:
    x = torch.zeros(1)
    with kernels.disabled():
        with kernels.disabled("fold"):
            assert not any(kernels.allows(kernel, x) for kernel in kernels.KERNELS)
        assert not any(kernels.allows(kernel, x) for kernel in kernels.KERNELS)
    assert all(kernels.allows(kernel, x) for kernel in kernels.KERNELS)
    with pytest.raises(RuntimeError), kernels.disabled():
        raise RuntimeError
    assert kernels.allows("fold", x)
    with kernels.disabled("fold"):
        assert not kernels.allows("fold", x)
        assert kernels.allows("flow", x)
    with pytest.raises(ValueError, match="no kernel is called"), kernels.disabled("fast"):  # type: ignore[arg-type]
        pass


def test_a_kernel_is_not_used_by_a_tracer_under_autocast_or_elsewhere() -> None:
    x = torch.zeros(1)
    assert not kernels.allows("fold", x.to("meta"))
    assert kernels.allows("fold", x.to("meta"), accelerator=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert not kernels.allows("fold", x)
        assert kernels.allows("fold", x, autocast=True)


HEPML = Path(hepml.__file__).parent


def test_no_pass_is_written_by_hand_outside_of_the_kernels() -> None:
    for path in sorted(HEPML.rglob("*.py")):
        if path.parent == HEPML / "nn" / "kernels":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            by_hand = [base for base in bases if base.split(".")[-1] == "Function"]
            assert not by_hand, f"{path}: {ast.unparse(node)[:60]}"
