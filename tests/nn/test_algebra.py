"""The space-time algebra and its layers: the multiplication table, values of the `lgatr` package, and
covariance under Lorentz elements."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepml import kinematics
from hepml.nn.lorentz.algebra import (
    GeometricBilinear,
    GeometricMLP,
    MultivectorAttention,
    MultivectorLinear,
    MultivectorNorm,
    Multivectors,
    gated,
    geometric_product,
    inner_product,
    normalised,
)
from hepml.nn.lorentz.algebra.products import _product_by_table as by_table
from hepml.nn.lorentz.scalar_vector import JointNorm, PairAttention, PairBlock, PairGLU, PairLinear
from hepml.packed.rectangle import Rectangle

GOLDEN = Path(__file__).parent.parent / "models" / "golden_lgatr.npz"
BLADES = [frozenset(b) for n in range(5) for b in itertools.combinations(range(4), n)]


def table() -> Tensor:
    """e_A e_B = sum_C t[C, A, B] e_C by counting swaps, [16, 16, 16]."""
    out = torch.zeros(16, 16, 16, dtype=torch.float64)
    for a, b in itertools.product(range(16), repeat=2):
        # brought into order, equal ones meet: e_0² = 1, e_k² = -1
        word, sign = [*sorted(BLADES[a]), *sorted(BLADES[b])], 1
        for i in range(len(word)):
            for j in range(len(word) - 1 - i):
                if word[j] > word[j + 1]:
                    word[j], word[j + 1], sign = word[j + 1], word[j], -sign
        sign *= (-1) ** sum(k > 0 for k in BLADES[a] & BLADES[b])
        out[BLADES.index(BLADES[a] ^ BLADES[b]), a, b] = sign
    return out


def test_the_product_for_graphs_is_the_product() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = (
        Multivectors(
            *(torch.randn(5, *n, 6, dtype=torch.float64, generator=random) for n in ((), (4,), (3,)))
        )
        for _ in range(2)
    )
    for found, wanted in zip(by_table(x, y), geometric_product(x, y), strict=True):
        assert torch.allclose(found, wanted, atol=1e-13)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def on_multivectors(matrix: Tensor) -> Tensor:
    """A Lorentz matrix as it acts on all grades: minors of the matrix, [16, 16]."""
    out = torch.zeros(16, 16, dtype=torch.float64)
    for i, j in itertools.product(range(16), repeat=2):
        a, b = sorted(BLADES[i]), sorted(BLADES[j])
        if len(a) == len(b):
            out[i, j] = torch.linalg.det(matrix[a][:, b]) if a else 1.0
    return out


def element(gamma: float = 3.0, seed: int = 0) -> Tensor:
    axis, other = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return kinematics.boost(axis, gamma) @ kinematics.rotation(other, 1.2)


def test_the_product_is_that_of_the_multiplication_table() -> None:
    x, y = some(5, 3), some(5, 3, seed=1)
    expected = torch.einsum("cab,nka,nkb->nkc", table(), x, y)
    product = geometric_product(Multivectors.of_components(x), Multivectors.of_components(y))
    assert torch.allclose(product.components(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(Multivectors.of_components(x).components(), x)


def test_products_and_norm_are_those_of_the_lgatr_package() -> None:
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN).items() if "/" not in k}
    x, y = Multivectors.of_components(golden["x"]), Multivectors.of_components(golden["y"])
    assert torch.allclose(
        geometric_product(x, y).components(), golden["geometric_product"], rtol=1e-12, atol=1e-12
    )
    assert torch.allclose(inner_product(x, y), golden["inner_product"], rtol=1e-12, atol=1e-12)
    assert torch.allclose(normalised(x).components(), golden["norm"], rtol=1e-12)


def test_the_square_of_a_vector_is_its_mass_squared() -> None:
    p = some(7)[:, :4]
    x = Multivectors.of_vectors(p[..., None])
    square = geometric_product(x, x).components()[:, 0]
    assert torch.allclose(square[:, 0], kinematics.minkowski_product(p, p), rtol=1e-12)
    assert square[:, 1:].abs().max() < 1e-12


def test_gradients_are_right() -> None:
    x = Multivectors.of_components(some(2, 2)).map(lambda part: part.requires_grad_())
    y = Multivectors.of_components(some(2, 2, seed=1)).map(lambda part: part.requires_grad_())

    def function(*parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(geometric_product(Multivectors(*parts[:3]), Multivectors(*parts[3:])))

    assert torch.autograd.gradcheck(function, (*x, *y))


class Attention(nn.Module):
    def __init__(self, **arguments: bool) -> None:
        super().__init__()
        self.attention = MultivectorAttention(4, 6, heads=2, **arguments)

    def forward(self, x: Multivectors, s: Tensor) -> tuple[Multivectors, Tensor]:
        return self.attention(x, s, Rectangle.of(torch.tensor([0, 3, 8]), 5))


class Gate(nn.Module):
    def forward(self, x: Multivectors, s: Tensor) -> tuple[Multivectors, Tensor]:
        return gated(x, s)


LAYERS = {
    "linear": lambda **a: MultivectorLinear(4, 3, 6, 5, **a),
    "norm": lambda **a: MultivectorNorm(4, 6),
    "gate": lambda **a: Gate(),
    "bilinear": lambda **a: GeometricBilinear(4, 3, 6, 5, **a),
    "mlp": lambda **a: GeometricMLP(4, 6, 2, **a),
    "attention": lambda **a: Attention(**a),
}


def deviation(layer: nn.Module, action: Tensor, dtype: torch.dtype = torch.float64) -> float:
    """How far layer(g x) is from g layer(x), relative to the size of g layer(x)."""
    layer, x = layer.to(dtype), some(8, 4)
    s = torch.randn(8, 6, dtype=dtype, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        y, t = layer(Multivectors.of_components(x.to(dtype)), s)
        z, u = layer(Multivectors.of_components((x @ action.T).to(dtype)), s)
    expected = y.components().double() @ action.T
    vectors = float((z.components().double() - expected).abs().max() / expected.abs().max())
    return max(vectors, float((u - t).abs().max() / t.abs().max()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_commute_with_lorentz_transformations(name: str, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    for seed in range(3):
        assert deviation(layer, on_multivectors(element(seed=seed)), dtype) < tolerance
    turned = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    assert deviation(layer, turned) > 1e-2  # a rotation of the sixteen components that is none of space-time


@pytest.mark.parametrize("name", ["linear", "bilinear", "mlp", "attention"])
def test_only_layers_that_keep_parity_commute_with_mirrors(name: str) -> None:
    mirror = on_multivectors(torch.diag(torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)))
    for mix_parity in (True, False):
        torch.manual_seed(0)
        layer = LAYERS[name](mix_parity=mix_parity)
        for q in layer.parameters():
            nn.init.normal_(q, 0, 0.5)
        assert (deviation(layer, mirror) < 1e-12) != mix_parity


def test_linear_maps_have_ten_weights_a_pair_of_channels() -> None:
    counts = [
        sum(q.numel() for q in MultivectorLinear(a, b, bias=False).parameters()) for a, b in ((1, 1), (3, 5))
    ]
    assert counts == [10, 150]


class PairOfJets(nn.Module):
    """Layers that need to know the jets."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(v, s, Rectangle.of(torch.tensor([0, 3, 8]), 5))


PAIRS = {
    "norm": lambda: JointNorm(4, 6),
    "linear": lambda: PairLinear((4, 3), (6, 5)),
    "glu": lambda: PairGLU((4, 3), (6, 5)),
    "attention": lambda: PairOfJets(PairAttention(4, 6, 2)),
    "block": lambda: PairOfJets(PairBlock(4, 6, 2, 3)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", PAIRS)
def test_scalar_vector_layers_commute_with_lorentz_transformations(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    layer = PAIRS[name]()
    for q in layer.parameters():
        nn.init.normal_(q, 0, 0.5)
    x = torch.randn(8, 4, 4, dtype=torch.float64)
    s = torch.randn(8, 6, dtype=dtype)

    def moved(matrix: Tensor, dtype: torch.dtype) -> float:
        with torch.no_grad():
            v, t = layer.to(dtype)(x.to(dtype), s.to(dtype))
            w, u = layer((matrix @ x).to(dtype), s.to(dtype))
        expected = matrix @ v.double()
        return max(
            float((w - expected).abs().max() / expected.abs().max()),
            float((u - t).abs().max() / t.abs().max()),
        )

    for seed in range(3):
        assert moved(element(seed=seed), dtype) < tolerance
    assert (
        moved(torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0], torch.float64) > 1e-3
        or name == "linear"
    )
